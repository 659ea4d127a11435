"""The wire: one ordered connection per server and event loop, shared by all callers, that never sends twice in
silence."""

from aredis_patterns.pipelining._client import PipelinedRedis
from aredis_patterns.pipelining._cluster import PipelinedRedisCluster
from aredis_patterns.pipelining._registry import ClientCommands, lane_of
from aredis_patterns.pipelining._statistics import LaneStatistics

__all__ = ["ClientCommands", "LaneStatistics", "PipelinedRedis", "PipelinedRedisCluster", "lane_of"]
