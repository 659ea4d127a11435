"""Waiting without polling: who is woken, in which order, and what happens when holders and waiters die or stand still."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster

from aredis_patterns import PipelinedRedis, PipelinedRedisCluster, inbox_of, lane_of
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.locks import Lock, MultiLock, ReadWriteLock, Semaphore, _room
from aredis_patterns.testing import FaultProxy, LocalCluster

Queued = Callable[..., Awaitable[None]]


def _child(url: str, namespace: str, fair: bool, ttl: float, hold: float, events: Any) -> None:
    """Acquire in a process of its own, tell, hold for a while."""

    async def run() -> None:
        async with PipelinedRedis.from_url(url) as client:
            events.put("ready")
            with contextlib.suppress(Exception):
                async with Lock(client, "a", ttl=ttl, fair=fair, namespace=namespace):
                    events.put("held")
                    await asyncio.sleep(hold)

    asyncio.run(run())


@asynccontextmanager
async def process(
    url: str, namespace: str, *, fair: bool, ttl: float, hold: float
) -> AsyncGenerator[tuple[BaseProcess, Any], None]:
    """A process that waits for the lock; ended afterwards, whatever state it is in."""
    spawn = multiprocessing.get_context("spawn")
    events = spawn.Queue()
    child = spawn.Process(target=_child, args=(url, namespace, fair, ttl, hold, events), daemon=True)
    child.start()
    try:
        assert await asyncio.to_thread(events.get, timeout=20) == "ready"
        yield child, events
    finally:
        child.kill()
        child.join(10)
        events.close()


async def test_handed_on_within_a_few_round_trips(
    client: Redis, other: Redis, namespace: str, fair: bool, queued: Queued
) -> None:
    """Nothing polls: of 20 hand-overs, the middle one takes a few milliseconds."""
    mine, theirs = Lock(client, "a", namespace=namespace), Lock(other, "a", fair=fair, namespace=namespace)
    await inbox_of(other, namespace).open()
    took: list[float] = []
    for _ in range(20):
        lease = await mine.try_acquire()
        assert lease is not None
        waiting = asyncio.create_task(_cycle(theirs))
        await queued(client, mine)
        start = time.perf_counter()
        await lease.release()
        await waiting
        took.append(time.perf_counter() - start)
    assert sorted(took)[10] < 0.05


async def _cycle(lock: Any) -> int:
    async with lock as lease:
        return int(lease.fencing_token)


async def test_fair_is_first_come_first_served_over_processes(redis_url: str, namespace: str, queued: Queued) -> None:
    order: list[int] = []
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(PipelinedRedis.from_url(redis_url)) for _ in range(4)]
        lock = Lock(clients[0], "a", namespace=namespace)

        async def work(number: int) -> None:
            async with Lock(clients[number % 4], "a", fair=True, namespace=namespace):
                order.append(number)

        async with lock:
            tasks = []
            for number in range(12):
                tasks.append(asyncio.create_task(work(number)))
                await queued(clients[0], lock, number + 1)
        await asyncio.gather(*tasks)
    assert order == list(range(12))


async def test_nobody_starves_when_newcomers_may_overtake(client: Redis, other: Redis, namespace: str) -> None:
    """A process that takes the lock again and again cannot keep another out."""
    stop = False

    async def greedy() -> None:
        lock = Lock(client, "a", namespace=namespace)
        while not stop:
            async with lock:
                await asyncio.sleep(0.001)

    tasks = [asyncio.create_task(greedy()) for _ in range(4)]
    waits = []
    for _ in range(5):
        start = time.monotonic()
        async with Lock(other, "a", namespace=namespace):
            waits.append(time.monotonic() - start)
    stop = True
    await asyncio.gather(*tasks)
    assert max(waits) < 2


async def test_one_message_per_release_however_many_wait(
    own_server: EmbeddedServer, own_client: Redis, fair: bool
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(PipelinedRedis.from_url(own_server.url)) for _ in range(5)]
        locks = [Lock(client, "a", fair=fair) for client in clients]
        for client in clients:
            await inbox_of(client, "ap").open()
        await _cycle(locks[0])
        await own_client.config_resetstat()
        await asyncio.gather(*(_cycle(locks[number % 5]) for number in range(50)))
        stats = await own_client.info("commandstats")
        published = stats.get("cmdstat_publish", {"calls": 0})["calls"]
        assert published <= 50 * 1.2
        assert stats["cmdstat_evalsha"]["calls"] <= 50 * 4


async def test_tasks_of_one_process_pass_the_lock_on_in_one_command(
    own_server: EmbeddedServer, own_client: Redis
) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        lock = Lock(client, "a")
        await asyncio.gather(*(_cycle(lock) for _ in range(3)))
        await own_client.config_resetstat()
        await asyncio.gather(*(_cycle(lock) for _ in range(100)))
        stats = await own_client.info("commandstats")
        assert stats["cmdstat_evalsha"]["calls"] < 125
        assert "cmdstat_publish" not in stats
        assert lock.statistics().handed_over > 90


async def test_a_release_between_two_looks_is_seen(fault_proxy: FaultProxy, client: Redis, namespace: str) -> None:
    """Pitfall 19: the lock is released while the first waiter is still opening its inbox."""
    async with PipelinedRedis.from_url(fault_proxy.url) as slow:
        lease = await Lock(client, "a", namespace=namespace).try_acquire()
        assert lease is not None
        held = fault_proxy.hold_commands("SUBSCRIBE", times=1)
        waiting = asyncio.create_task(_cycle(Lock(slow, "a", namespace=namespace)))
        await held.until_applied()
        await lease.release()
        held.release()
        async with asyncio.timeout(0.45):
            await waiting


async def test_all_go_on_when_the_connections_that_listen_are_killed(
    own_server: EmbeddedServer, own_client: Redis, fair: bool
) -> None:
    """Pitfall 20."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(PipelinedRedis.from_url(own_server.url)) for _ in range(4)]
        holder = Lock(own_client, "a", ttl=30)
        lease = await holder.try_acquire()
        assert lease is not None
        tasks = [asyncio.create_task(_cycle(Lock(clients[n % 4], "a", ttl=30, fair=fair))) for n in range(20)]
        while await own_client.zcard(holder.keys.queue) < (20 if fair else 4):
            await asyncio.sleep(0.005)
        assert await own_client.execute_command("CLIENT KILL TYPE pubsub") == 4
        await lease.release()
        async with asyncio.timeout(10):  # the ttl is 30
            await asyncio.gather(*tasks)
        await lane_of(own_client).aclose()


