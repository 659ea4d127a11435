"""A tour of the locks. Never run; mypy and pyright must accept it."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from redis.asyncio import Redis, RedisCluster

from aredis_patterns import (
    CountDownLatch,
    FencedStore,
    Leader,
    LeaderElection,
    Lease,
    Lock,
    LockInfo,
    LockStatistics,
    MultiLock,
    Patterns,
    ReadWriteLock,
    Redlock,
    Semaphore,
    synchronized,
)


async def locks(client: Redis, cluster: RedisCluster) -> None:
    lock = Lock(client, "a", ttl=timedelta(seconds=5), fair=True, max_hold=60, owner="me", min_replicas=1)
    async with lock as lease:
        assert_type(lease, Lease)
        assert_type(lease.fencing_token, int)
        assert_type(lease.expires_in, float)
        assert_type(await lease.extend(3), None)
    async with lock.using(timeout=None) as lease:
        assert_type(lease.held, bool)
    assert_type(await lock.acquire(timeout=1), bool)
    assert_type(await lock.try_acquire(), Lease | None)
    assert_type(await lock.info(), LockInfo | None)
    assert_type(await lock.owner(), str | None)
    assert_type(await lock.force_release(), bool)
    assert_type(lock.statistics(), LockStatistics)
    async with MultiLock(cluster, ["a", b"b"], await_release=False), ReadWriteLock(client, "rw").read():
        pass
    async with Semaphore(client, "s", 3, weight=2), Redlock([client], "r", node_timeout=0.1) as lease:
        assert_type(lease.token, str)


async def coordination(client: Redis) -> None:
    election = LeaderElection(client, "e", candidate="one")
    async with election as term:
        assert_type(term.fencing_token, int)
    assert_type(await election.leader(), Leader | None)
    assert_type(election.resign(), bool)
    latch = CountDownLatch(client, "l", 2)
    assert_type(await latch.count_down("a"), int)
    assert_type(await latch.wait(timeout=1), bool)
    store: FencedStore[dict[str, int]] = FencedStore(client, "x")
    await store.set({"a": 1}, fence=7)
    assert_type(await store.get(), dict[str, int] | None)

    @synchronized(client, key="user:{user}")
    async def charge(user: int, *, amount: float = 1.0) -> str:
        return f"{user} {amount}"

    assert_type(await charge(1, amount=2), str)


async def hub(p: Patterns) -> None:
    async with p.lock("a", ttl=3), p.multi_lock(["a", "b"]), p.semaphore("s", 2), p.read_write_lock("rw").write():
        assert_type(p.leader_election("e"), LeaderElection)
        assert_type(p.count_down_latch("l", 2), CountDownLatch)
