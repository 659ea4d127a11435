"""Several limits at once: all or none, whatever their algorithms, keys and costs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster

from aredis_patterns import (
    FixedWindowLimiter,
    GCRALimiter,
    LeakyBucketLimiter,
    Limiter,
    MultiLimiter,
    PipelinedRedis,
    RateLimitExceeded,
    SlidingWindowCounterLimiter,
    SlidingWindowLogLimiter,
    TokenBucketLimiter,
)
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.testing import FaultProxy, assert_round_trips

EVERY = {
    "fixed": FixedWindowLimiter,
    "log": SlidingWindowLogLimiter,
    "counter": SlidingWindowCounterLimiter,
    "bucket": TokenBucketLimiter,
    "gcra": GCRALimiter,
    "leaky": LeakyBucketLimiter,
}


def every(client: Any, namespace: str, limit: str = "10/300 days") -> dict[str, Limiter]:
    return {name: kind(client, limit, name=name, namespace=namespace, deadline=5) for name, kind in EVERY.items()}


async def remaining(limits: MultiLimiter, key: str) -> dict[str, int]:
    return {part.policy: part.remaining for part in (await limits.peek(key, 0)).parts}


async def test_two_limits_the_tighter_one_refuses_and_the_other_is_untouched(
    redis_client: Redis, namespace: str
) -> None:
    limits = MultiLimiter(redis_client, {"second": "5/30 seconds", "hour": "100/hour"}, namespace=namespace, deadline=5)
    results = [await limits.hit("u") for _ in range(50)]
    assert sum(map(bool, results)) == 5
    assert {result.violated for result in results[5:]} == {("second",)}
    assert (await remaining(limits, "u"))["hour"] == 95


@pytest.mark.parametrize("full", EVERY)
async def test_whichever_refuses_nobody_is_charged(redis_client: Redis, namespace: str, full: str) -> None:
    limiters = every(redis_client, namespace)
    limits = MultiLimiter(redis_client, limiters, namespace=namespace, deadline=5)
    await limiters[full].hit("u", 8)
    refused = await limits.hit("u", 3)
    assert (refused.allowed, refused.violated) == (False, (full,))
    assert refused.retry_after is not None
    assert refused.retry_after > 0
    assert (refused.policy, refused.remaining) == (full, 2)
    assert await remaining(limits, "u") == {name: 2 if name == full else 10 for name in EVERY}
    assert await limits.hit("u", 2)
    assert await remaining(limits, "u") == {name: 0 if name == full else 8 for name in EVERY}


async def test_keys_and_costs_of_their_own(redis_client: Redis, namespace: str) -> None:
    limits = MultiLimiter(
        redis_client, {"requests": "3/hour", "tokens": "1000/hour", "org": "5/hour"}, namespace=namespace, deadline=5
    )
    keys = {"requests": "ann", "tokens": "ann", "org": "acme"}
    assert await limits.hit(keys, {"requests": 1, "tokens": 850, "org": 1})
    refused = await limits.hit({**keys, "requests": "bob"}, {"requests": 1, "tokens": 850, "org": 1})
    assert refused.violated == ("tokens",)
    assert refused.parts[0].remaining == 3
    never = await limits.hit(keys, {"tokens": 1001, "requests": 1})
    assert (never.allowed, never.retry_after) == (False, None)
    with pytest.raises(RateLimitExceeded):
        await limits.require(keys, {"tokens": 500})
    await limits.refund(keys, {"tokens": 850})
    assert await limits.hit(keys, {"tokens": 1000})
    await limits.reset(keys)
    assert [part.remaining for part in (await limits.peek(keys, 0)).parts] == [3, 1000, 5]


async def test_one_round_trip_and_exact_under_concurrency(fault_proxy: FaultProxy, namespace: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        limits = MultiLimiter(client, every(client, namespace), namespace=namespace, deadline=5)
        await limits.hit("warm-up")
        async with assert_round_trips(fault_proxy, 1):
            await limits.hit("u")
        results = await asyncio.gather(*(limits.hit("u", 2) for _ in range(50)))
        assert sum(map(bool, results)) == 4
        assert set((await remaining(limits, "u")).values()) == {1}


async def test_counts_are_shared_with_the_limiters(redis_client: Redis, namespace: str) -> None:
    limiters = every(redis_client, namespace)
    await MultiLimiter(redis_client, limiters, namespace=namespace, deadline=5).hit("u", 4)
    for limiter in limiters.values():
        assert (await limiter.peek("u")).remaining == 6


async def test_headers_of_all_limits(redis_client: Redis, namespace: str) -> None:
    limits = MultiLimiter(redis_client, {"a": "1/hour", "b": "9/hour"}, namespace=namespace, deadline=5)
    await limits.hit("u")
    fields = (await limits.hit("u")).headers()
    assert fields["RateLimit-Policy"] == '"a";q=1;w=3600, "b";q=9;w=3600'
    assert fields["RateLimit"].startswith('"a";r=0;t=')
    assert 0 < int(fields["Retry-After"]) <= 3600


async def test_policies_when_the_server_is_away(own_server: EmbeddedServer) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        limits = MultiLimiter(client, {"a": "1/hour"}, deadline=0.1, on_error="open")
        await MultiLimiter(client, {"a": "1/hour"}, deadline=30).hit("u")
        own_server.pause()
        try:
            result = await limits.hit("u")
        finally:
            own_server.resume()
        assert (result.allowed, result.source) == (True, "fail-open")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiLimiter(Redis(), {}), "1 to 16"),
        (lambda: MultiLimiter(Redis(), {"a": "1/hour"}, tag_by="b"), "tag_by"),
        (lambda: MultiLimiter(Redis(), {"a": "nonsense"}), "nonsense"),
        (lambda: MultiLimiter(Redis(), {"a": "1/hour"}, on_error="local"), "local"),
        (lambda: MultiLimiter(RedisCluster(host="localhost", port=1), {"user": "1/hour"}), "tag_by='user'"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


async def test_wrong_names_and_equal_keys_are_refused(redis_client: Redis) -> None:
    limits = MultiLimiter(redis_client, {"a": "1/hour", "b": "1/hour"})
    for keys, cost in (({"a": "u"}, 1), ({"a": "u", "b": "u"}, {"c": 1})):
        with pytest.raises(ValueError, match="c|b"):
            await limits.hit(keys, cost)
    same = TokenBucketLimiter(redis_client, "1/hour", name="same")
    with pytest.raises(ValueError, match="one key"):
        await MultiLimiter(redis_client, {"a": same, "b": same}).hit("u")
