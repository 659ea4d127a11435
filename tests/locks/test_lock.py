"""`Lock` as a user meets it: who holds it, for how long, what a call costs, and what is refused."""

from __future__ import annotations

import asyncio
import itertools
import math
import multiprocessing
import os
import time
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import Kind, PipelinedRedis, inbox_of, instrument, lane_of
from aredis_patterns._core.instrumentation import Recorder
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import (
    LockAlreadyHeld,
    LockError,
    LockLost,
    LockNotOwned,
    LockTimeout,
    ServerUnavailable,
)
from aredis_patterns.locks import CountDownLatch, FencedStore, Lease, Lock, MultiLock, Semaphore
from aredis_patterns.locks._runtime import runtime_of
from aredis_patterns.locks._tokens import next_token
from aredis_patterns.testing import FaultProxy, assert_round_trips, no_leaked_keys


async def test_one_holder_at_a_time(client: Redis, namespace: str, fair: bool) -> None:
    counter = inside = 0

    async def work() -> None:
        nonlocal counter, inside
        async with Lock(client, "a", fair=fair, namespace=namespace):
            inside += 1
            assert inside == 1
            seen = counter
            await asyncio.sleep(0)
            counter = seen + 1
            inside -= 1

    await asyncio.gather(*(work() for _ in range(50)))
    assert counter == 50


async def test_one_round_trip_each(fault_proxy: FaultProxy, namespace: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        lock = Lock(client, "a", namespace=namespace)
        async with lock:
            await lock.extend()
            await lock.info()
        async with assert_round_trips(fault_proxy, 1, commands=1):
            assert await lock.acquire()
        async with assert_round_trips(fault_proxy, 1, commands=1):
            await lock.extend()
        async with assert_round_trips(fault_proxy, 1, commands=1):
            assert await lock.info()
        async with assert_round_trips(fault_proxy, 1, commands=1):
            await lock.release()
        async with assert_round_trips(fault_proxy, 2, commands=2), lock:
            pass


async def test_a_release_that_awaits_nothing(client: Redis, namespace: str) -> None:
    async with no_leaked_keys(client, namespace, allow_ttl=True):
        lock = Lock(client, "a", await_release=False, namespace=namespace)
        async with lock as lease:
            pass
        assert not lease.held
        assert not await lock.locked()
        lease = await lock.try_acquire()
        assert lease is not None
        lease.release_nowait()
        lease.release_nowait()
        assert not await lock.locked()


async def test_uncontended_cycles_are_two_commands(own_server: EmbeddedServer, own_client: Redis) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        lock = Lock(client, "a")
        async with lock:
            pass
        await own_client.config_resetstat()
        for _ in range(100):
            async with lock:
                pass
        stats = await own_client.info("commandstats")
        called = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
        assert called["evalsha"] == 200
        assert not called.keys() & {"eval", "publish", "subscribe", "script|load", "wait"}
        assert called["zpopmin"] == 100  # one look at the queue per release
        # To acquire: TIME, SET lock NX GET, SET fence GET. To release: GET, DEL, and the look.
        assert [called[name] for name in ("time", "set", "get", "del")] == [100, 200, 100, 100]
        assert not called.keys() & {"zrem", "zrange", "pexpire", "pttl"}


async def test_a_shared_lock_object_has_a_lease_per_task(client: Redis, namespace: str) -> None:
    """Pitfall 1: the holder's ttl passes, another task takes over, the first one's release hurts nobody."""
    lock = Lock(client, "a", ttl=0.1, auto_renew=False, cancel_on_loss=False, namespace=namespace)
    ready, gone = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        await lock.acquire()
        ready.set()
        await gone.wait()
        with pytest.raises(LockLost):
            await lock.release()

    task = asyncio.create_task(first())
    await ready.wait()
    async with Lock(client, "a", namespace=namespace) as lease:
        gone.set()
        await task
        lease.check()
        assert await lock.locked()


async def test_release_by_a_non_owner_changes_nothing(client: Redis, other: Redis, namespace: str) -> None:
    """Pitfall 26."""
    lock = Lock(client, "a", namespace=namespace)
    with pytest.raises(LockNotOwned, match="'a'"):
        await lock.release()
    lease = await lock.try_acquire()
    assert lease is not None
    with pytest.raises(LockNotOwned):
        await lock.release()
    with pytest.raises(LockNotOwned):
        await Lock(other, "a", namespace=namespace).release()
    assert await lock.locked()
    await lease.release()
    with pytest.raises(LockNotOwned):
        await lease.release()


async def test_a_body_may_release_early(client: Redis, namespace: str) -> None:
    async with Lock(client, "a", namespace=namespace) as lease:
        await lease.release()
        assert (lease.held, lease.released) == (False, True)
        async with Lock(client, "a", namespace=namespace):
            pass


async def test_the_body_never_runs_without_the_lock(client: Redis, other: Redis, namespace: str, fair: bool) -> None:
    """Pitfall 16."""
    async with Lock(client, "a", namespace=namespace):
        with pytest.raises(LockTimeout) as caught:
            async with Lock(other, "a", fair=fair, namespace=namespace).using(timeout=0.05):
                pytest.fail("the body ran")
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, LockError)
        assert caught.value.key == "a"


