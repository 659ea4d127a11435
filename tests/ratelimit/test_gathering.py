"""Hits that ride together in one EVALSHA: what one of them can do to the others, and what a second loop can."""

from __future__ import annotations

import asyncio
import threading
from enum import IntEnum
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from aredis_patterns import (
    FixedWindowLimiter,
    LeakyBucketLimiter,
    Limit,
    Limiter,
    MultiLimiter,
    PipelinedRedis,
    RateLimitResult,
    TokenBucketLimiter,
)
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.pipelining import lane_of
from aredis_patterns.ratelimit._deny_cache import DenyCache
from aredis_patterns.ratelimit._waiting import WaitingRoom


async def test_a_key_that_holds_something_else_fails_alone(
    redis_client: Redis, namespace: str, kind: type[Limiter]
) -> None:
    limiter = kind(redis_client, "10/hour", namespace=namespace, deadline=5)
    await redis_client.lpush(limiter._full_key("spoiled"), "x")
    await redis_client.pexpire(limiter._full_key("spoiled"), 60_000)
    names = ["a", "b", "spoiled", "c", "a"]
    results: list[Any] = await asyncio.gather(*(limiter.hit(name) for name in names), return_exceptions=True)
    assert isinstance(results[2], ResponseError)
    assert [result.remaining for at, result in enumerate(results) if at != 2] == [9, 9, 9, 8]
    with pytest.raises(ResponseError):
        await limiter.hit_many([("a", 1), ("spoiled", 1), ("b", 1)])
    assert (await limiter.peek("b", 0)).remaining == 8


