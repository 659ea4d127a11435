"""`Semaphore`, `ReadWriteLock` and `MultiLock`: how many are in, who is next, and what the dead leave."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import PipelinedRedis, inbox_of
from aredis_patterns.exceptions import LockAlreadyHeld, LockLost, LockNotOwned
from aredis_patterns.locks import Lock, MultiLock, ReadWriteLock, Semaphore
from aredis_patterns.testing import FaultProxy, assert_round_trips, cancel_everywhere


async def keys_left(client: Redis, namespace: str) -> list[bytes]:
    """All but the memory of fences."""
    await client.ping()
    return [key async for key in client.scan_iter(match=f"{namespace}*") if not key.endswith(b":fence")]


# semaphore -----------------------------------------------------------------------------------------------------------


async def test_a_semaphore_lets_in_so_many(client: Redis, other: Redis, namespace: str) -> None:
    inside = most = 0

    async def work(number: int) -> None:
        nonlocal inside, most
        async with Semaphore((client, other)[number % 2], "s", 3, namespace=namespace):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*(work(number) for number in range(40)))
    assert most == 3
    assert await keys_left(client, namespace) == []


async def test_weights_are_all_or_nothing_and_in_order(client: Redis, namespace: str) -> None:
    light, heavy = (
        Semaphore(client, "s", 4, namespace=namespace),
        Semaphore(client, "s", 4, weight=3, namespace=namespace),
    )
    first, second = await light.try_acquire(), await light.try_acquire()
    assert first is not None
    assert second is not None
    assert await light.in_use() == 2
    assert await heavy.try_acquire() is None
    assert await light.in_use() == 2
    waiting = asyncio.create_task(heavy.acquire())
    while not await client.zcard(heavy.keys.queue):
        await asyncio.sleep(0.002)
    assert await light.try_acquire() is None, "somebody passed the one who waits"
    await first.release()
    assert await waiting
    assert await light.in_use() == 4
    await second.release()


async def test_double_release_gives_nothing_twice(client: Redis, namespace: str) -> None:
    """Pitfall 32."""
    semaphore = Semaphore(client, "s", 2, ttl=0.2, auto_renew=False, cancel_on_loss=False, namespace=namespace)
    lease = await semaphore.try_acquire()
    assert lease is not None
    await lease.release()
    with pytest.raises(LockNotOwned):
        await lease.release()
    lapsed = await semaphore.try_acquire()
    assert lapsed is not None
    await lapsed.lost.wait()
    await asyncio.sleep(0.01)
    leases = [await semaphore.try_acquire() for _ in range(3)]
    assert [each is not None for each in leases] == [True, True, False]
    with pytest.raises(LockLost):
        await lapsed.release()
    assert await semaphore.in_use() == 2


def _hold_permits(url: str, namespace: str, events: Any) -> None:
    async def run() -> None:
        async with PipelinedRedis.from_url(url) as client:
            for _ in range(3):
                assert await Semaphore(client, "s", 5, ttl=0.8, namespace=namespace).try_acquire()
            events.put("held")
            await asyncio.sleep(60)

    asyncio.run(run())


async def test_permits_of_a_killed_process_come_back_once(redis_url: str, client: Redis, namespace: str) -> None:
    """Pitfall 32: the process that holds three of five is killed; capacity is five again after the lease, and never above."""
    spawn = multiprocessing.get_context("spawn")
    events = spawn.Queue()
    child = spawn.Process(target=_hold_permits, args=(redis_url, namespace, events), daemon=True)
    child.start()
    assert await asyncio.to_thread(events.get, timeout=20) == "held"
    child.kill()
    child.join(10)
    semaphore = Semaphore(client, "s", 5, namespace=namespace)
    start = time.monotonic()
    async with asyncio.timeout(5):
        for _ in range(5):
            assert await semaphore.acquire()
    assert time.monotonic() - start < 2
    assert await semaphore.try_acquire() is None
    for _ in range(5):
        await semaphore.release()
    assert await semaphore.in_use() == 0


async def test_a_lost_permit_cancels_the_body(client: Redis, namespace: str) -> None:
    semaphore = Semaphore(client, "s", 2, weight=2, ttl=0.3, namespace=namespace)
    with pytest.raises(LockLost):
        async with semaphore as lease:
            await asyncio.sleep(0.5)
            lease.check()  # renewed
            await client.zrem(semaphore.keys.held, f"{lease.token}:2")
            await asyncio.sleep(30)


@pytest.mark.parametrize(("limit", "weight"), [(0, 1), (-1, 1), (True, 1), (1.5, 1), (2, 3), (2, 0)])
def test_senseless_limits_are_refused(limit: Any, weight: Any) -> None:
    with pytest.raises(ValueError, match="limit|weight"):
        Semaphore(Redis(port=1), "s", limit, weight=weight)


# read-write ----------------------------------------------------------------------------------------------------------


async def test_many_read_or_one_writes(client: Redis, other: Redis, namespace: str) -> None:
    locks = [ReadWriteLock(each, "rw", namespace=namespace) for each in (client, other)]
    readers = writers = most = 0

    async def read(number: int) -> None:
        nonlocal readers, most
        async with locks[number % 2].read():
            readers += 1
            most = max(most, readers)
            assert writers == 0
            await asyncio.sleep(0.001)
            readers -= 1

    async def write(number: int) -> None:
        nonlocal writers
        async with locks[number % 2].write():
            writers += 1
            assert (readers, writers) == (0, 1)
            await asyncio.sleep(0.001)
            writers -= 1

    await asyncio.gather(*(write(number) if number % 6 == 0 else read(number) for number in range(60)))
    assert most > 1
    assert await keys_left(client, namespace) == []


async def test_a_writer_waits_for_one_round_of_readers(client: Redis, other: Redis, namespace: str) -> None:
    """Pitfall 33: readers in a loop do not keep it out, nor does it keep them out."""
    lock, remote = ReadWriteLock(client, "rw", namespace=namespace), ReadWriteLock(other, "rw", namespace=namespace)
    stop, seen = False, []

    async def reader() -> None:
        while not stop:
            async with lock.read():
                seen.append("r")
                await asyncio.sleep(0.002)

    tasks = [asyncio.create_task(reader()) for _ in range(5)]
    while len(seen) < 10:
        await asyncio.sleep(0.001)
    async with asyncio.timeout(5):
        for _ in range(3):
            async with remote.write():
                seen.append("w")
            before = len(seen)
            while len(seen) == before:  # and readers go on
                await asyncio.sleep(0.001)
    stop = True
    await asyncio.gather(*tasks)


async def test_queued_readers_come_before_the_next_writer(client: Redis, other: Redis, namespace: str) -> None:
    lock, order = ReadWriteLock(client, "rw", namespace=namespace), []
    remote = ReadWriteLock(other, "rw", namespace=namespace)

    async def work(side: Any, name: str) -> None:
        async with side:
            order.append(name)
            await asyncio.sleep(0.01)

    async def in_queue(count: int) -> None:
        while await client.zcard(lock.keys.readers) + await client.zcard(lock.keys.writers) < count:
            await asyncio.sleep(0.002)

    async with lock.write():
        tasks = []
        for number, (side, name) in enumerate(
            [(remote.write(), "w1"), (lock.read(), "r1"), (remote.read(), "r2"), (lock.write(), "w2")], 1
        ):
            tasks.append(asyncio.create_task(work(side, name)))
            await in_queue(number)
    await asyncio.gather(*tasks)
    assert set(order[:2]) == {"r1", "r2"}
    assert order[2:] == ["w1", "w2"]


async def test_a_dead_reader_is_in_the_way_for_one_ttl(client: Redis, other: Redis, namespace: str) -> None:
    """Pitfall 33: and the renewals of others do not keep it alive."""
    dead = ReadWriteLock(client, "rw", ttl=0.4, auto_renew=False, cancel_on_loss=False, namespace=namespace)
    living = ReadWriteLock(other, "rw", ttl=0.4, namespace=namespace)
    assert await dead.read().try_acquire()
    async with living.read():
        await asyncio.sleep(0.6)
    async with asyncio.timeout(3):
        async with living.write():
            assert len(await client.zrange(living.keys.held, 0, -1)) == 1


async def test_upgrading_is_an_error_not_a_deadlock(client: Redis, namespace: str) -> None:
    lock = ReadWriteLock(client, "rw", namespace=namespace)
    async with lock.read():
        async with lock.read():
            pass
        with pytest.raises(LockAlreadyHeld):
            async with lock.write():
                pass
        assert await lock.write().try_acquire() is None
    async with lock.write():
        with pytest.raises(LockAlreadyHeld):
            async with lock.read():
                pass


async def test_a_writer_that_gives_up_lets_the_readers_in(client: Redis, other: Redis, namespace: str) -> None:
    lock, remote = ReadWriteLock(client, "rw", namespace=namespace), ReadWriteLock(other, "rw", namespace=namespace)
    async with lock.read():
        writer = asyncio.create_task(remote.write().acquire())
        while not await client.zcard(lock.keys.writers):
            await asyncio.sleep(0.002)
        reader = asyncio.create_task(remote.read().acquire())
        while not await client.zcard(lock.keys.readers):
            await asyncio.sleep(0.002)
        writer.cancel()
        async with asyncio.timeout(2):
            assert await reader


# multi ---------------------------------------------------------------------------------------------------------------


async def test_opposite_orders_never_deadlock(client: Redis, other: Redis, namespace: str) -> None:
    """Pitfall 34: with cancellations in between; nobody holds a part."""
    counter = entered = 0

    async def work(number: int) -> None:
        nonlocal counter, entered
        keys = ["A", "B"] if number % 2 else ["B", "A", "C"]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.004 if number % 5 == 0 else 20):
                async with MultiLock((client, other)[number % 2], keys, namespace=namespace):
                    seen = counter
                    await asyncio.sleep(0)
                    counter = seen + 1
                    entered += 1

    for _ in range(5):
        await asyncio.gather(*(work(number) for number in range(60)))
    assert counter == entered >= 240
    assert await keys_left(client, namespace) == []
    await other.ping()


async def test_a_multi_lock_and_a_lock_exclude_one_another(client: Redis, other: Redis, namespace: str) -> None:
    both = MultiLock(client, ["A", "B"], namespace=namespace)
    single = Lock(other, "B", namespace=namespace)
    async with both as lease:
        assert await single.try_acquire() is None
        assert await both.try_acquire() is None
        waiting = asyncio.create_task(single.acquire())
        while not await client.zcard(single.keys.queue):
            await asyncio.sleep(0.002)
    assert await waiting
    assert await Lock(client, "A", namespace=namespace).acquire()
    info = await single.info()
    assert info is not None
    assert info.fencing_token > lease.fencing_token


async def test_one_lost_key_loses_all_and_frees_the_rest(client: Redis, namespace: str) -> None:
    """Pitfall 34."""
    both = MultiLock(client, ["A", "B"], ttl=0.3, namespace=namespace)
    with pytest.raises(LockLost):
        async with both:
            await asyncio.sleep(0.5)
            await client.delete(both.all_keys[0].held)
            await asyncio.sleep(30)
    assert await keys_left(client, namespace) == []
    with pytest.raises(LockAlreadyHeld):
        async with both, both:
            pass
    with pytest.raises(ValueError, match="at least one"):
        MultiLock(client, [])


# all -----------------------------------------------------------------------------------------------------------------

KINDS = {
    "semaphore": lambda client, namespace: Semaphore(client, "s", 1, namespace=namespace),
    "weight": lambda client, namespace: Semaphore(client, "s", 3, weight=2, namespace=namespace),
    "reader": lambda client, namespace: ReadWriteLock(client, "rw", namespace=namespace).read(),
    "writer": lambda client, namespace: ReadWriteLock(client, "rw", namespace=namespace).write(),
    "multi": lambda client, namespace: MultiLock(client, ["A", "B"], namespace=namespace),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
async def test_cancelled_at_every_point_of_a_cycle(client: Redis, namespace: str, kind: str) -> None:
    lockable = KINDS[kind](client, namespace)

    async def critical() -> None:
        async with lockable:
            await asyncio.sleep(0)

    async def check() -> None:
        assert await keys_left(client, namespace) == []

    await critical()
    await cancel_everywhere(critical, check=check)


@pytest.mark.parametrize("kind", ["weight", "writer", "multi"])
async def test_cancelled_at_every_point_of_waiting(client: Redis, other: Redis, namespace: str, kind: str) -> None:
    holder, lockable = KINDS[kind](client, namespace), KINDS[kind](other, namespace)
    await inbox_of(other, namespace).open()

    async def critical() -> None:
        lease = await holder.try_acquire()
        assert lease is not None
        try:
            asyncio.get_running_loop().call_later(0.001, lease.release_nowait)
            async with lockable:
                pass
        finally:
            lease.release_nowait()

    async def check() -> None:
        await client.ping()
        assert await keys_left(other, namespace) == []

    await cancel_everywhere(critical, check=check, max_ticks=30, ignore_task=lambda task: "look" in task.get_name())


@each_kind
async def test_one_round_trip_each(fault_proxy: FaultProxy, namespace: str, kind: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        lockable = KINDS[kind](client, namespace)
        async with lockable:
            pass
        async with assert_round_trips(fault_proxy, 1):
            lease = await lockable.try_acquire()
        assert lease is not None
        async with assert_round_trips(fault_proxy, 1):
            await lease.release()


@each_kind
async def test_a_lost_reply_is_harmless(fault_proxy: FaultProxy, namespace: str, kind: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        lockable = KINDS[kind](client, namespace)
        async with lockable:
            pass
        for nth in (1, 2):
            lost = fault_proxy.drop_replies("EVALSHA", times=1, nth=nth)
            async with asyncio.timeout(5):
                async with lockable as lease:
                    assert lease.held
            assert lost.applied == 1
        assert await keys_left(client, namespace) == []


@each_kind
async def test_fences_rise(client: Redis, namespace: str, kind: str) -> None:
    lockable, seen = KINDS[kind](client, namespace), [0]
    for _ in range(5):
        async with lockable as lease:
            seen.append(lease.fencing_token)
    assert seen == sorted(set(seen))