async def test_timeouts_wait_as_long_as_they_say(client: Redis, other: Redis, namespace: str, fair: bool) -> None:
    """Pitfall 15: shorter than any polling interval."""
    lock = Lock(other, "a", fair=fair, namespace=namespace)
    lease = await Lock(client, "a", namespace=namespace).try_acquire()
    assert lease is not None
    start = time.monotonic()
    assert await lock.acquire(timeout=0.05) is False
    assert 0.045 <= time.monotonic() - start < 0.5
    assert await client.zcard(lock.keys.queue) == 0
    asyncio.get_running_loop().call_later(0.03, lease.release_nowait)
    assert await lock.acquire(timeout=timedelta(seconds=5)) is True
    await lock.release()
    assert await lock.acquire(blocking=False) is True
    assert await Lock(client, "a", namespace=namespace).acquire(False) is False
    await lock.release()


async def test_trying_never_enters_the_queue(client: Redis, other: Redis, namespace: str, fair: bool) -> None:
    """Pitfall 22."""
    async with Lock(client, "a", namespace=namespace) as lease:
        lock = Lock(other, "a", fair=fair, namespace=namespace)
        assert not any(await asyncio.gather(*(lock.try_acquire() for _ in range(300))))
        assert await client.zcard(lock.keys.queue) == 0
        assert lease.held
        assert lock.statistics().timed_out == 300


async def test_waiting_for_oneself_is_an_error(client: Redis, namespace: str, fair: bool) -> None:
    """Pitfall 25: the same task raises at once, whichever object it uses; a child task waits."""
    lock = Lock(client, "a", fair=fair, namespace=namespace)
    async with lock:
        with pytest.raises(LockAlreadyHeld):
            async with lock:
                pass
        with pytest.raises(LockAlreadyHeld):
            await Lock(client, "a", fair=fair, namespace=namespace).acquire()
        assert await lock.try_acquire() is None
        child = asyncio.create_task(lock.acquire(timeout=0.05))
        assert await child is False


@pytest.mark.parametrize("ttl", [0, -1, 0.0004, math.nan, math.inf, True, timedelta(0)])
def test_a_ttl_that_is_no_time_is_refused(ttl: Any) -> None:
    """Pitfall 14."""
    with pytest.raises(ValueError, match="ttl"):
        Lock(Redis(port=1), "a", ttl=ttl)


@pytest.mark.parametrize(("ttl", "millis"), [(1.5, 1500), (0.25, 250), (timedelta(milliseconds=700), 700), (3, 3000)])
async def test_a_ttl_is_exact(client: Redis, namespace: str, ttl: Any, millis: int) -> None:
    lock = Lock(client, "a", ttl=ttl, auto_renew=False, namespace=namespace)
    lease = await lock.try_acquire()
    assert lease is not None
    assert millis - 200 < await client.pttl(lock.keys.held) <= millis
    assert lease.expires_in < millis / 1000
    await lease.release()


async def test_extend_prolongs_and_never_shortens(client: Redis, namespace: str) -> None:
    lock = Lock(client, "a", ttl=1, namespace=namespace)
    async with lock as lease:
        await lease.extend(30)
        assert lease.expires_in > 25
        await lock.extend()
        assert await client.pttl(lock.keys.held) > 25_000
        assert lease.expires_in > 25
        with pytest.raises(ValueError, match="ttl"):
            await lease.extend(-1)


async def test_extend_never_creates_what_is_gone(client: Redis, other: Redis, namespace: str) -> None:
    """Pitfall 10: also when another holder came and went in between."""
    lock = Lock(client, "a", cancel_on_loss=False, namespace=namespace)
    lease = await lock.try_acquire()
    assert lease is not None
    await client.delete(lock.keys.held)
    async with Lock(other, "a", namespace=namespace) as later:
        assert later.fencing_token > lease.fencing_token
    with pytest.raises(LockLost):
        await lease.extend()
    assert lease.lost.is_set()
    assert await client.exists(lock.keys.held) == 0
    with pytest.raises(LockLost):
        await lease.release()


