"""A lock that is lost tells: deleted, taken over, revoked, not renewed in time, held too long, renewed in vain."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from aredis_patterns import PipelinedRedis, inbox_of
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import LockLost
from aredis_patterns.locks import Lease, Lock
from aredis_patterns.locks._lease import GONE, MAX_HOLD, REVOKED, UNREACHABLE
from aredis_patterns.locks._runtime import BatchRenewer, runtime_of
from aredis_patterns.testing import FaultProxy


async def test_a_held_lock_is_renewed(client: Redis, namespace: str) -> None:
    lock = Lock(client, "a", ttl=0.3, namespace=namespace)
    async with lock as lease:
        first = lease.deadline
        await asyncio.sleep(0.7)
        assert lease.held
        assert lease.deadline > first + 0.3
        assert await client.pttl(lock.keys.held) > 50
    assert not await lock.locked()


async def test_a_deleted_lock_cancels_the_body(client: Redis, namespace: str) -> None:
    """Pitfall 7: within a third of the ttl, also when the key was evicted or the database emptied."""
    lock = Lock(client, "a", ttl=0.9, namespace=namespace)
    cancelled = False
    with pytest.raises(LockLost) as caught:
        async with lock as lease:
            await client.delete(lock.keys.held)
            start = time.monotonic()
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled = True
                raise
    assert cancelled
    assert time.monotonic() - start < 0.9
    assert (caught.value.reason, caught.value.key) == (GONE, "a")
    assert lease.lost.is_set()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert await client.exists(lock.keys.held) == 0
    assert lock.statistics().lost == 1


async def test_a_revoked_lock_cancels_at_once_where_messages_are_heard(
    client: Redis, other: Redis, namespace: str
) -> None:
    await inbox_of(client, namespace).open()
    with pytest.raises(LockLost, match="force") as caught:
        async with Lock(client, "a", ttl=60, namespace=namespace):
            assert await Lock(other, "a", namespace=namespace).force_release()
            async with asyncio.timeout(5):
                await asyncio.sleep(30)
    assert caught.value.reason == REVOKED


async def test_without_renewal_the_body_ends_with_the_ttl(client: Redis, namespace: str) -> None:
    start = time.monotonic()
    with pytest.raises(LockLost, match="auto_renew"):
        async with Lock(client, "a", ttl=0.15, auto_renew=False, namespace=namespace):
            await asyncio.sleep(30)
    assert 0.1 < time.monotonic() - start < 5


async def test_max_hold_ends_what_could_be_renewed(client: Redis, namespace: str) -> None:
    lock = Lock(client, "a", ttl=0.3, max_hold=0.5, namespace=namespace)
    with pytest.raises(LockLost) as caught:
        async with lock:
            await asyncio.sleep(30)
    assert caught.value.reason == MAX_HOLD
    await client.ping()
    assert not await lock.locked()


async def test_a_hung_server_loses_the_lock_before_anybody_else_can_have_it(own_server: EmbeddedServer) -> None:
    """Pitfall 8."""
    async with PipelinedRedis.from_url(own_server.url) as client, PipelinedRedis.from_url(own_server.url) as other:
        lock = Lock(client, "a", ttl=0.6)
        with pytest.raises(LockLost) as caught:
            async with lock as lease:
                later = asyncio.create_task(Lock(other, "a", deadline=30, ttl=0.6).acquire())
                deadline = lease.deadline
                own_server.pause()
                await asyncio.sleep(30)
        assert caught.value.reason == UNREACHABLE
        assert asyncio.get_running_loop().time() >= deadline
        assert not later.done()
        own_server.resume()
        async with asyncio.timeout(10):
            assert await later


class Shaky:
    """A renewer that fails as it is told to."""

    def __init__(self, real: BatchRenewer, errors: list[Exception]) -> None:
        self.real, self.errors, self.calls = real, errors, 0

    async def renew(self, leases: Sequence[Lease], ttl: Sequence[float], deadline: float) -> Sequence[int]:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return await self.real.renew(leases, ttl, deadline)


async def test_a_renewal_that_fails_once_is_tried_again(client: Redis, namespace: str) -> None:
    """Pitfall 9."""
    runtime: Any = runtime_of(client)
    shaky = runtime.lock_renewer = Shaky(runtime.lock_renewer, [ConnectionError("once")])
    async with Lock(client, "a", ttl=0.6, namespace=namespace) as lease:
        await asyncio.sleep(0.9)
        lease.check()
    assert shaky.calls >= 2
    assert runtime.renewals.statistics().failed == 1


async def test_an_unexpected_error_of_a_renewal_is_a_loss_not_silence(client: Redis, namespace: str) -> None:
    """Pitfall 9."""
    runtime: Any = runtime_of(client)
    runtime.lock_renewer = Shaky(runtime.lock_renewer, [ZeroDivisionError("a bug")])
    with pytest.raises(LockLost, match="a bug"):
        async with Lock(client, "a", ttl=0.3, namespace=namespace):
            await asyncio.sleep(30)


async def test_a_renewal_never_overtakes_a_release(client: Redis, namespace: str) -> None:
    """Pitfall 11: renewal in flight while the release is sent; the key never comes back."""
    lock = Lock(client, "a", ttl=5, namespace=namespace)
    for _ in range(500):
        lease = await lock.try_acquire()
        assert lease is not None
        renewing = asyncio.create_task(lease.extend())
        await asyncio.sleep(0)
        lease.release_nowait()
        with pytest.raises(LockLost):
            await renewing
        assert await client.exists(lock.keys.held) == 0


async def test_two_leases_of_one_name_have_renewals_of_their_own(client: Redis, namespace: str) -> None:
    """Pitfall 12: the first is lost; its end does not end the renewal of the second."""
    lock = Lock(client, "a", ttl=0.3, cancel_on_loss=False, namespace=namespace)
    first = await lock.try_acquire()
    assert first is not None
    await client.delete(lock.keys.held)
    await first.lost.wait()
    second = await lock.try_acquire()
    assert second is not None
    with pytest.raises(LockLost):
        await first.release()
    await asyncio.sleep(0.7)
    second.check()
    await second.release()


async def test_a_blocked_loop_is_noticed_when_it_runs_again(client: Redis, namespace: str) -> None:
    """Pitfall 13."""
    with pytest.raises(LockLost):
        async with Lock(client, "a", ttl=0.1, namespace=namespace) as lease:
            time.sleep(0.2)  # noqa: ASYNC251 - that is the fault
            with pytest.raises(LockLost):
                lease.check()
            await asyncio.sleep(30)


async def test_without_cancel_on_loss_only_the_event_tells(client: Redis, namespace: str) -> None:
    lock = Lock(client, "a", ttl=0.2, cancel_on_loss=False, namespace=namespace)
    with pytest.raises(LockLost):
        async with lock as lease:
            await client.delete(lock.keys.held)
            async with asyncio.timeout(5):
                await lease.lost.wait()
            assert not lease.held
            assert lease.expires_in == 0
            with pytest.raises(LockLost):
                lease.check()


async def test_a_body_that_swallows_the_cancellation_still_learns(client: Redis, namespace: str) -> None:
    with pytest.raises(LockLost):
        async with Lock(client, "a", ttl=0.1, auto_renew=False, namespace=namespace):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(30)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


@pytest.mark.parametrize("foreign_first", [True, False])
async def test_a_foreign_cancellation_comes_before_ours(client: Redis, namespace: str, foreign_first: bool) -> None:
    async def work() -> None:
        async with Lock(client, "a", ttl=60, namespace=namespace) as lease:
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel if foreign_first else lambda: lease.lose("a test"))
            asyncio.get_running_loop().call_soon((lambda: lease.lose("a test")) if foreign_first else task.cancel)
            await asyncio.sleep(30)

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_our_cancellation_stays_inside_a_timeout_and_an_anyio_scope(client: Redis, namespace: str) -> None:
    with anyio.CancelScope() as scope:
        async with asyncio.timeout(30):
            with pytest.raises(LockLost):
                async with Lock(client, "a", ttl=0.1, auto_renew=False, namespace=namespace):
                    await anyio.sleep(30)
            await anyio.lowlevel.checkpoint()
    assert not scope.cancelled_caught


async def test_a_task_that_ends_without_releasing_gives_back(client: Redis, namespace: str) -> None:
    """Renewing for a task that is gone would hold the lock for ever."""
    lock = Lock(client, "a", ttl=0.3, namespace=namespace)
    await asyncio.create_task(lock.acquire())
    async with asyncio.timeout(5):
        async with Lock(client, "a", namespace=namespace):
            pass


async def test_renewals_of_a_thousand_locks_are_a_few_commands(own_server: EmbeddedServer, own_client: Redis) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        start = time.monotonic()
        leases = await asyncio.gather(*(Lock(client, f"k{number}", ttl=3).try_acquire() for number in range(1000)))
        await own_client.config_resetstat()
        await asyncio.sleep(1.25)  # one interval and a quarter
        stats = await own_client.info("commandstats")
        intervals = math.ceil(time.monotonic() - start)  # a busy machine takes longer than it was told
        assert 5 <= stats["cmdstat_evalsha"]["calls"] <= 10 * intervals
        assert all(lease is not None and lease.held for lease in leases)
        assert runtime_of(client).renewals.statistics().renewed >= 1000
        for lease in leases:
            assert lease is not None
            lease.release_nowait()
        await client.ping()
        assert await own_client.exists("ap:lock:{k7}") == 0


async def test_renewals_survive_lost_replies(fault_proxy: FaultProxy, namespace: str) -> None:
    async with (
        PipelinedRedis.from_url(fault_proxy.url) as client,
        Lock(client, "a", ttl=0.6, namespace=namespace) as lease,
    ):
        fault_proxy.drop_replies("EVALSHA", times=1)
        await asyncio.sleep(0.9)
        lease.check()
