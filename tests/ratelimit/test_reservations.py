"""Estimates and what becomes of them: success, error, hang-up, lost replies, a crash."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any, Literal

import pytest
from redis.asyncio import Redis

from aredis_patterns import (
    Limiter,
    OutcomeUnknown,
    PipelinedRedis,
    RateLimitExceeded,
    ReservationExpired,
    SlidingWindowLogLimiter,
    TokenBucketLimiter,
)
from aredis_patterns.testing import FaultProxy, assert_round_trips, cancel_everywhere

LIMIT = "1000/300 days"


async def left(limiter: Limiter, key: str = "u") -> int:
    return (await limiter.peek(key, 0)).remaining


async def soon(limiter: Limiter, expected: int) -> None:
    """What was posted takes effect behind our back."""
    for _ in range(200):
        if await left(limiter) == expected:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{await left(limiter)} left, not {expected}")


async def test_the_real_cost_replaces_the_estimate(redis_client: Redis, namespace: str, kind: type[Limiter]) -> None:
    limiter = kind(redis_client, LIMIT, namespace=namespace, deadline=5)
    async with limiter.reserve("u", 800) as reservation:
        assert reservation.result is not None
        assert reservation.result.remaining == 200
        assert (await reservation.commit(650)).remaining == 350
        await reservation.commit(1)  # a second time does nothing
    assert await left(limiter) == 350
    async with limiter.reserve("u", 300) as reservation:
        reservation.used = 320
    assert await left(limiter) == 30
    async with limiter.reserve("u", 30):
        pass
    assert await left(limiter) == 0


async def test_two_round_trips(fault_proxy: FaultProxy, namespace: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        limiter = TokenBucketLimiter(client, LIMIT, namespace=namespace, deadline=5)
        async with limiter.reserve("warm-up", 1):
            pass
        async with assert_round_trips(fault_proxy, 2), limiter.reserve("u", 10) as reservation:
            reservation.used = 4


async def test_an_estimate_that_does_not_fit_is_refused(
    redis_client: Redis, namespace: str, kind: type[Limiter]
) -> None:
    limiter = kind(redis_client, LIMIT, namespace=namespace, deadline=5)
    await limiter.hit("u", 900)
    with pytest.raises(RateLimitExceeded) as caught:
        async with limiter.reserve("u", 101):
            raise AssertionError("not reached")
    assert caught.value.result.remaining == 100
    assert await left(limiter) == 100


async def test_errors_and_hang_ups_settle_what_was_used(
    redis_client: Redis, namespace: str, kind: type[Limiter]
) -> None:
    limiter = kind(redis_client, LIMIT, namespace=namespace, deadline=5)
    with pytest.raises(ZeroDivisionError):
        async with limiter.reserve("u", 500):
            raise ZeroDivisionError
    await soon(limiter, 1000)

    async def stream() -> None:
        async with limiter.reserve("u", 500) as reservation:
            reservation.used = 40
            await asyncio.sleep(60)

    client = asyncio.create_task(stream())
    while await left(limiter) != 500:
        await asyncio.sleep(0.005)
    client.cancel()
    await asyncio.gather(client, return_exceptions=True)
    await soon(limiter, 960)


async def test_a_real_cost_above_the_limit_becomes_a_debt(
    redis_client: Redis, namespace: str, kind: type[Limiter]
) -> None:
    limiter = kind(redis_client, LIMIT, namespace=namespace, deadline=5)
    async with limiter.reserve("u", 100) as reservation:
        reservation.used = 1500
    answer = await limiter.peek("u")
    assert (answer.allowed, answer.remaining) == (False, 0)
    assert answer.retry_after is not None
    assert answer.retry_after > 0


async def test_cancelled_anywhere_the_estimate_comes_back_or_the_cost_is_charged(
    redis_client: Redis, namespace: str
) -> None:
    limiter = TokenBucketLimiter(redis_client, "1000000/300 days", namespace=namespace, deadline=5)
    charged = 0

    async def critical() -> None:
        nonlocal charged
        async with limiter.reserve("u", 100) as reservation:
            charged += 7
            reservation.used = 7

    async def settled() -> None:
        await soon(limiter, 1_000_000 - charged)

    await cancel_everywhere(critical, check=settled)


@pytest.mark.parametrize("place", [1, 2], ids=["reserving", "settling"])
async def test_a_lost_reply_settles_once(fault_proxy: FaultProxy, namespace: str, place: int) -> None:
    """Both scripts are replay-safe: the wire runs them again, and the second run changes nothing."""
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        limiter = TokenBucketLimiter(client, LIMIT, namespace=namespace, deadline=5)
        async with limiter.reserve("warm-up", 1):
            pass
        fault_proxy.drop_replies("EVALSHA", times=1, nth=place)
        async with limiter.reserve("u", 100) as reservation:
            reservation.used = 30
        assert await left(limiter) == 970


async def test_when_nobody_knows_the_estimate_comes_back(fault_proxy: FaultProxy, namespace: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        limiter = TokenBucketLimiter(client, LIMIT, namespace=namespace, deadline=0.2)
        async with limiter.reserve("warm-up", 1):
            pass
        delayed = fault_proxy.delay_replies("EVALSHA", seconds=0.6, times=1)
        with pytest.raises(OutcomeUnknown):
            async with limiter.reserve("u", 100):
                raise AssertionError("not reached")
        delayed.remove()
        patient = TokenBucketLimiter(client, LIMIT, namespace=namespace, deadline=5)
        await soon(patient, 1000)


CRASH = """
import asyncio, os, sys
from redis.asyncio import Redis
from aredis_patterns import TokenBucketLimiter

