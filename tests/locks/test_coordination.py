"""Redlock on five servers, elections, latches, fenced values, `synchronized`, replicas."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import PipelinedRedis, PipelinedRedisCluster, inbox_of
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import (
    LockAlreadyHeld,
    LockLost,
    LockNotOwned,
    LockTimeout,
    NotReplicated,
    StaleFencingToken,
)
from aredis_patterns.locks import CountDownLatch, FencedStore, LeaderElection, Lease, Lock, Redlock, synchronized
from aredis_patterns.testing import cancel_everywhere

# Redlock -------------------------------------------------------------------------------------------------------------


class Five:
    """Five independent servers, and two sets of clients: two processes."""

    def __init__(self, servers: list[EmbeddedServer], clients: list[Redis], others: list[Redis]) -> None:
        self.servers, self.clients, self.others = servers, clients, others


@pytest.fixture
async def five() -> AsyncGenerator[Five, None]:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(EmbeddedServer()) for _ in range(5)]
        sets = [[await stack.enter_async_context(PipelinedRedis.from_url(s.url)) for s in servers] for _ in range(2)]
        yield Five(servers, *sets)


async def test_redlock_excludes_and_releases_everywhere(five: Five) -> None:
    lock, rival = Redlock(five.clients, "a"), Redlock(five.others, "a")
    fences = []
    async with lock as lease:
        fences.append(lease.fencing_token)
        assert await lock.locked()
        assert await rival.try_acquire() is None
        assert await rival.acquire(timeout=0.1) is False
        with pytest.raises(LockAlreadyHeld):
            await lock.acquire()
    for client in five.clients:
        assert await client.exists(lock.keys.held) == 0
    async with rival.using(timeout=5) as lease:
        fences.append(lease.fencing_token)
    assert fences == sorted(set(fences))
    with pytest.raises(LockNotOwned):
        await lock.release()


async def test_redlock_with_two_of_five_dead_or_silent(five: Five) -> None:
    """Pitfall 35: acquired within the time of one node, held, renewed, released; fences rise over any majority."""
    lock, rival = Redlock(five.clients, "a", ttl=1.5), Redlock(five.others, "a", ttl=1.5)
    fences = []
    async with lock as lease:
        fences.append(lease.fencing_token)
    await five.servers[0].kill()
    five.servers[1].pause()
    start = time.monotonic()
    async with lock as lease:
        assert time.monotonic() - start < 1
        fences.append(lease.fencing_token)
        await asyncio.sleep(2)
        lease.check()
        assert await rival.try_acquire() is None
    five.servers[1].resume()
    await five.servers[0].restart()
    await five.servers[2].kill()
    for each in (rival, lock):
        async with asyncio.timeout(10):
            async with each as lease:
                fences.append(lease.fencing_token)
    assert all(later > earlier for earlier, later in itertools.pairwise(fences))


async def test_redlock_without_a_majority_is_refused_and_lost(five: Five) -> None:
    lock = Redlock(five.clients, "a", ttl=0.9)
    with pytest.raises(LockLost):
        async with lock:
            for server in five.servers[:3]:
                await server.kill()
            await asyncio.sleep(30)
    assert await lock.try_acquire() is None
    for client in five.clients[3:]:
        await client.ping()
        assert await client.exists(lock.keys.held) == 0


async def test_a_split_vote_is_given_back_before_the_next_attempt(five: Five) -> None:
    """Pitfall 35: three rivals at once; nobody blocks itself with what it holds on a minority."""
    counter = 0

    async def work(clients: list[Redis]) -> None:
        nonlocal counter
        async with Redlock(clients, "a"):
            seen = counter
            await asyncio.sleep(0.001)
            counter = seen + 1

    async with asyncio.timeout(20):
        await asyncio.gather(
            *(work(clients) for clients in (five.clients, five.others, five.clients) for _ in range(2))
        )
    assert counter == 6


async def test_redlock_cancelled_at_every_point(five: Five) -> None:
    lock = Redlock(five.clients, "a", ttl=30)

    async def critical() -> None:
        async with lock:
            await asyncio.sleep(0)

    async def check() -> None:
        for client in five.clients:
            assert await client.exists(lock.keys.held) == 0

    await critical()
    await cancel_everywhere(critical, check=check, max_ticks=60)


def test_redlock_needs_different_servers() -> None:
    client = Redis(port=1)
    with pytest.raises(ValueError, match="at least one"):
        Redlock([], "a")
    with pytest.raises(ValueError, match="different"):
        Redlock([client, client], "a")


# election ------------------------------------------------------------------------------------------------------------


async def test_followers_lead_in_order_and_terms_rise(client: Redis, other: Redis, namespace: str) -> None:
    first = LeaderElection(client, "jobs", candidate="one", namespace=namespace)
    second = LeaderElection(other, "jobs", candidate="two", namespace=namespace)
    terms: list[tuple[str, int]] = []
    done = asyncio.Event()

    async def lead(election: LeaderElection, term: Lease) -> None:
        terms.append((election.candidate, term.fencing_token))
        await done.wait()

    running = [asyncio.create_task(first.run(lambda term: lead(first, term)))]
    while not first.leading:
        await asyncio.sleep(0.002)
    running.append(asyncio.create_task(second.run(lambda term: lead(second, term))))
    leader = await second.leader()
    while leader is None or not leader.followers:
        await asyncio.sleep(0.002)
        leader = await second.leader()
    assert (leader.candidate, leader.term) == ("one", terms[0][1])
    assert not second.leading
    start = time.monotonic()
    assert first.resign() is True
    assert first.resign() is False
    while not second.leading:
        await asyncio.sleep(0.001)
    assert time.monotonic() - start < 0.5
    await running[0]
    done.set()
    await running[1]
    assert [name for name, _ in terms] == ["one", "two"]
    assert terms[1][1] > terms[0][1]
    assert await first.leader() is None


async def test_a_deposed_leader_stops_and_campaigns_again(client: Redis, namespace: str) -> None:
    election = LeaderElection(client, "jobs", ttl=0.3, namespace=namespace)
    terms: list[int] = []

    async def lead(term: Lease) -> None:
        terms.append(term.fencing_token)
        if len(terms) < 3:
            await client.delete(election._lock.keys.held)
            await asyncio.sleep(30)

    async with asyncio.timeout(10):
        await election.run(lead)
    assert len(terms) == 3
    assert terms == sorted(set(terms))
    with pytest.raises(ZeroDivisionError):
        await election.run(lambda term: _fail())
    with pytest.raises(LockLost):
        async with election:
            await client.delete(election._lock.keys.held)
            await asyncio.sleep(30)
    async with election:
        assert election.resign()
        await asyncio.sleep(30)


async def _fail() -> None:
    raise ZeroDivisionError


# latch ---------------------------------------------------------------------------------------------------------------


async def test_a_latch_opens_once_everybody_has_arrived(client: Redis, other: Redis, namespace: str) -> None:
    latch, remote = (CountDownLatch(each, "l", 3, namespace=namespace) for each in (client, other))
    await inbox_of(other, namespace).open()
    waiting = [asyncio.create_task(remote.wait(timeout=10)) for _ in range(5)]
    assert await latch.wait(timeout=0) is False
    assert await latch.wait(timeout=0.02) is False
    assert await latch.count_down("a") == 2
    assert await latch.count_down("a") == 2
    assert await latch.count_down() == 1
    assert await remote.remaining() == 1
    assert not any(task.done() for task in waiting)
    start = time.monotonic()
    assert await latch.count_down("c") == 0
    assert all(await asyncio.gather(*waiting))
    assert time.monotonic() - start < 1
    assert await latch.count_down("d") == 0
    assert await remote.wait() is True
    assert await latch.reset() is True
    assert await latch.remaining() == 3
    with pytest.raises(ValueError, match="count"):
        CountDownLatch(client, "l", 0)


async def test_waiting_for_a_latch_leaves_nothing_when_cancelled(client: Redis, namespace: str) -> None:
    latch = CountDownLatch(client, "l", 1, namespace=namespace)

    async def wait() -> None:
        await latch.wait(timeout=0.01)

    async def check() -> None:
        assert await client.exists(latch._queue) == 0
        assert inbox_of(client, namespace).waiting == 0

    await wait()
    await cancel_everywhere(wait, check=check, max_ticks=25)


# fenced store --------------------------------------------------------------------------------------------------------


async def test_a_stale_writer_is_refused_by_the_resource(client: Redis, other: Redis, namespace: str) -> None:
    """What a lock alone cannot do: its holder was paused beyond the ttl, and writes when it wakes up."""
    store: FencedStore[str] = FencedStore(client, "report", namespace=namespace)
    assert await store.get() is None
    assert await store.newest() == 0
    stale = await Lock(client, "a", ttl=0.1, auto_renew=False, cancel_on_loss=False, namespace=namespace).try_acquire()
    assert stale is not None
    await store.set("mine", fence=stale.fencing_token)
    await stale.lost.wait()
    async with Lock(other, "a", namespace=namespace) as lease:
        await store.check(fence=lease.fencing_token)
        with pytest.raises(StaleFencingToken) as caught:
            await store.set("too late", fence=stale.fencing_token)
        assert (caught.value.token, caught.value.newest) == (stale.fencing_token, lease.fencing_token)
        assert await store.get() == "mine"
        await store.set("theirs", fence=lease.fencing_token)
        await store.set("theirs again", fence=lease.fencing_token)
    assert await store.get() == "theirs again"
    assert await store.newest() == lease.fencing_token


@pytest.mark.parametrize("fence", [-1, 1.5, True, None, 2**53])
async def test_a_fence_is_a_whole_number(fence: Any) -> None:
    with pytest.raises(ValueError, match="fencing token"):
        await FencedStore(Redis(port=1), "x").set(1, fence=fence)


# synchronized --------------------------------------------------------------------------------------------------------


async def test_synchronized_locks_per_key(client: Redis, namespace: str) -> None:
    inside: list[int] = []

    @synchronized(lambda: client, key="user:{user_id}", namespace=namespace)
    async def charge(user_id: int, amount: int = 1) -> int:
        """Charge."""
        assert user_id not in inside
        inside.append(user_id)
        await asyncio.sleep(0.002)
        inside.remove(user_id)
        return amount

    @synchronized(client, timeout=0.05, namespace=namespace)
    async def nightly() -> None:
        await asyncio.sleep(0.3)

    assert charge.__doc__ == "Charge."
    assert await asyncio.gather(*(charge(number % 3, amount=number) for number in range(12))) == list(range(12))
    first = asyncio.create_task(nightly())
    await asyncio.sleep(0.01)
    with pytest.raises(LockTimeout):
        await nightly()
    await first


def test_synchronized_checks_what_it_decorates() -> None:
    client = Redis(port=1)
    with pytest.raises(ValueError, match="'nobody'"):

        @synchronized(client, key="user:{nobody}")
        async def f(user_id: int) -> None: ...

    with pytest.raises(TypeError, match="async"):

        @synchronized(client)  # type: ignore[arg-type]
        def g() -> None: ...


# replicas ------------------------------------------------------------------------------------------------------------


async def test_min_replicas() -> None:
    """Pitfall 30: refused while too few replicas have it; with one, it survives a failover."""
    async with (
        EmbeddedServer(unix_socket=False, config={"repl-diskless-sync-delay": "0"}) as primary,
        EmbeddedServer(unix_socket=False) as replica,
        PipelinedRedis.from_url(primary.url) as client,
        PipelinedRedis.from_url(replica.url) as promoted,
    ):
        lock = Lock(client, "a", min_replicas=1, deadline=0.3, cancel_on_loss=False)
        with pytest.raises(NotReplicated, match="0 of 1"):
            await lock.acquire()
        await client.ping()
        assert not await lock.locked()
        await promoted.replicaof("127.0.0.1", primary.port)
        async with asyncio.timeout(20):
            while (await client.info("replication"))["connected_slaves"] == 0 or await promoted.exists("up") == 0:
                await client.set("up", 1)
                await asyncio.sleep(0.02)
        lease = await lock.try_acquire()
        assert lease is not None
        await primary.kill()
        await promoted.replicaof("NO", "ONE")
        assert await Lock(promoted, "a").try_acquire() is None
        lease.lose("the test ends")


def test_min_replicas_is_not_for_a_cluster() -> None:
    with pytest.raises(ValueError, match="Cluster"):
        Lock(PipelinedRedisCluster(host="127.0.0.1", port=1), "a", min_replicas=1)
