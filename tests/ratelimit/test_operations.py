"""What operators ask for: refusals without a round trip, a server that is away, shadow mode, hooks, metrics."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import (
    FixedWindowLimiter,
    Limit,
    Limiter,
    PipelinedRedis,
    RateLimitResult,
    ReplyTimeout,
    TokenBucketLimiter,
)
from aredis_patterns._core.instrumentation import Kind, Recorder, instrument
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.ratelimit._deny_cache import DenyCache
from aredis_patterns.ratelimit._failure import CircuitBreaker, LocalLimits, share_of
from aredis_patterns.ratelimit._models_flow import TokenBucketModel
from aredis_patterns.testing import FaultProxy, assert_round_trips

HOUR = Limit.per_hour(1)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# the deny cache ------------------------------------------------------------------------------------------------------


async def test_a_refused_key_is_refused_again_without_a_round_trip(
    fault_proxy: FaultProxy, namespace: str, kind: type[Limiter]
) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        limiter = kind(client, "2/hour", namespace=namespace, deadline=5, deny_cache=10)
        await limiter.hit("u", 2)
        from_server = await limiter.hit("u")
        async with assert_round_trips(fault_proxy, 0):
            for _ in range(50):
                denied = await limiter.hit("u")
        assert (denied.allowed, denied.source, denied.remaining) == (False, "deny-cache", 0)
        assert denied.retry_after is not None
        assert from_server.retry_after is not None
        assert from_server.retry_after - 1 < denied.retry_after <= from_server.retry_after
        assert limiter.statistics().denied_locally == 50
        assert limiter.statistics().refused == 51


async def test_a_smaller_cost_is_asked_for(redis_client: Redis, namespace: str, kind: type[Limiter]) -> None:
    limiter = kind(redis_client, "7/hour", namespace=namespace, deadline=5, deny_cache=10)
    await limiter.hit("u", 5)
    assert not await limiter.hit("u", 5)
    assert not await limiter.hit("u", 4)
    assert (await limiter.hit("u", 2)).source == "redis"


async def test_refunds_resets_and_other_limits_drop_the_refusal(
    redis_client: Redis, namespace: str, kind: type[Limiter]
) -> None:
    limiter = kind(redis_client, "2/hour", namespace=namespace, deadline=5, deny_cache=10)
    for forget in (limiter.refund, limiter.reset):
        await limiter.hit("u", 2)
        assert not await limiter.hit("u")
        assert (await limiter.hit("u")).source == "deny-cache"
        await forget(b"u")
        assert await limiter.hit("u")
        await limiter.reset("u")
    await limiter.hit("u", 2)
    assert not await limiter.hit("u")
    raised = await limiter.hit("u", limit="5/hour")
    assert raised.source == "redis"
    if kind is not TokenBucketLimiter:  # whose raised burst fills with time
        assert raised.remaining == 2


async def test_a_refusal_is_over_when_it_says(redis_client: Redis, namespace: str) -> None:
    limiter = TokenBucketLimiter(redis_client, "20/second burst 1", namespace=namespace, deadline=5, deny_cache=10)
    await limiter.hit("u")
    refused = await limiter.hit("u")
    assert refused.retry_after is not None
    await asyncio.sleep(refused.retry_after + 0.002)
    assert await limiter.hit("u")


def test_the_deny_cache_is_bounded_and_forgets_in_time() -> None:
    clock = Clock()
    cache = DenyCache(100, clock=clock)
    for number in range(10_000):
        cache.remember(f"key {number}", clock.now, 1, HOUR, (0, 0, 3_600_000_000, 3_600_000_000))
    assert len(cache) == 100
    assert cache.find("key 1", 1, HOUR) is None
    assert cache.find("key 9999", 1, HOUR) is not None
    clock.now += 1.001  # somebody else may have given something back
    assert cache.find("key 9999", 1, HOUR) is None


# when the server is away ---------------------------------------------------------------------------------------------


async def test_local_decides_by_its_share_while_the_server_is_away(
    own_server: EmbeddedServer, kind: type[Limiter]
) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        limiter = kind(client, "40/hour", deadline=0.1, on_error="local", instances=4)
        await kind(client, "40/hour", deadline=30).hit("u")
        own_server.pause()
        try:
            results = [await limiter.hit("u") for _ in range(14)]
        finally:
            own_server.resume()
        assert [bool(result) for result in results] == [True] * 10 + [False] * 4
        assert {result.source for result in results} == {"local"}
        assert results[-1].retry_after is not None
        assert results[-1].retry_after > 0
        assert limiter.statistics().decided_locally == 14


async def test_the_breaker_spares_callers_the_deadline_and_notices_the_return(own_server: EmbeddedServer) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        limiter = FixedWindowLimiter(client, "1000/hour", deadline=0.1, on_error="open")
        await FixedWindowLimiter(client, "1000/hour", deadline=30).hit("u")
        own_server.pause()
        try:
            for _ in range(5):
                assert (await limiter.hit("u")).source == "fail-open"
            assert limiter.statistics().breaker_open
            start = time.monotonic()
            for _ in range(200):
                await limiter.hit("u")
            assert time.monotonic() - start < 1.0  # at most a trial or two
        finally:
            own_server.resume()
        async with asyncio.timeout(20):
            while (await limiter.hit("u")).source != "redis":
                await asyncio.sleep(0.05)
        assert not limiter.statistics().breaker_open


def test_the_breaker_opens_after_failures_in_a_row_and_waits_longer_each_time() -> None:
    clock = Clock()
    breaker = CircuitBreaker(threshold=3, pause=1, longest=4, clock=clock)
    for _ in range(100):
        breaker.failed()  # all calls on one lost connection
    clock.now += 0.1
    breaker.failed()
    breaker.succeeded()
    for _ in range(3):
        assert breaker.may_ask()
        clock.now += 0.1
        breaker.failed()
    for pause in (1, 2, 4, 4):
        assert breaker.open
        assert not breaker.may_ask()
        clock.now += pause
        assert breaker.may_ask()
        assert not breaker.may_ask()  # one tries, the others wait for what it finds out
        breaker.failed()
    clock.now += 4
    assert breaker.may_ask()
    breaker.succeeded()
    assert not breaker.open


def test_a_share_of_a_limit_is_at_least_one_unit() -> None:
    assert share_of(Limit.parse("100/minute burst 20"), 8) == Limit.parse("12/minute burst 2")
    assert share_of(Limit.parse("3/minute"), 8) == Limit.parse("1/minute")


def test_local_limits_are_bounded() -> None:
    local = LocalLimits(TokenBucketModel, 1, most=10)
    for number in range(100):
        assert local.decide(f"key {number}", 1, HOUR, charge=True).allowed
    assert len(local._models) == 10


async def test_raising_takes_no_policy(own_server: EmbeddedServer) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        limiter = TokenBucketLimiter(client, "10/hour", deadline=0.05)
        await TokenBucketLimiter(client, "10/hour", deadline=30).hit("u")
        own_server.pause()
        try:
            for _ in range(3):
                with pytest.raises(ReplyTimeout) as caught:
                    await limiter.hit("u")
                assert caught.value.key is not None
            tasks = [limiter.hit(f"key {number}") for number in range(20)]
            errors = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            own_server.resume()
        assert all(isinstance(error, ReplyTimeout) for error in errors)
        keys = {error.key for error in errors if isinstance(error, ReplyTimeout)}
        assert len(keys) == 20  # each caller's error names its own key, although they rode together


# shadow mode, hooks, metrics -----------------------------------------------------------------------------------------


async def test_shadow_mode_refuses_nobody_and_tells(redis_client: Redis, namespace: str, kind: type[Limiter]) -> None:
    limiter = kind(redis_client, "2/hour", namespace=namespace, deadline=5, shadow=True, name="trial")
    results = [await limiter.hit("u") for _ in range(4)]
    assert all(results)
    assert [result.shadowed for result in results] == [False, False, True, True]
    assert results[3].violated == ("trial",)
    assert results[3].headers() == {}
    assert limiter.statistics().shadowed == 2
    assert limiter.statistics().refused == 0
    assert await limiter.require("u")
    limiter.shadow = False
    assert not await limiter.hit("u")


async def test_the_near_limit_hook_hears_of_each_crossing_once(redis_client: Redis, namespace: str) -> None:
    heard: list[tuple[str, int]] = []

    def hook(key: str, result: RateLimitResult) -> None:
        heard.append((key, result.remaining))
        raise ZeroDivisionError("hooks must not break what they watch")

    limiter = FixedWindowLimiter(redis_client, "10/hour", namespace=namespace, deadline=5, on_near_limit=hook)
    for _ in range(12):
        await limiter.hit("u")
    assert heard == [("u", 2)]
    await limiter.hit("other", 9)
    assert heard == [("u", 2), ("other", 1)]


async def test_metrics_have_words_and_no_keys(redis_client: Redis, namespace: str) -> None:
    kinds: set[Kind] = set()

    class Listener:
        scripts = False

        def recorder(self, kind: Kind, /) -> Recorder:
            kinds.add(kind)
            return lambda seconds: None

    limiter = TokenBucketLimiter(redis_client, "1/hour", namespace=namespace, deadline=5, deny_cache=5)
    stop = instrument(redis_client, Listener())
    try:
        for number in range(50):
            await limiter.hit(f"user {number}")
            await limiter.hit(f"user {number}")
            await limiter.hit(f"user {number}")
    finally:
        stop()
    assert {(kind.operation, kind.outcome) for kind in kinds} == {
        ("hit", "allowed"),
        ("hit", "refused"),
        ("hit", "refused:deny-cache"),
    }


@pytest.mark.parametrize(
    "options",
    [
        {"on_error": "maybe"},
        {"near_limit": 0},
        {"near_limit": float("nan")},
        {"deny_cache": -1},
        {"instances": 0},
        {"name": "naïve"},
        {"deadline": 0},
        {"deadline": float("nan")},
    ],
)
def test_senseless_options_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match=str(next(iter(options)))):
        TokenBucketLimiter(Redis(), "1/hour", **options)
