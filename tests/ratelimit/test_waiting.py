"""`acquire`: in line, on one timer per key, and nothing is lost when somebody leaves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import (
    FixedWindowLimiter,
    LeakyBucketLimiter,
    Limit,
    Limiter,
    PipelinedRedis,
    RateLimitExceeded,
    RateLimitTimeout,
    TokenBucketLimiter,
)
from aredis_patterns.testing import FaultProxy, assert_round_trips, cancel_everywhere


def bucket(client: Redis, namespace: str, limit: str, **options: Any) -> TokenBucketLimiter:
    return TokenBucketLimiter(client, limit, namespace=namespace, deadline=5, **options)


async def test_a_free_key_is_one_round_trip(fault_proxy: FaultProxy, namespace: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        limiter = bucket(client, namespace, "5/hour")
        await limiter.hit("warm-up")
        async with assert_round_trips(fault_proxy, 1):
            assert await limiter.acquire("u")


async def test_waiters_are_served_in_order_at_the_rate_of_the_bucket(redis_client: Redis, namespace: str) -> None:
    limiter = bucket(redis_client, namespace, "50/second burst 1")
    order: list[int] = []

    async def waiter(number: int) -> None:
        await limiter.acquire("u")
        order.append(number)

    start = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(11):
            group.create_task(waiter(number))
    assert order == list(range(11))
    assert time.monotonic() - start >= 0.19
    assert len(limiter._waiting) == 0


async def test_waiting_on_one_key_never_delays_another(redis_client: Redis, namespace: str) -> None:
    limiter = bucket(redis_client, namespace, "1/hour")
    await limiter.hit("busy")
    waiting = [asyncio.create_task(limiter.acquire("busy")) for _ in range(20)]
    await asyncio.sleep(0)
    async with asyncio.timeout(2):
        assert await limiter.acquire("free")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_cost_above_the_limit_is_refused_at_once(
    redis_client: Redis, namespace: str, kind: type[Limiter]
) -> None:
    limiter = kind(redis_client, "5/hour", namespace=namespace, deadline=5)
    with pytest.raises(RateLimitExceeded):
        await limiter.acquire("u", 6)
    assert (await limiter.peek("u")).remaining == 5


async def test_what_cannot_fit_in_time_is_told_at_once(redis_client: Redis, namespace: str) -> None:
    limiter = bucket(redis_client, namespace, "1/hour")
    await limiter.acquire("u")
    start = time.monotonic()
    for timeout in (0, 2.5):
        with pytest.raises(RateLimitTimeout) as caught:
            await limiter.acquire("u", timeout=timeout)
        assert caught.value.result.retry_after is not None
        assert caught.value.result.retry_after > 3000
    assert time.monotonic() - start < 2


async def test_a_timeout_behind_others_ends_the_wait(redis_client: Redis, namespace: str) -> None:
    limiter = bucket(redis_client, namespace, "10/second burst 1")
    await limiter.hit("u")
    first = asyncio.create_task(limiter.acquire("u"))
    await asyncio.sleep(0.02)
    with pytest.raises(TimeoutError):
        await limiter.acquire("u", timeout=0.01)
    assert await first


async def test_a_waiter_that_leaves_costs_nothing_and_the_next_moves_up(redis_client: Redis, namespace: str) -> None:
    limiter = bucket(redis_client, namespace, "10/second burst 1")
    await limiter.hit("u")
    start = time.monotonic()
    tasks = [asyncio.create_task(limiter.acquire("u")) for _ in range(6)]
    await asyncio.sleep(0.03)
    for task in tasks[:5]:
        task.cancel()
    await tasks[5]
    assert time.monotonic() - start < 0.4  # not the 0.6 s of the sixth place
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_cancelled_anywhere_nothing_stays_charged(
    redis_client: Redis, namespace: str, kind: type[Limiter]
) -> None:
    if kind is LeakyBucketLimiter:
        pytest.skip("its `acquire` waits for its turn; see below")
    limiter = kind(redis_client, "100000/300 days", namespace=namespace, deadline=5)
    await limiter.hit("warm-up")
    finished = 0

    async def critical() -> None:
        nonlocal finished
        await limiter.acquire("u")
        finished += 1

    async def settled() -> None:
        for _ in range(100):
            if (await limiter.peek("u")).remaining >= 100_000 - finished:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"charged for somebody who left: {await limiter.peek('u')}, {finished} finished")

    await cancel_everywhere(critical, check=settled)


async def test_a_refund_wakes_those_who_wait(redis_client: Redis, namespace: str) -> None:
    limiter = bucket(redis_client, namespace, "1/hour")
    await limiter.acquire("u")
    waiting = asyncio.create_task(limiter.acquire("u"))
    await asyncio.sleep(0.02)
    await limiter.refund("u")
    async with asyncio.timeout(5):
        assert await waiting


async def test_a_large_cost_is_not_overtaken_by_small_ones(redis_client: Redis, namespace: str) -> None:
    limiter = bucket(redis_client, namespace, "50/second burst 5")
    await limiter.hit("u", 5)
    order: list[int] = []

    async def waiter(cost: int) -> None:
        await limiter.acquire("u", cost)
        order.append(cost)

    async with asyncio.TaskGroup() as group:
        for cost in (5, 1, 1, 1):
            group.create_task(waiter(cost))
            await asyncio.sleep(0.005)
    assert order[0] == 5


async def test_waiters_of_a_window_pass_together_when_it_ends(redis_client: Redis, namespace: str) -> None:
    limiter = FixedWindowLimiter(redis_client, Limit.per(40, seconds=0.3), namespace=namespace, deadline=5)
    await limiter.hit("u", 40)
    start = time.monotonic()
    await asyncio.gather(*(limiter.acquire("u") for _ in range(40)))
    assert time.monotonic() - start < 2
    assert (await limiter.peek("u", 0)).limit.amount == 40


# the queue of a leaky bucket -----------------------------------------------------------------------------------------


async def test_a_queue_lets_go_on_evenly_and_in_order(redis_client: Redis, namespace: str) -> None:
    limiter = LeakyBucketLimiter(redis_client, "50/second burst 20", namespace=namespace, deadline=5)
    went: list[tuple[int, float]] = []

    async def waiter(number: int) -> None:
        await limiter.acquire("u")
        went.append((number, time.monotonic()))

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(waiter(number))
    assert [number for number, _ in went] == list(range(8))
    assert went[-1][1] - went[0][1] >= 0.12
    assert len(limiter._turns) == 0


async def test_shape_tells_the_delay_and_refuses_when_it_is_too_long(redis_client: Redis, namespace: str) -> None:
    limiter = LeakyBucketLimiter(redis_client, "1/minute burst 3", namespace=namespace, deadline=5)
    delays = [(await limiter.shape("u")).delay for _ in range(3)]
    assert delays[0] == 0
    assert 55 < delays[1] <= 60
    assert 115 < delays[2] <= 120
    full = await limiter.shape("u")
    assert not full
    assert full.retry_after is not None
    assert 55 < full.retry_after <= 60
    assert await limiter.shape("other", max_delay=0)
    assert not await limiter.shape("other", max_delay=1)


async def test_who_leaves_a_queue_leaves_its_place_to_the_next(redis_client: Redis, namespace: str) -> None:
    limiter = LeakyBucketLimiter(redis_client, "10/second burst 20", namespace=namespace, deadline=5)
    start = time.monotonic()
    tasks = [asyncio.create_task(limiter.acquire("u")) for _ in range(6)]
    await asyncio.sleep(0.05)
    for task in tasks[1:5]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert 0.05 < time.monotonic() - start < 0.4
    # What was left over at the end of the queue has been given back.
    assert (await limiter.shape("u")).delay < 0.35


async def test_cancelled_anywhere_a_queue_is_as_long_as_those_who_went(redis_client: Redis, namespace: str) -> None:
    limiter = LeakyBucketLimiter(redis_client, "1000/hour burst 100000", namespace=namespace, deadline=5)
    await limiter.shape("u")

    async def critical() -> None:
        async with asyncio.timeout(0.05):
            await limiter.acquire("u")

    async def one_left() -> None:
        for _ in range(100):
            if (await limiter.peek("u", 0)).remaining >= 99_999:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"places of those who left: {await limiter.peek('u', 0)}")

    await cancel_everywhere(_swallowing(critical), check=one_left, max_ticks=12)


def _swallowing(critical: Any) -> Any:
    async def run() -> None:
        with contextlib.suppress(TimeoutError):
            await critical()

    return run


async def test_timeouts_of_a_queue(redis_client: Redis, namespace: str) -> None:
    limiter = LeakyBucketLimiter(redis_client, "1/minute burst 2", namespace=namespace, deadline=5)
    await limiter.acquire("u")
    start = time.monotonic()
    with pytest.raises(RateLimitTimeout):
        await limiter.acquire("u", timeout=5)
    assert time.monotonic() - start < 2
    assert (await limiter.peek("u", 0)).remaining == 1
    with pytest.raises(RateLimitExceeded):
        await limiter.acquire("u", 3)
