"""Cancelled at any point, a lock leaves nothing behind: no key, no place in the queue, no task, no connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import PipelinedRedis, inbox_of, lane_of
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import LockLost
from aredis_patterns.locks import Lock
from aredis_patterns.testing import FaultProxy, cancel_everywhere


async def cycle(lock: Lock) -> None:
    async with lock:
        pass


async def free(redis: Redis, lock: Lock) -> None:
    """Nothing but the fence is left, at once: the undo lies before this question on the same connection."""
    assert await redis.exists(lock.keys.held) == 0, "the lock is still held"
    assert await redis.zcard(lock.keys.queue) == 0, "somebody is still in the queue"


async def test_cancelled_at_every_point_of_a_cycle(client: Redis, namespace: str, fair: bool) -> None:
    """Pitfalls 2 and 3: natively, twice in a row, by an anyio scope."""
    lock = Lock(client, "a", fair=fair, namespace=namespace)

    async def critical() -> None:
        async with lock:
            await asyncio.sleep(0)

    await critical()
    before = client.statistics()
    assert await cancel_everywhere(critical, check=lambda: free(client, lock)) > 10
    assert client.statistics().reconnects == before.reconnects
    assert await client.info("clients") is not None
    async with lock:
        pass


async def test_cancelled_at_every_point_with_an_empty_script_cache(own_server: EmbeddedServer) -> None:
    """Pitfall 3: the release needs two steps when the server has forgotten the script."""
    async with PipelinedRedis.from_url(own_server.url) as client:
        lock = Lock(client, "a")

        async def critical() -> None:
            await client.script_flush()
            async with lock:
                await client.script_flush()

        await critical()
        await cancel_everywhere(critical, check=lambda: free(client, lock))


async def test_cancelled_at_every_point_of_waiting(client: Redis, other: Redis, namespace: str, fair: bool) -> None:
    """Queued, woken, granted or waiting for the inbox: whoever is cancelled stands in nobody's way."""
    holder, lock = Lock(client, "a", namespace=namespace), Lock(other, "a", fair=fair, namespace=namespace)
    await inbox_of(other, namespace).open()

    async def critical() -> None:
        lease = await holder.try_acquire()
        assert lease is not None
        try:
            asyncio.get_running_loop().call_later(0.001, lease.release_nowait)
            async with lock:
                pass
        finally:
            lease.release_nowait()

    async def check() -> None:
        await client.ping()
        await free(other, lock)

    await cancel_everywhere(critical, check=check, max_ticks=40, ignore_task=lambda task: "look" in task.get_name())


async def test_a_waiter_cancelled_when_it_is_woken_passes_it_on(
    client: Redis, other: Redis, redis_client: Redis, namespace: str, fair: bool, queued: Any
) -> None:
    """Pitfall 17: the wake-up is not lost with the one who was woken."""
    lock = Lock(client, "a", namespace=namespace)
    first_lock, second_lock = (Lock(each, "a", fair=fair, namespace=namespace) for each in (other, redis_client))
    for _ in range(20):
        lease = await lock.try_acquire()
        assert lease is not None
        first = asyncio.create_task(first_lock.acquire())
        await queued(client, lock)
        second = asyncio.create_task(cycle(second_lock))
        await queued(client, lock, 2)
        site = first_lock._here()
        (waiter,) = site.room._waiters
        wake = waiter.wake

        def wake_and_cancel(payload: bytes | None = None, wake: Any = wake, task: Any = first) -> None:
            wake(payload)
            task.cancel()

        site.inbox.expect(waiter.token, wake_and_cancel)
        await lease.release()
        async with asyncio.timeout(0.4):  # sooner than a reservation ends
            await second
        with pytest.raises(asyncio.CancelledError):
            await first
    await lane_of(redis_client).aclose()


async def test_timeouts_at_the_edge_leak_nothing(client: Redis, namespace: str, fair: bool) -> None:
    """Pitfall 4: deadlines as long as a round trip."""
    lock = Lock(client, "a", fair=fair, namespace=namespace)
    async with lock:
        pass
    outcomes = set()
    for step in range(60):
        try:
            async with asyncio.timeout(step * 0.00001):
                async with lock:
                    outcomes.add("held")
        except TimeoutError:
            outcomes.add("timeout")
        await free(client, lock)
    assert "timeout" in outcomes


async def test_a_lost_reply_of_acquire_costs_a_round_trip_not_a_ttl(fault_proxy: FaultProxy, namespace: str) -> None:
    """Pitfall 5: it does not wait for itself."""
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        lock = Lock(client, "a", ttl=30, namespace=namespace)
        async with lock:
            pass
        lost = fault_proxy.drop_replies("EVALSHA", times=1)
        async with asyncio.timeout(5):
            async with lock as lease:
                assert lost.applied == 1
                assert lease.held


async def test_a_lost_reply_of_release_is_success(fault_proxy: FaultProxy, namespace: str) -> None:
    """Pitfall 5."""
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        lock = Lock(client, "a", ttl=30, namespace=namespace)
        for _ in range(2):
            await lock.acquire()
            lost = fault_proxy.drop_replies("EVALSHA", times=1)
            await lock.release()
            assert lost.applied == 1
            assert not await lock.locked()


async def test_an_acquire_that_arrives_late_is_still_undone(
    fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    """Pitfall 6."""
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        lock = Lock(client, "a", ttl=30, namespace=namespace)
        async with lock:
            pass
        held = fault_proxy.hold_commands("EVALSHA", times=1)
        task = asyncio.create_task(lock.acquire())
        await held.until_applied()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        undone = fault_proxy.watch("EVAL")
        held.release()
        await undone.until_answered()
        await free(redis_client, lock)


async def test_an_undo_survives_the_loss_of_its_connection(
    fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        lock = Lock(client, "a", ttl=30, namespace=namespace)
        async with lock:
            pass
        fault_proxy.reset_before("EVAL", times=1)
        undone = fault_proxy.watch("EVAL")
        task = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await undone.until_answered()
        await free(redis_client, lock)


async def test_a_body_that_is_cancelled_releases(client: Redis, namespace: str) -> None:
    lock = Lock(client, "a", namespace=namespace)
    inside = asyncio.Event()

    async def work() -> None:
        async with lock:
            inside.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1
    await free(client, lock)


async def test_an_error_in_the_body_is_the_error_that_is_seen(client: Redis, namespace: str) -> None:
    """Pitfall 27: also when the lock was lost meanwhile; then it carries a note."""
    lock = Lock(client, "a", cancel_on_loss=False, namespace=namespace)
    with pytest.raises(ZeroDivisionError) as caught:
        async with lock:
            raise ZeroDivisionError
    assert not hasattr(caught.value, "__notes__")
    await free(client, lock)
    with pytest.raises(ZeroDivisionError) as caught:
        async with lock:
            await lock.force_release()
            raise ZeroDivisionError
    assert "lost" in caught.value.__notes__[0]
    with pytest.raises(LockLost):
        async with lock:
            await lock.force_release()
