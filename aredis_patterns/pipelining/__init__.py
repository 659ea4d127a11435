"""The wire: one ordered connection per server and event loop, shared by all callers, that never sends twice in
silence."""

from aredis_patterns.pipelining._channel import ListenerSubscription
from aredis_patterns.pipelining._client import PipelinedRedis
from aredis_patterns.pipelining._cluster import PipelinedRedisCluster
from aredis_patterns.pipelining._inbox import Inbox
from aredis_patterns.pipelining._listener import Listener, ListenerStatistics
from aredis_patterns.pipelining._registry import ClientCommands, inbox_of, lane_of, listener_of
from aredis_patterns.pipelining._statistics import LaneStatistics
from aredis_patterns.pipelining._tracking import Tracking

__all__ = [
    "ClientCommands",
    "Inbox",
    "LaneStatistics",
    "Listener",
    "ListenerStatistics",
    "ListenerSubscription",
    "PipelinedRedis",
    "PipelinedRedisCluster",
    "Tracking",
    "inbox_of",
    "lane_of",
    "listener_of",
]
