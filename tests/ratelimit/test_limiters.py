"""The limiters as a user meets them, on real servers and through faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import (
    FixedWindowLimiter,
    Limiter,
    PermissionDenied,
    PipelinedRedis,
    RateLimitExceeded,
    ReplyTimeout,
    SlidingWindowLogLimiter,
    TokenBucketLimiter,
)
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import OutcomeUnknown
from aredis_patterns.testing import FaultProxy, assert_round_trips, cancel_everywhere


async def test_concurrent_hits_are_exact(kind: type[Limiter], redis_client: Redis, namespace: str) -> None:
    limiter = kind(redis_client, "40/hour", namespace=namespace, deadline=5)
    results = await asyncio.gather(*(limiter.hit("user:1") for _ in range(200)))
    assert sum(result.allowed for result in results) == 40
    assert sorted(result.remaining for result in results if result) == list(range(40))
    refused = next(result for result in results if not result)
    assert refused.retry_after is not None and 0 < refused.retry_after <= 3600
    assert (limiter.statistics().allowed, limiter.statistics().refused) == (40, 160)


async def test_same_answers_on_every_protocol(
    kind: type[Limiter], redis_url: str, client_options: dict[str, Any], namespace: str
) -> None:
    async with Redis.from_url(redis_url, **client_options) as client:
        limiter = kind(client, "3/hour", namespace=namespace, deadline=5)
        assert [bool(await limiter.hit("ключ:{x}")) for _ in range(4)] == [True, True, True, False]
        await limiter._commands.aclose()  # type: ignore[attr-defined]


async def test_a_hit_is_one_round_trip_and_so_are_many(
    kind: type[Limiter], fault_proxy: FaultProxy, namespace: str
) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        limiter = kind(client, "3/hour", namespace=namespace, deadline=5)
        await limiter.hit("warm-up")
        for verb in (limiter.hit, limiter.peek, limiter.reset):
            async with assert_round_trips(fault_proxy, 1):
                await verb("user:1")
        async with assert_round_trips(fault_proxy, 1):
            results = await limiter.hit_many([("a", 1), ("b", 2), ("a", 3)])
        assert [result.allowed for result in results] == [True, True, False]


async def test_retry_after_tells_the_truth(kind: type[Limiter], redis_client: Redis, namespace: str) -> None:
    limiter = kind(redis_client, "4/second", namespace=namespace, deadline=5)
    while await limiter.hit("user:1"):
        pass
    wait = (await limiter.peek("user:1")).retry_after
    assert wait is not None
    early = time.monotonic() + wait - 0.03
    while time.monotonic() < early:
        assert not await limiter.peek("user:1")
    await asyncio.sleep(max(0.0, early + 0.05 - time.monotonic()))
    assert await limiter.hit("user:1")


async def test_cost(kind: type[Limiter], redis_client: Redis, namespace: str) -> None:
    limiter = kind(redis_client, "10/hour", namespace=namespace, deadline=5)
    assert (await limiter.hit("u", 8)).remaining == 2
    refused = await limiter.hit("u", 5)
    assert (refused.allowed, refused.remaining) == (False, 2)
    assert (await limiter.hit("u", 2)).remaining == 0
    never = await limiter.hit("other", 11)
    assert (never.allowed, never.retry_after) == (False, None)
    assert await redis_client.exists(limiter._keys.key("other")) == 0
    with pytest.raises(RateLimitExceeded) as caught:
        await limiter.require("u")
    assert (caught.value.key, caught.value.result.cost) == ("u", 1)


async def test_peek_and_cost_zero_change_nothing(kind: type[Limiter], redis_client: Redis, namespace: str) -> None:
    limiter = kind(redis_client, "2/hour", namespace=namespace, deadline=5)
    assert await limiter.peek("u")
    assert (await limiter.hit("u", 0)).remaining == 2
    assert await redis_client.exists(limiter._keys.key("u")) == 0


async def test_reset_and_lowered_limits(kind: type[Limiter], redis_client: Redis, namespace: str) -> None:
    limiter = kind(redis_client, "5/hour", namespace=namespace, deadline=5)
    await limiter.hit("u", 5)
    lowered = await limiter.hit("u", limit="2/hour")
    assert (lowered.allowed, lowered.remaining) == (False, 0)
    assert await limiter.reset("u") is True
    assert await limiter.reset("u") is False
    assert (await limiter.hit("u")).remaining == 4


async def test_script_flush_is_repaired(kind: type[Limiter], own_server: EmbeddedServer) -> None:
    async with Redis.from_url(own_server.url) as client:
        limiter = kind(client, "100/hour", deadline=5)
        await limiter.hit("u")
        await client.script_flush()
        results = await asyncio.gather(*(limiter.hit("u") for _ in range(50)))
        assert all(results)
        assert (await limiter.peek("u")).remaining == 49
        await limiter._commands.aclose()  # type: ignore[attr-defined]


async def test_a_lost_reply_is_charged_once(kind: type[Limiter], fault_proxy: FaultProxy, namespace: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        limiter = kind(client, "10/hour", namespace=namespace, deadline=5)
        await limiter.hit("u")
        fault_proxy.drop_replies("EVALSHA", times=1)
        with pytest.raises(OutcomeUnknown):
            await limiter.hit("u")
        assert (await limiter.peek("u")).remaining == 8


@pytest.mark.parametrize(("policy", "allowed"), [("open", True), ("closed", False)])
async def test_a_hung_server_costs_at_most_the_deadline(
    kind: type[Limiter], policy: Any, allowed: bool, own_server: EmbeddedServer
) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        limiter = kind(client, "10/hour", deadline=0.1, on_error=policy)
        await limiter.hit("u")
        own_server.pause()
        try:
            start = time.monotonic()
            result = await limiter.hit("u")
            assert time.monotonic() - start < 0.4
        finally:
            own_server.resume()
        assert (result.allowed, result.source) == (allowed, f"fail-{policy}")


async def test_raise_is_the_default(own_server: EmbeddedServer) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        limiter = FixedWindowLimiter(client, "10/hour", deadline=0.1)
        await limiter.hit("u")
        own_server.pause()
        try:
            with pytest.raises(ReplyTimeout):
                await limiter.hit("u")
        finally:
            own_server.resume()
        assert limiter.statistics().errors == 1


async def test_missing_permissions_are_never_fail_open(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.execute_command("ACL SETUSER app on >pw ~* +@all -evalsha")
    async with PipelinedRedis.from_url(own_server.url, username="app", password="pw") as client:
        with pytest.raises(PermissionDenied, match="EVALSHA|evalsha"):
            await FixedWindowLimiter(client, "10/hour", on_error="open").hit("u")


async def test_cancelled_anywhere_each_hit_counts_at_most_once(
    kind: type[Limiter], redis_client: Redis, namespace: str
) -> None:
    limiter = kind(redis_client, "100000/hour", namespace=namespace, deadline=5)
    await limiter.hit("warm-up")
    runs = 0

    async def critical() -> None:
        nonlocal runs
        runs += 1
        await limiter.hit("u")

    await cancel_everywhere(critical)
    assert 100_000 - (await limiter.peek("u")).remaining <= runs


@pytest.mark.parametrize("cost", [-1, 1.5, True, None, "1", float("nan")])
async def test_senseless_costs_are_refused_before_any_io(cost: Any) -> None:
    limiter = FixedWindowLimiter(Redis(port=1), "1/hour")
    with pytest.raises(ValueError, match="cost is a whole number"):
        await limiter.hit("u", cost)


@pytest.mark.parametrize("make", [lambda limiter: limiter.hit(""), lambda limiter: limiter.reset(b"")])
async def test_empty_keys_are_refused(make: Callable[[Limiter], Any]) -> None:
    with pytest.raises(ValueError, match="empty"):
        await make(FixedWindowLimiter(Redis(port=1), "1/hour"))


async def test_names_and_keys_never_meet(redis_client: Redis, namespace: str) -> None:
    pairs = [("a", "b:c"), ("a:b", "c"), ("a", "{b}:c"), ("a", "b%3Ac"), ("a/b", "c"), ("a", "b/c")]
    for name, key in pairs:
        limiter = FixedWindowLimiter(redis_client, "1/hour", namespace=namespace, name=name, deadline=5)
        assert await limiter.hit(key), f"{(name, key)} shares a bucket"


@pytest.mark.parametrize("kind", [FixedWindowLimiter, SlidingWindowLogLimiter])
async def test_another_period_would_wipe_the_count_and_is_refused(
    kind: type[Limiter], redis_client: Redis, namespace: str
) -> None:
    limiter = kind(redis_client, "2/hour", namespace=namespace, deadline=5)
    await limiter.hit("u", 2)
    with pytest.raises(ValueError, match="not the period"):
        await limiter.hit("u", limit="100/second")
    assert not await limiter.peek("u")


async def test_a_bucket_takes_another_period_and_keeps_its_level(redis_client: Redis, namespace: str) -> None:
    limiter = TokenBucketLimiter(redis_client, "10/hour", namespace=namespace, deadline=5)
    await limiter.hit("u", 10)
    refused = await limiter.hit("u", 5, limit="10/minute")
    assert not refused
    assert refused.retry_after is not None
    assert 25 < refused.retry_after <= 30
