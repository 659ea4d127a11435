"""Pub/sub and topics: messages for everybody, and the truth about those that were missed."""

from aredis_patterns.pubsub._events import Event, Gap, GapReason, Gaps, Handler, Overflow
from aredis_patterns.pubsub._listening import Listening
from aredis_patterns.pubsub._pubsub import PubSub, PubSubOptions, PubSubStatistics
from aredis_patterns.pubsub._subscription import Subscription, SubscriptionStatistics

__all__ = [
    "Event",
    "Gap",
    "GapReason",
    "Gaps",
    "Handler",
    "Listening",
    "Overflow",
    "PubSub",
    "PubSubOptions",
    "PubSubStatistics",
    "Subscription",
    "SubscriptionStatistics",
]
