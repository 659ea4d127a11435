"""Pub/sub and topics: messages for everybody, and the truth about those that were missed."""

from aredis_patterns.pubsub._batches import Batches
from aredis_patterns.pubsub._delivery import DeadDelivery, Delivery
from aredis_patterns.pubsub._durable import Durable
from aredis_patterns.pubsub._events import Event, Gap, GapReason, Gaps, Handler, Overflow
from aredis_patterns.pubsub._listening import Listening
from aredis_patterns.pubsub._options import PubSubOptions, PubSubStatistics
from aredis_patterns.pubsub._positions import EntryId, Last, StartAt, TopicEntry
from aredis_patterns.pubsub._pubsub import PubSub
from aredis_patterns.pubsub._subscription import Subscription, SubscriptionStatistics
from aredis_patterns.pubsub._topic import Publication, Retention, Topic, TopicOptions
from aredis_patterns.pubsub._topic_info import DurableInfo, TopicInfo
from aredis_patterns.pubsub._topic_reader import TopicSubscription

__all__ = [
    "Batches",
    "DeadDelivery",
    "Delivery",
    "Durable",
    "DurableInfo",
    "EntryId",
    "Event",
    "Gap",
    "GapReason",
    "Gaps",
    "Handler",
    "Last",
    "Listening",
    "Overflow",
    "PubSub",
    "PubSubOptions",
    "PubSubStatistics",
    "Publication",
    "Retention",
    "StartAt",
    "Subscription",
    "SubscriptionStatistics",
    "Topic",
    "TopicEntry",
    "TopicInfo",
    "TopicOptions",
    "TopicSubscription",
]