async def test_everybody_goes_on_after_the_server_forgot_everything(
    own_server: EmbeddedServer, own_client: Redis, fair: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_room, "LONGEST_REST", 0.3)
    async with PipelinedRedis.from_url(own_server.url) as client:
        lock = Lock(own_client, "a", ttl=60, cancel_on_loss=False)
        assert await lock.try_acquire() is not None
        waiting = [asyncio.create_task(_cycle(Lock(client, "a", fair=fair))) for _ in range(3)]
        while not await own_client.zcard(lock.keys.queue):
            await asyncio.sleep(0.005)
        await own_client.flushall()
        async with asyncio.timeout(10):  # looked for every five seconds, here more often
            await asyncio.gather(*waiting)
        await lane_of(own_client).aclose()


async def test_those_who_wait_for_long_stay_in_the_queue(
    client: Redis, other: Redis, namespace: str, fair: bool, queued: Queued, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue has a TTL, which waiting renews; and should it vanish, they enter their names again."""
    monkeypatch.setattr(_room, "LONGEST_REST", 0.05)
    lock = Lock(client, "a", namespace=namespace)
    async with lock:
        waiting = asyncio.create_task(_cycle(Lock(other, "a", fair=fair, namespace=namespace)))
        await queued(client, lock)
        await client.pexpire(lock.keys.queue, 5000)
        async with asyncio.timeout(5):
            while await client.pttl(lock.keys.queue) <= 5000:
                await asyncio.sleep(0.01)
        await client.delete(lock.keys.queue)
        await queued(client, lock)
    async with asyncio.timeout(5):
        await waiting


async def test_a_killed_holder_is_followed_when_its_lease_ends(
    redis_url: str, client: Redis, namespace: str, fair: bool
) -> None:
    """Pitfall 18."""
    async with process(redis_url, namespace, fair=fair, ttl=0.8, hold=60) as (child, events):
        assert await asyncio.to_thread(events.get, timeout=10) == "held"
        waiting = asyncio.create_task(_cycle(Lock(client, "a", fair=fair, namespace=namespace)))
        await asyncio.sleep(0.05)
        child.kill()
        left = await client.pttl(Lock(client, "a", namespace=namespace).keys.held)
        start = time.monotonic()
        async with asyncio.timeout(5):
            await waiting
        assert time.monotonic() - start < left / 1000 + 0.4


@pytest.mark.parametrize("fate", ["SIGKILL", "SIGSTOP"])
async def test_a_dead_or_paused_head_holds_nobody_up(
    redis_url: str, client: Redis, other: Redis, namespace: str, fair: bool, fate: str, queued: Queued
) -> None:
    """Pitfall 21: the one that should be next has died, or stands still; the one after it does not wait for a ttl."""
    lock = Lock(client, "a", ttl=30, namespace=namespace)
    lease = await lock.try_acquire()
    assert lease is not None
    async with process(redis_url, namespace, fair=fair, ttl=30, hold=60) as (child, _):
        await queued(client, lock)
        waiting = asyncio.create_task(_cycle(Lock(other, "a", ttl=30, fair=fair, namespace=namespace)))
        await queued(client, lock, 2)
        assert child.pid is not None
        os.kill(child.pid, getattr(signal, fate))
        if fate == "SIGKILL":
            child.join(10)
            inbox = await client.pubsub_channels(f"{namespace}*")
            while len(inbox) > 1:  # until the server has noticed
                await asyncio.sleep(0.005)
                inbox = await client.pubsub_channels(f"{namespace}*")
        start = time.monotonic()
        await lease.release()
        async with asyncio.timeout(10):
            await waiting
        assert time.monotonic() - start < (0.3 if fate == "SIGKILL" else 1.2)


async def test_without_the_right_to_listen_it_polls(
    own_server: EmbeddedServer, own_client: Redis, caplog: Any, fair: bool
) -> None:
    """Pitfall 31: Redis 7 gives new users no channels."""
    await own_client.execute_command("ACL SETUSER app on >pw ~* +@all resetchannels")
    async with PipelinedRedis.from_url(own_server.url, username="app", password="pw") as client:
        lease = await Lock(own_client, "a").try_acquire()
        assert lease is not None
        waiting = [asyncio.create_task(_cycle(Lock(client, "a", fair=fair))) for _ in range(3)]
        await asyncio.sleep(0.1)
        await lease.release()
        async with asyncio.timeout(5):
            await asyncio.gather(*waiting)
        told = [record for record in caplog.records if "polling" in record.getMessage()]
        assert len(told) == 1
        await lane_of(own_client).aclose()


@pytest.fixture(scope="module")
def cluster() -> Any:
    with LocalCluster() as running:
        yield running


async def test_in_a_cluster(cluster: LocalCluster, fair: bool) -> None:
    """Pitfall 29: all keys of a lock share a slot; waking works over the bus; a moving slot is followed."""
    async with (
        PipelinedRedisCluster.from_url(cluster.url) as client,
        PipelinedRedisCluster.from_url(cluster.url) as other,
    ):
        counter = 0

        async def work(lockable: Any) -> None:
            nonlocal counter
            async with lockable:
                seen = counter
                await asyncio.sleep(0.001)
                counter = seen + 1

        for makes in (
            [Lock(each, "a", fair=fair) for each in (client, other)],
            [MultiLock(each, keys) for each, keys in ((client, ["a", "b", "c"]), (other, ["c", "a"]))],
            [Semaphore(each, "s", 1) for each in (client, other)],
            [ReadWriteLock(each, "rw").write() for each in (client, other)],
        ):
            counter = 0
            async with asyncio.timeout(20):
                await asyncio.gather(*(work(makes[number % 2]) for number in range(10)))
            assert counter == 10


async def test_a_slot_that_moves_while_a_lock_is_held(cluster: LocalCluster) -> None:
    async with PipelinedRedisCluster.from_url(cluster.url) as client:
        lock = Lock(client, "moving", ttl=0.9)
        slot = RedisCluster.keyslot(client, lock.keys.held)
        source = cluster.owner(slot)
        async with lock as lease:
            await cluster.move(slot, source, (source + 1) % 3)
            await asyncio.sleep(0.7)
            lease.check()
            assert await lock.try_acquire() is None
        assert not await lock.locked()
        await cluster.move(slot, (source + 1) % 3, source)