async def test_info_owner_and_force_release(client: Redis, other: Redis, namespace: str) -> None:
    lock = Lock(client, "a", owner="worker 7", namespace=namespace)
    assert await lock.info() is None
    assert await lock.owner() is None
    assert await lock.force_release() is False
    lease = await lock.try_acquire()
    assert lease is not None
    info = await Lock(other, "a", namespace=namespace).info()
    assert info is not None
    assert (info.owner, info.fencing_token, info.waiting) == ("worker 7", lease.fencing_token, 0)
    assert 9 < info.expires_in <= 10
    assert await lock.force_release() is True
    assert not await lock.locked()
    with pytest.raises(LockLost):
        await lease.release()
    async with Lock(client, "b", namespace=namespace):
        info = await Lock(other, "b", namespace=namespace).info()
        assert info is not None
        assert str(os.getpid()) in info.owner


async def test_a_foreign_value_is_respected(client: Redis, namespace: str) -> None:
    """A key written by something else, even without expiry, is a lock that is taken."""
    lock = Lock(client, "a", namespace=namespace)
    await client.set(lock.keys.held, "somebody else's")
    assert await lock.try_acquire() is None
    assert await lock.acquire(timeout=0.05) is False
    info = await lock.info()
    assert info is not None
    assert info.expires_in == math.inf
    assert await client.get(lock.keys.held) == b"somebody else's"
    await client.delete(lock.keys.held)


async def test_fences_rise_whatever_the_server_forgets(own_server: EmbeddedServer) -> None:
    """Pitfall 23: DEL of the fence, FLUSHALL, a restart without data."""
    async with PipelinedRedis.from_url(own_server.url) as client:
        lock, seen = Lock(client, "a"), [0]

        async def take() -> None:
            async with lock as lease:
                seen.append(lease.fencing_token)

        for _ in range(5):
            await take()
        await client.delete(lock.keys.fence)
        await take()
        await client.flushall()
        await take()
        await own_server.kill()
        await own_server.restart()
        await take()
        await client.set(lock.keys.fence, seen[-1] + 10**9, px=60_000)  # a clock that went back
        async with lock as lease:
            seen.append(lease.fencing_token)
            info = await lock.info()
            assert info is not None
            assert info.fencing_token == lease.fencing_token  # what is stored is what was given
            assert 0 < await client.pttl(lock.keys.held) <= 10_000
        await take()
        assert all(later > earlier for earlier, later in itertools.pairwise(seen))
        assert seen[-1] == seen[-2] + 1


@pytest.mark.parametrize("key", ["plain", "{tag}", "a:{b}:c", "ключ", b"\xff\x00", "a\nb", "%7B"])
async def test_any_key_on_any_protocol(
    redis_url: str, client_options: dict[str, Any], namespace: str, key: Any
) -> None:
    """Pitfall 28."""
    async with PipelinedRedis.from_url(redis_url, **client_options) as client:
        lock = Lock(client, key, namespace=namespace)
        async with lock as lease:
            assert await lock.try_acquire() is None
            info = await lock.info()
            assert info is not None
            assert info.fencing_token == lease.fencing_token
            waiting = asyncio.create_task(Lock(client, key, fair=True, namespace=namespace).acquire(timeout=5))
            await asyncio.sleep(0)
        assert await waiting


async def test_a_stock_client_and_a_second_loop(redis_url: str, namespace: str) -> None:
    async with Redis.from_url(redis_url) as client:
        lock = Lock(client, "a", namespace=namespace)

        async def cycle() -> int:
            async with lock as lease:
                return lease.fencing_token

        async def cycle_and_close() -> int:
            fence = await cycle()
            await lane_of(client).aclose()
            return fence

        first = await cycle()
        second = await asyncio.to_thread(lambda: asyncio.run(cycle_and_close()))
        assert second > first
        await lane_of(client).aclose()


async def test_redis_down_fails_closed() -> None:
    async with PipelinedRedis(host="127.0.0.1", port=1) as client:
        lock = Lock(client, "a", deadline=0.5)
        with pytest.raises(ServerUnavailable):
            await lock.acquire()
        with pytest.raises(ServerUnavailable):
            await lock.try_acquire()