async def main():
    limiter = TokenBucketLimiter(Redis.from_url(sys.argv[1]), {limit!r}, namespace=sys.argv[2], deadline=5)
    async with limiter.reserve("u", 600, lease=0.3, on_crash=sys.argv[3]):
        print("reserved", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize(("on_crash", "remaining"), [("charge", 400), ("refund", 1000)])
async def test_kill_9_settles_too(
    redis_url: str, redis_client: Redis, namespace: str, on_crash: Literal["charge", "refund"], remaining: int
) -> None:
    program = [sys.executable, "-c", CRASH.format(limit=LIMIT), redis_url, namespace, on_crash]
    process = subprocess.Popen(program, stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == b"reserved\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    limiter = TokenBucketLimiter(redis_client, LIMIT, namespace=namespace, deadline=5)
    assert await left(limiter) == 400
    await asyncio.sleep(0.35)
    async with limiter.reserve("u", 0):
        pass
    assert await left(limiter) == remaining
    assert await redis_client.pttl(limiter._notes_key("u")) > 0


async def test_a_slow_worker_settles_exactly_until_twice_its_lease_is_over(redis_client: Redis, namespace: str) -> None:
    limiter = SlidingWindowLogLimiter(redis_client, LIMIT, namespace=namespace, deadline=5)
    slow = await limiter.reserve("u", 500, lease=0.4, on_crash="refund").__aenter__()
    await asyncio.sleep(0.45)
    async with limiter.reserve("u", 0, lease=0.4):
        pass
    assert await left(limiter) == 1000  # given back, because it seemed dead
    await slow.commit(70)
    assert await left(limiter) == 930

    gone = await limiter.reserve("u", 100, lease=0.1).__aenter__()
    await asyncio.sleep(0.25)
    async with limiter.reserve("u", 0, lease=0.1):
        pass
    await asyncio.sleep(0.25)
    async with limiter.reserve("u", 0, lease=0.1):
        pass
    with pytest.raises(ReservationExpired) as caught:
        await gone.commit(10)
    assert caught.value.key == "u"
    assert await left(limiter) == 830


async def test_a_reservation_is_used_inside_its_block_and_once(redis_client: Redis, namespace: str) -> None:
    limiter = TokenBucketLimiter(redis_client, LIMIT, namespace=namespace, deadline=5)
    reservation = limiter.reserve("u", 5)
    with pytest.raises(RuntimeError):
        await reservation.commit(5)
    async with reservation:
        pass
    with pytest.raises(RuntimeError):
        await reservation.__aenter__()
    wrong: Any = "maybe"
    with pytest.raises(ValueError, match="on_crash"):
        limiter.reserve("u", 5, on_crash=wrong)
