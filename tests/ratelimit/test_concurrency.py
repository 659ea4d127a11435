"""Places under leases: never more than there are, handed over in order, back after a crash."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest
from redis.asyncio import Redis

from aredis_patterns import ConcurrencyLimiter, ConcurrencyLimitExceeded, PipelinedRedis
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.pipelining import lane_of
from aredis_patterns.testing import FaultProxy, assert_round_trips, cancel_everywhere


def places(client: Redis, namespace: str, limit: int, lease: float = 30, **options: float) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(client, limit, lease=lease, namespace=namespace, **{"deadline": 5, **options})


async def test_never_more_than_the_limit_and_everybody_gets_a_turn(redis_client: Redis, namespace: str) -> None:
    limiter = places(redis_client, namespace, 3)
    now = most = done = 0

    async def work() -> None:
        nonlocal now, most, done
        async with limiter.hold("u"):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.005)
            now -= 1
            done += 1

    async with asyncio.timeout(20):
        await asyncio.gather(*(work() for _ in range(30)))
    assert (most, done) == (3, 30)
    assert await limiter.holders("u") == 0
    assert limiter.statistics().granted == 30


async def test_a_free_place_is_one_round_trip_and_giving_it_back_another(
    fault_proxy: FaultProxy, namespace: str
) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        limiter = places(client, namespace, 2)
        async with limiter.hold("warm-up"):
            pass
        async with assert_round_trips(fault_proxy, 2), limiter.hold("u"):
            pass


async def test_first_come_first_served_over_processes(redis_client: Redis, redis_url: str, namespace: str) -> None:
    limiter = places(redis_client, namespace, 1)
    async with Redis.from_url(redis_url) as other_client:
        other = places(other_client, namespace, 1)
        order: list[int] = []

        async def waiter(number: int) -> None:
            async with (limiter if number % 2 else other).hold("u"):
                order.append(number)

        async with limiter.hold("u"):
            tasks: list[asyncio.Task[None]] = []
            for number in range(6):
                tasks.append(asyncio.create_task(waiter(number)))
                while await redis_client.zcard(limiter._keys.key("u", "line")) <= number:
                    await asyncio.sleep(0.002)
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks)
        assert order == list(range(6))
        await lane_of(other_client).aclose()


async def test_a_waiter_is_woken_and_does_not_poll(redis_client: Redis, namespace: str) -> None:
    limiter = places(redis_client, namespace, 1)
    async with limiter.hold("u"):
        waiting = asyncio.create_task(limiter.acquire("u"))
        while not await redis_client.exists(limiter._keys.key("u", "line")):
            await asyncio.sleep(0.002)
        commands = lane_of(redis_client).statistics().commands
        await asyncio.sleep(0.6)
        assert lane_of(redis_client).statistics().commands - commands < 2
    async with asyncio.timeout(5):
        place = await waiting
    assert await limiter.release(place)


async def test_no_place_in_time(redis_client: Redis, namespace: str) -> None:
    limiter = places(redis_client, namespace, 1)
    async with limiter.hold("u"):
        for timeout in (0, 0.05):
            with pytest.raises(ConcurrencyLimitExceeded) as caught:
                async with limiter.hold("u", timeout=timeout):
                    raise AssertionError("not reached")
            assert (caught.value.key, caught.value.limit) == ("u", 1)
        assert await limiter.try_acquire("u") is None
    async with asyncio.timeout(5):
        async with limiter.hold("u"):
            pass


async def test_a_late_release_gives_nobody_elses_place_away(redis_client: Redis, namespace: str) -> None:
    limiter = places(redis_client, namespace, 1, lease=0.2)
    first = await limiter.acquire("u")
    await asyncio.sleep(0.25)
    second = await limiter.acquire("u", timeout=0)
    assert await limiter.renew(first) is False
    assert first.lost.is_set()
    assert await limiter.release(first) is False
    assert await limiter.try_acquire("u") is None
    assert await limiter.release(second)


CRASH = """
import asyncio, sys
from redis.asyncio import Redis
from aredis_patterns import ConcurrencyLimiter

async def main():
    limiter = ConcurrencyLimiter(Redis.from_url(sys.argv[1]), 1, lease=0.6, namespace=sys.argv[2], deadline=5)
    async with limiter.hold("u"):
        print("held", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_killed_holder_costs_its_lease_and_no_more(redis_url: str, redis_client: Redis, namespace: str) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", CRASH, redis_url, namespace], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == b"held\n"
    limiter = places(redis_client, namespace, 1, lease=0.6)
    waiting = asyncio.create_task(limiter.acquire("u"))
    await asyncio.sleep(0.8)
    assert not waiting.done()  # renewed, for as long as it lives
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    start = time.monotonic()
    async with asyncio.timeout(5):
        place = await waiting
    assert time.monotonic() - start < 3
    await limiter.release(place)


async def test_cancelled_anywhere_no_place_stays_taken(redis_client: Redis, namespace: str) -> None:
    limiter = places(redis_client, namespace, 1)

    async def critical() -> None:
        async with limiter.hold("u"):
            await asyncio.sleep(0)

    async def free() -> None:
        for _ in range(200):
            if not await redis_client.exists(limiter._keys.key("u"), limiter._keys.key("u", "line")):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("somebody who left holds a place, or stands in line")

    await cancel_everywhere(critical, check=free)


async def test_a_waiter_that_leaves_is_passed_over(redis_client: Redis, namespace: str) -> None:
    limiter = places(redis_client, namespace, 1)
    async with limiter.hold("u"):
        first = asyncio.create_task(limiter.acquire("u"))
        while await redis_client.zcard(limiter._keys.key("u", "line")) < 1:
            await asyncio.sleep(0.002)
        second = asyncio.create_task(limiter.acquire("u"))
        while await redis_client.zcard(limiter._keys.key("u", "line")) < 2:
            await asyncio.sleep(0.002)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    async with asyncio.timeout(5):
        assert await limiter.release(await second)


async def test_without_pubsub_it_looks_again_now_and_then(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.execute_command("ACL SETUSER app on >pw ~* +@all resetchannels")
    async with Redis.from_url(own_server.url, username="app", password="pw") as client:
        limiter = ConcurrencyLimiter(client, 1, deadline=5)
        place = await limiter.acquire("u")
        waiting = asyncio.create_task(limiter.acquire("u"))
        await asyncio.sleep(0.1)
        await limiter.release(place)
        async with asyncio.timeout(5):
            assert await limiter.release(await waiting)
        await lane_of(client).aclose()


async def test_a_holder_that_is_cut_off_is_told(own_server: EmbeddedServer) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        limiter = ConcurrencyLimiter(client, 1, lease=0.3, deadline=0.1)
        async with limiter.hold("u") as place:
            own_server.pause()
            try:
                async with asyncio.timeout(5):
                    await place.lost.wait()
            finally:
                own_server.resume()
        assert limiter.statistics().lost == 1