async def test_what_cannot_be_sent_is_told_to_those_who_wait(
    redis_client: Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = FixedWindowLimiter(redis_client, "10/hour", namespace=namespace, deadline=5)
    await limiter.hit("u")

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError("no room to pack it")

    lone = asyncio.create_task(limiter.hit("u"))
    await asyncio.sleep(0)
    monkeypatch.setattr("aredis_patterns.ratelimit._sender.begin_hit", fail)
    async with asyncio.timeout(30):
        results = await asyncio.gather(*(limiter.hit(f"{n}") for n in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [MemoryError] * 3
    assert await lone


async def test_a_cost_above_all_numbers_never_fits(redis_client: Redis, namespace: str, kind: type[Limiter]) -> None:
    limiter = kind(redis_client, "10/hour", namespace=namespace, deadline=5)
    for huge in (2**60, 10**30, 10**5000):
        results = await asyncio.gather(limiter.hit("u", huge), limiter.hit("v", huge), limiter.peek("u", huge))
        assert [(result.allowed, result.retry_after) for result in results] == [(False, None)] * 3
    assert (await limiter.peek("u", 0)).remaining == 10


async def test_a_cost_from_an_enumeration_is_charged(redis_client: Redis, namespace: str) -> None:
    class Cost(IntEnum):
        SEARCH = 4

    limiter = TokenBucketLimiter(redis_client, "10/hour", namespace=namespace, deadline=5)
    assert (await limiter.hit("u", Cost.SEARCH)).remaining == 6
    assert (await limiter.hit("u", Cost.SEARCH)).remaining == 2
    assert not await limiter.hit("u", Cost.SEARCH)


def test_two_loops_at_a_time_do_not_lose_each_others_hits(own_server: EmbeddedServer) -> None:
    client = PipelinedRedis.from_url(own_server.url)
    limiter = FixedWindowLimiter(client, "1000000/hour", deadline=30)
    answered: list[int] = []

    async def many(who: int) -> None:
        for _ in range(60):
            async with asyncio.timeout(60):
                results = await asyncio.gather(*(limiter.hit(f"{who}") for _ in range(20)))
            answered.append(len(results))
        assert (await limiter.peek(f"{who}", 0)).remaining == 1_000_000 - 60 * 20
        await lane_of(client).aclose()  # of this loop

    failures: list[BaseException] = []

    def run(who: int) -> None:
        try:
            asyncio.run(many(who))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(who,)) for who in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert answered == [20] * 120


@pytest.mark.parametrize("verb", ["hit_many", "peek", "shape"])
async def test_the_breaker_closes_whichever_verb_finds_the_server(own_server: EmbeddedServer, verb: str) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        limiter = LeakyBucketLimiter(client, "100000/second", deadline=0.1, on_error="open")

        async def source() -> str:
            if verb == "hit_many":
                return (await limiter.hit_many([("u", 1)]))[0].source
            return (await (limiter.peek("u") if verb == "peek" else limiter.shape("u"))).source

        async with asyncio.timeout(30):
            while await source() != "redis":
                await asyncio.sleep(0.05)
        own_server.pause()
        try:
            while not limiter.statistics().breaker_open:
                await source()
                await asyncio.sleep(0.03)
        finally:
            own_server.resume()
        async with asyncio.timeout(30):
            while await source() != "redis":
                await asyncio.sleep(0.05)
        assert not limiter.statistics().breaker_open


def test_a_refusal_that_was_under_way_when_units_came_back_is_not_remembered() -> None:
    now = 1000.0
    cache, hour = DenyCache(2, clock=lambda: now), Limit.per_hour(1)
    asked_at = now
    now += 0.001
    cache.drop("u")
    now += 0.001
    cache.remember("u", asked_at, 1, hour, (0, 0, 3_600_000_000, 3_600_000_000))
    assert cache.find("u", 1, hour) is None
    cache.remember("u", now, 1, hour, (0, 0, 3_600_000_000, 3_600_000_000))
    assert cache.find("u", 1, hour) is not None
    for number in range(100):
        cache.drop(f"{number}")
    assert len(cache._dropped) == 2


async def test_a_settlement_that_was_cancelled_before_it_was_sent_is_made_all_the_same(
    own_server: EmbeddedServer,
) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        limiter = TokenBucketLimiter(client, "1000/300 days", deadline=30)
        entered, leave = asyncio.Event(), asyncio.Event()

        async def answer() -> None:
            async with limiter.reserve("u", 800) as reservation:
                reservation.used = 5
                entered.set()
                await leave.wait()

        task = asyncio.create_task(answer())
        await entered.wait()
        own_server.pause()
        try:
            busy = asyncio.create_task(limiter.peek("other"))
            await asyncio.sleep(0)  # the connection has something to wait for: what comes now is written later
            leave.set()
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        finally:
            own_server.resume()
        assert task.cancelled()
        await busy
        async with asyncio.timeout(30):
            while (await limiter.peek("u", 0)).remaining != 995:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(("source", "expected"), [("redis", ["u"]), ("local", []), ("fail-open", [])])
async def test_only_what_the_server_has_counted_is_given_back(source: Any, expected: list[str]) -> None:
    limit, asked, go_on = Limit.per_hour(5), asyncio.Event(), asyncio.Event()
    given_back: list[str] = []

    async def ask(_: str, costs: Any) -> list[RateLimitResult | BaseException]:
        asked.set()
        await go_on.wait()
        return [RateLimitResult(True, limit, 4, 0.0, 0.0, cost, source) for cost in costs]

    room = WaitingRoom(ask, lambda key, _: given_back.append(key), lambda cost: RateLimitResult(False, limit, 0, 1, 1))
    waiter = asyncio.create_task(room.wait("u", "u", 1, None, None))
    await asyncio.wait_for(asked.wait(), 30)
    waiter.cancel()
    await asyncio.wait([waiter])
    go_on.set()
    while room._tasks:
        await asyncio.sleep(0)
    assert given_back == expected


async def test_a_refund_of_several_limits_wakes_those_who_wait_for_one(redis_client: Redis, namespace: str) -> None:
    user = TokenBucketLimiter(redis_client, "1/hour", namespace=namespace, name="user", deadline=5)
    limits = MultiLimiter(redis_client, {"user": user, "all": "100/hour"}, namespace=namespace, deadline=5)
    assert await limits.hit("u")
    waiter = asyncio.create_task(user.acquire("u"))
    async with asyncio.timeout(30):
        while not len(user._waiting):
            await asyncio.sleep(0)
        await limits.refund("u")
        assert await waiter
