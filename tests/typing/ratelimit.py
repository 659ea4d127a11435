"""A tour of the rate limiters. Never run; mypy and pyright must accept it."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from fastapi import Depends, FastAPI
from redis.asyncio import Redis
from starlette.requests import HTTPConnection

from aredis_patterns import (
    ConcurrencyLimiter,
    FixedWindowLimiter,
    GCRALimiter,
    LeakyBucketLimiter,
    Limit,
    Limiter,
    LimiterStatistics,
    MultiLimiter,
    Patterns,
    RateLimitResult,
    SlidingWindowCounterLimiter,
    SlidingWindowLogLimiter,
    TokenBucketLimiter,
)
from aredis_patterns.contrib.fastapi import RateLimit, RateLimitMiddleware, by_ip, by_route, by_user
from aredis_patterns.testing.models import TokenBucketModel


def warn(key: str, result: RateLimitResult) -> None: ...


async def every_limiter(client: Redis) -> None:
    limiters: list[Limiter] = [
        FixedWindowLimiter(client, "100/day", start="clock"),
        SlidingWindowLogLimiter(client, Limit.per_minute(30)),
        SlidingWindowCounterLimiter(client, "10000/hour", deny_cache=1000),
        TokenBucketLimiter(client, "100/minute burst 20", on_error="local", instances=4),
        GCRALimiter(client, "10/second", deadline=timedelta(milliseconds=50), shadow=True),
        LeakyBucketLimiter(client, "10/second burst 50", near_limit=0.9, on_near_limit=warn),
    ]
    for limiter in limiters:
        assert_type(await limiter.hit("user:1", limit="5/second"), RateLimitResult)
        assert_type(await limiter.peek(b"user:1", 3), RateLimitResult)
        assert_type(await limiter.require("user:1"), RateLimitResult)
        assert_type(await limiter.acquire("user:1", timeout=1.5), RateLimitResult)
        assert_type(await limiter.refund("user:1", 2), RateLimitResult)
        assert_type(await limiter.hit_many([("a", 1), (b"b", 2)]), list[RateLimitResult])
        assert_type(limiter.statistics(), LimiterStatistics)
        async with limiter.reserve("user:1", 500, lease=60, on_crash="refund") as reservation:
            reservation.used = 3
            assert_type(await reservation.commit(7), RateLimitResult)


async def queues_and_places(client: Redis) -> None:
    queue = LeakyBucketLimiter(client, "10/second")
    assert_type((await queue.shape("api", max_delay=2)).delay, float)
    places = ConcurrencyLimiter(client, 4, lease=timedelta(seconds=30))
    async with places.hold("org:1", timeout=5) as place:
        assert_type(place.lost.is_set(), bool)


async def together(client: Redis) -> None:
    limits = MultiLimiter(
        client, {"user": "10/second", "org": SlidingWindowLogLimiter(client, "100/hour")}, tag_by="org"
    )
    result = await limits.hit({"user": "u", "org": "o"}, {"user": 1, "org": 3})
    assert_type(result.violated, tuple[str, ...])
    assert_type(result.parts, tuple[RateLimitResult, ...])


async def hub() -> None:
    async with Patterns.from_url("redis://localhost") as p:
        assert_type(p.rate_limiter("5/second", algorithm="gcra", deny_cache=10), Limiter)
        assert_type(p.multi_limiter({"user": "5/second"}), MultiLimiter)
        assert_type(p.concurrency_limiter(4), ConcurrencyLimiter)


def web(app: FastAPI, client: Redis) -> None:
    def cost(connection: HTTPConnection) -> int:
        return len(connection.query_params)

    limit = RateLimit("100/minute burst 20", key=by_route(by_user()), cost=cost, redis=client, headers="both")
    app.get("/", dependencies=[Depends(limit)])
    app.add_middleware(RateLimitMiddleware, limiter="100/minute", key=by_ip(trusted_proxies=1))


def model() -> None:
    assert_type(TokenBucketModel(Limit.per_second(1)).decide(now=0).retry_after, int)
