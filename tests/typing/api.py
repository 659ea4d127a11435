"""A tour of the interface. Never run; mypy and pyright must accept it."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from redis.asyncio import Redis, RedisCluster

from aredis_patterns import (
    FixedWindowLimiter,
    LaneStatistics,
    Limit,
    Patterns,
    PipelinedRedis,
    PipelinedRedisCluster,
    RateLimitResult,
    SlidingWindowLogLimiter,
    TokenBucketLimiter,
    lane_of,
)


async def hub() -> None:
    async with Patterns.from_url("redis://localhost", namespace="shop") as p:
        assert_type(await p.ping(), float)
        assert_type(p.statistics(), LaneStatistics)
        assert_type(await p.rate_limiter("5/minute").hit("user:1"), RateLimitResult)


async def clients(stock: Redis, cluster: RedisCluster) -> None:
    redis = PipelinedRedis.from_url("redis://localhost", lanes=2, decode_responses=True)
    assert_type(redis, PipelinedRedis)
    for client in (stock, redis):
        await lane_of(client).call("GET", "key", key="key", deadline=0.5)
    await lane_of(cluster).batch([("SET", "a", 1), ("GET", "a")], key="a")
    lane_of(PipelinedRedisCluster.from_url("redis://localhost:7000")).post("DEL", "a", key="a")


async def limiters(client: Redis) -> None:
    fixed = FixedWindowLimiter(client, Limit.per_minute(100), on_error="open")
    log = SlidingWindowLogLimiter(client, "100/minute", deadline=timedelta(milliseconds=100))
    bucket = TokenBucketLimiter(client, Limit.per_second(10, burst=20), name="api")
    for limiter in (fixed, log, bucket):
        result = await limiter.hit("user:1", cost=2)
        assert_type(result, RateLimitResult)
        assert_type(result.retry_after, float | None)
        assert_type(await limiter.reset("user:1"), bool)
    assert_type(await bucket.hit_many([("a", 1), ("b", 2)]), list[RateLimitResult])
