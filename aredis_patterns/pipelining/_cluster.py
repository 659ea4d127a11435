"""`PipelinedRedisCluster`: redis-py's Cluster client with one shared, ordered connection per node."""

from __future__ import annotations

from typing import Any, Final, Self, cast

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.observability import recorder
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.crc import key_slot
from redis.exceptions import ResponseError

from aredis_patterns.pipelining._cluster_lanes import ClusterLanes
from aredis_patterns.pipelining._contract import RAW, REPEATABLE
from aredis_patterns.pipelining._packing import key_of, pack
from aredis_patterns.pipelining._registry import close_lanes, lanes_here
from aredis_patterns.pipelining._routing import LARGE_COMMAND, bypass_reason, route_of
from aredis_patterns.pipelining._statistics import LaneStatistics

ONE_KEY: Final = frozenset(
    """
    APPEND BITCOUNT BITFIELD BITFIELD_RO BITPOS DECR DECRBY DUMP EXPIRE EXPIREAT EXPIRETIME GEOADD GEODIST
    GEOHASH GEOPOS GEOSEARCH GET GETBIT GETDEL GETEX GETRANGE GETSET HDEL HEXISTS HEXPIRE HEXPIREAT
    HEXPIRETIME HGET HGETALL HGETDEL HGETEX HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET HPERSIST HPEXPIRE
    HPEXPIREAT HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSET HSETEX HSETNX HSTRLEN HTTL HVALS INCR INCRBY
    INCRBYFLOAT LINDEX LINSERT LLEN LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM PERSIST PEXPIRE PEXPIREAT
    PEXPIRETIME PFADD PSETEX PTTL RESTORE RPOP RPUSH RPUSHX SADD SCARD SET SETBIT SETEX SETNX SETRANGE
    SISMEMBER SMEMBERS SMISMEMBER SPOP SPUBLISH SRANDMEMBER SREM SSCAN STRLEN SUBSTR TTL TYPE XACK XADD
    XAUTOCLAIM XCLAIM XDEL XLEN XPENDING XRANGE XREVRANGE XTRIM ZADD ZCARD ZCOUNT ZINCRBY ZLEXCOUNT ZMSCORE
    ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK
    ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE
    """.split()
)
"""Commands whose only key is their first argument. Together with scripts they are what services send."""

_STOCK_WAY: Final = ClusterNode.execute_command

SCRIPTS: Final = frozenset(("EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"))


class PipelinedRedisCluster(RedisCluster):
    """A drop-in for `redis.asyncio.RedisCluster` that pipelines concurrent commands, one shared connection per node.

    Guarantee and cost: as `PipelinedRedis`, for commands with one key and for scripts whose keys lie in one slot.
    Redirections are followed per command; a slot that moves disturbs nobody else. All else (several keys,
    `target_nodes`, replica reads, pipelines, pub/sub) is redis-py's own path, with its own retries.

    Args:
        max_in_flight: commands under way per node, above which callers wait in order.
        All other arguments are those of `redis.asyncio.RedisCluster`.

    Example:
        cluster = PipelinedRedisCluster.from_url("redis://localhost:7000")
        await asyncio.gather(*(cluster.incr(key) for key in keys))
        await cluster.aclose()
    """

    def __init__(self, *args: Any, max_in_flight: int = 10_000, **kwargs: Any) -> None:
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight must be positive, not {max_in_flight!r}")
        super().__init__(*args, **kwargs)
        self.lane_options = {"max_in_flight": max_in_flight}

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> Self:
        """As `redis.asyncio.RedisCluster.from_url`, with `max_in_flight`."""
        return cast(Self, super().from_url(url, **kwargs))

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Send one command to the node of its key and return its parsed reply."""
        route = route_of(args[0])
        key = self._lane_key(args, kwargs, route.name)
        if key is None or bypass_reason(route, args) is not None:
            return await super().execute_command(*args, **kwargs)
        if not (self.encoder.encoding == "utf-8" and self.encoder.encoding_errors == "strict"):
            args = (args[0], *map(self.encoder.encode, args[1:]))
        packed = pack(args, route)
        if len(packed) > LARGE_COMMAND:
            return await super().execute_command(*args, **kwargs)
        flags = (REPEATABLE if route.read_only else 0) | (RAW if NEVER_DECODE in kwargs else 0)
        lanes = cast(ClusterLanes, lanes_here(self))
        reply = await lanes.send(packed, bytes(self.encoder.encode(key)), flags)
        if isinstance(reply, Exception):
            if EMPTY_RESPONSE in kwargs and isinstance(reply, ResponseError):
                return kwargs[EMPTY_RESPONSE]
            raise reply
        if args[0] not in self.response_callbacks:
            return reply
        for name in (NEVER_DECODE, EMPTY_RESPONSE, "keys"):
            kwargs.pop(name, None)
        return self.response_callbacks[args[0]](reply, **kwargs)

    def _lane_key(self, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
        """The key that decides the node; None where the stock path must decide."""
        # Whoever measures or replaces the stock way must see it taken.
        if ClusterNode.execute_command is not _STOCK_WAY or recorder._async_metrics_collector is not None:
            return None
        if "target_nodes" in kwargs or self.read_from_replicas or self.load_balancing_strategy:
            return None
        if name in ONE_KEY:
            return args[1] if len(args) > 1 else None
        if name not in SCRIPTS or (key := key_of(args)) is None:
            return None
        keys = args[3 : 3 + int(args[2])]
        slots = {key_slot(self.encoder.encode(each)) for each in keys}
        return key if len(slots) == 1 else None

    def statistics(self) -> LaneStatistics:
        """What the lanes of the running loop have done. A frozen snapshot."""
        return lanes_here(self).statistics()

    async def aclose(self) -> None:
        """Finish what is under way (a second at most), then close as redis-py does."""
        await close_lanes(self)
        await super().aclose()