def _acquire_in_child(url: str, namespace: str, ready: Any, results: Any) -> None:
    async def run() -> None:
        async with PipelinedRedis.from_url(url) as client:
            ready.wait()
            lease = await Lock(client, "a", namespace=namespace).try_acquire()
            results.put((next_token(), lease.token if lease else None))
            ready.wait()  # nobody leaves before both have tried

    asyncio.run(run())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_have_tokens_of_their_own(redis_url: str, namespace: str) -> None:
    """Pitfall 24: gunicorn with preload."""
    fork = multiprocessing.get_context("fork")
    ready, results = fork.Barrier(2), fork.Queue()
    children = [fork.Process(target=_acquire_in_child, args=(redis_url, namespace, ready, results)) for _ in range(2)]
    for child in children:
        child.start()
    answers = [results.get(timeout=20) for _ in children]
    for child in children:
        child.join(20)
    assert len({token for token, _ in answers}) == 2
    assert sum(held is not None for _, held in answers) == 1


async def test_ten_thousand_cycles_leave_nothing(client: Redis, namespace: str) -> None:
    """Pitfall 36."""
    locks = [Lock(client, f"k{number % 7}", namespace=namespace) for number in range(50)]

    async def work(lock: Lock, number: int) -> None:
        for turn in range(40):
            try:
                async with asyncio.timeout(0.0005 if (turn + number) % 5 == 0 else None):
                    async with lock:
                        await asyncio.sleep(0)
            except TimeoutError:
                pass

    await asyncio.gather(*(work(lock, number) for number, lock in enumerate(locks)))
    await client.ping()  # behind every undo
    tasks = {task.get_name() for task in asyncio.all_tasks()}
    assert "renew locks" not in tasks
    assert [key async for key in client.scan_iter(match=f"{namespace}*") if not key.endswith(b":fence")] == []
    assert runtime_of(client).renewals.statistics().held == 0
    assert inbox_of(client, namespace).waiting == 0
    assert all(not lock.statistics().held for lock in locks)
    assert isinstance(await locks[0].try_acquire(), Lease)


async def test_listeners_hear_what_locks_do(client: Redis, namespace: str) -> None:
    heard: list[tuple[str, str, str]] = []

    class Listener:
        scripts = False

        def recorder(self, kind: Kind, /) -> Recorder:
            return lambda seconds: heard.append(kind[:3])

    stop = instrument(client, Listener())
    lock = Lock(client, "a", namespace=namespace)
    async with lock:
        await lock.try_acquire()
    with pytest.raises(LockLost):
        async with lock:
            await lock.force_release()
    stop()
    assert heard == [
        ("locks", "acquire", "acquired"),
        ("locks", "acquire", "refused"),
        ("locks", "acquire", "acquired"),
        ("locks", "hold", "lost"),
    ]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda client: Lock(client, "a", tttl=1), TypeError),
        (lambda client: Lock(client, 5), TypeError),
        (lambda client: Lock(client, ""), ValueError),
        (lambda client: Lock(client, "a", owner="two\nlines"), ValueError),
        (lambda client: Semaphore(client, None, 1), TypeError),
        (lambda client: CountDownLatch(client, 5, 1), TypeError),
        (lambda client: FencedStore(client, 5), TypeError),
        (lambda client: MultiLock(client, "account:1"), TypeError),
        (lambda client: MultiLock(client, []), ValueError),
        (lambda client: MultiLock(client, map(str, range(101))), ValueError),
    ],
)
def test_senseless_arguments_are_refused(make: Any, error: type[Exception]) -> None:
    """Before any I/O. A command for more keys would leave the ordered connection, and its undo could overtake it."""
    with pytest.raises(error):
        make(Redis(port=1))


async def test_a_client_that_was_closed_may_be_used_again(client: Redis, other: Redis, namespace: str) -> None:
    """A lock that was kept does not go on listening to an inbox that has gone."""
    lock, rival = Lock(client, "a", namespace=namespace), Lock(other, "a", namespace=namespace)

    async def turn(each: Lock) -> None:
        async with each:
            await asyncio.sleep(0.01)

    for _ in range(2):
        async with asyncio.timeout(20):
            await asyncio.gather(*(turn(each) for each in (rival, lock, lock, rival)))
        await client.aclose()


async def test_tasks_that_end_without_releasing_are_forgotten(client: Redis, namespace: str) -> None:
    locks = Semaphore(client, "a", 1000, ttl=60, namespace=namespace)
    for _ in range(200):
        await asyncio.create_task(locks.acquire())
    assert len(locks._held) < 100
