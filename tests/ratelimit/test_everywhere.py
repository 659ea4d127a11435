"""The same answers wherever it runs: Cluster, clients whose clocks are wrong, replicas, many names."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.crc import key_slot

from aredis_patterns import (
    ConcurrencyLimiter,
    Limit,
    Limiter,
    MultiLimiter,
    PipelinedRedis,
    SlidingWindowLogLimiter,
    TokenBucketLimiter,
)
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import OutcomeUnknown
from aredis_patterns.pipelining import lane_of
from aredis_patterns.testing import FaultProxy, LocalCluster, no_leaked_keys


async def test_on_a_cluster(redis_cluster: LocalCluster, kind: type[Limiter]) -> None:
    client = RedisCluster.from_url(redis_cluster.url)
    limiter = kind(client, "3/hour", namespace=f"c:{kind.__name__}", deadline=10)
    keys = [f"user:{{{number}}}" for number in range(1000)]
    results = await limiter.hit_many([(key, 1) for key in keys])
    assert all(results)
    slots = {key_slot(limiter._full_key(key).encode()) for key in keys}
    assert len(slots) > 900  # what a user writes into braces does not gather the keys
    assert sum(map(bool, await asyncio.gather(*(limiter.hit(keys[0]) for _ in range(10))))) == 2
    async with limiter.reserve(keys[1], 2) as reservation:
        reservation.used = 1
    assert (await limiter.refund(keys[1], 1)).remaining == 2
    await lane_of(client).aclose()
    await client.aclose()


async def test_several_limits_and_places_on_a_cluster(redis_cluster: LocalCluster) -> None:
    client = RedisCluster.from_url(redis_cluster.url)
    limits = MultiLimiter(client, {"user": "3/hour", "org": "5/hour"}, tag_by="org", deadline=10)
    results = [await limits.hit({"user": f"u{number % 2}", "org": "acme"}) for number in range(7)]
    assert [bool(result) for result in results] == [True] * 5 + [False] * 2
    assert results[5].violated == ("org",)
    places = ConcurrencyLimiter(client, 1, deadline=10)
    async with places.hold("u"):
        waiting = asyncio.create_task(places.acquire("u"))
        await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        assert await places.release(await waiting)
    await lane_of(client).aclose()
    await client.aclose()


@pytest.mark.parametrize("skew", [3600.0, -3600.0])
async def test_a_client_whose_clock_is_wrong_gets_the_same_answers(
    redis_client: Redis, namespace: str, kind: type[Limiter], skew: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = kind(redis_client, "3/hour", namespace=namespace, deadline=5, deny_cache=5)
    await limiter.hit("u", 2)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew)
    assert await limiter.hit("u")
    refused = await limiter.hit("u")
    assert not refused
    assert refused.retry_after is not None
    assert 0 < refused.retry_after <= 7200


async def test_after_one_hit_of_every_kind_every_key_has_a_ttl(
    redis_client: Redis, namespace: str, kind: type[Limiter]
) -> None:
    limiter = kind(redis_client, Limit.per(5, seconds=0.2), namespace=namespace, deadline=5)
    async with no_leaked_keys(redis_client, namespace, allow_ttl=True):
        await limiter.hit("u")
        async with limiter.reserve("u", 2, lease=0.2):
            pass
        async with ConcurrencyLimiter(redis_client, 1, lease=0.2, namespace=namespace, deadline=5).hold("u"):
            pass
    for _ in range(100):
        if not [key async for key in redis_client.scan_iter(match=f"{namespace}*", count=1000)]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("idle keys stay")


async def test_the_first_hit_and_the_last_unit_of_a_burst_are_always_allowed(
    redis_client: Redis, namespace: str, kind: type[Limiter]
) -> None:
    limiter = kind(redis_client, "7/second" if kind._any_period else "7/hour", namespace=namespace, deadline=5)
    for number in range(100):
        assert await limiter.hit(f"one {number}", 7)
        assert await limiter.hit(f"first {number}")


async def test_a_flushed_script_cache_in_the_middle_of_gathered_hits(own_client: Redis, kind: type[Limiter]) -> None:
    limiter = kind(own_client, "1000/300 days", deadline=10)
    await limiter.hit("u")

    async def flush() -> None:
        for _ in range(5):
            await own_client.script_flush()
            await asyncio.sleep(0.002)

    results, _ = await asyncio.gather(asyncio.gather(*(limiter.hit("u") for _ in range(300))), flush())
    more = await asyncio.gather(*(limiter.hit("u") for _ in range(100)))
    assert all(results)
    assert all(more)
    assert (await limiter.peek("u")).remaining == 1000 - 401
    await lane_of(own_client).aclose()


async def test_gathered_hits_whose_reply_is_lost_are_charged_once_and_told(
    fault_proxy: FaultProxy, namespace: str
) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        limiter = TokenBucketLimiter(client, "1000/300 days", namespace=namespace, deadline=5)
        await limiter.hit("u")
        lost = fault_proxy.drop_replies("EVALSHA", nth=2, times=1)
        answers = await asyncio.gather(*(limiter.hit("u") for _ in range(20)), return_exceptions=True)
        unknown = [answer for answer in answers if isinstance(answer, OutcomeUnknown)]
        assert unknown
        assert {error.key for error in unknown} == {limiter._full_key("u")}
        assert lost.applied == 1
        assert (await limiter.peek("u")).remaining == 1000 - 21


async def test_gathered_hits_of_callers_that_were_cancelled_leave_the_others_alone(
    redis_client: Redis, namespace: str
) -> None:
    limiter = SlidingWindowLogLimiter(redis_client, "1000/hour", namespace=namespace, deadline=5)
    await limiter.hit("warm-up")
    tasks = [asyncio.create_task(limiter.hit(f"key {number}")) for number in range(100)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert all(result.remaining == 999 for result in results[1::2])
    assert not limiter._sender._here().busy


async def test_a_second_event_loop(redis_url: str, namespace: str, kind: type[Limiter]) -> None:
    """A limiter made in one loop works in another, with hits that had gathered in the first."""

    async def elsewhere(limiter: Limiter) -> list[bool]:
        results = await asyncio.gather(*(limiter.hit("u") for _ in range(5)))
        await lane_of(limiter._commands.client).aclose()  # type: ignore[attr-defined]
        return [bool(result) for result in results]

    client = PipelinedRedis.from_url(redis_url)
    limiter = kind(client, "7/hour", namespace=namespace, deadline=5)
    assert all(await asyncio.gather(*(limiter.hit("u") for _ in range(3))))
    await client.aclose()
    allowed = await asyncio.to_thread(lambda: asyncio.run(elsewhere(limiter)))
    assert sum(allowed) == 4


async def test_a_peek_never_goes_to_a_replica(own_server: EmbeddedServer) -> None:
    """It is the same EVALSHA as a hit, on the same connection: what was charged is seen."""
    async with PipelinedRedis.from_url(own_server.url) as client:
        limiter = TokenBucketLimiter(client, "1000/300 days", deadline=5)
        for number in range(20):
            _, seen = await asyncio.gather(limiter.hit("u"), limiter.peek("u"))
            assert seen.remaining in (1000 - number, 999 - number)
        assert (await limiter.peek("u")).remaining == 980
