"""`Lock`: mutual exclusion between tasks, processes and machines, for as long as a lease lives."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, Literal, Unpack

from redis.asyncio import RedisCluster

from aredis_patterns.exceptions import NotReplicated
from aredis_patterns.locks._keys import lock_keys
from aredis_patterns.locks._lease import Lease
from aredis_patterns.locks._lock_site import LockSite
from aredis_patterns.locks._options import LeaseOptions, Options, readable
from aredis_patterns.locks._queued import QueuedLock
from aredis_patterns.locks._scripts import lock_info, lock_release
from aredis_patterns.types import Key, RedisClient, Seconds

__all__ = ["Lock", "LockInfo"]


@dataclass(frozen=True, slots=True)
class LockInfo:
    """Who holds a lock."""

    owner: str
    """What the holder calls itself: host and process, unless it was told otherwise. Empty: kept for a waiter."""
    fencing_token: int
    expires_in: float
    """Seconds, if it is not renewed."""
    waiting: int
    """How many wait: processes, or tasks of a fair lock."""


class Lock(QueuedLock):
    """A lock with a lease, renewed while it is held, that tells when it is lost.

        async with Lock(client, "invoice:42") as lease:
            await charge(invoice, fence=lease.fencing_token)

    Guarantee: at most one holder at a time, while the servers' memory and clocks last. A lease can end while its holder
    is paused, so the body is cancelled when the lease is lost, and every acquisition carries a larger `fencing_token`
    than the one before: a resource that refuses smaller ones is safe even then (`FencedStore`, or SQL).
    Fails closed: when Redis cannot be reached, acquiring raises and a held lock is lost at its local deadline.

    A block begins and ends in one task, as `asyncio.timeout` does; a lease from `try_acquire` may be released by any.

    Cancellation at any point, a lost reply, a killed process: nothing stays held for longer than `ttl`, and in the first
    two cases not for longer than the undo takes to arrive.

    Round trips: one to acquire, one to release (none awaited with `await_release=False`), one more after the wake-up when
    it had to wait. Memory in Redis: two keys of about 100 bytes, the fence for 30 days; one entry per waiter.

    Args:
        client: any `redis.asyncio` client. key: what is locked.
        ttl: seconds (or timedelta) that a grant lives unless it is renewed; default 10, at least a millisecond.
        auto_renew: renew after each third of the ttl; default. Without it the lease ends after `ttl`, and the body with it.
        fair: first come, first served, over all processes. Otherwise newcomers may overtake, for 50 ms at most, and a
            lock may be handed on inside a process up to 16 times: faster.
        cancel_on_loss: cancel the body of `async with` when the lease is lost; default. If not, only `lease.lost` tells.
        max_hold: seconds after which it is lost although it could be renewed: against code that hangs.
        owner: shown by `info`; default host and process.
        deadline: seconds after which a server that does not answer counts as unreachable; default 5.
        await_release: (default) wait for the answer to the release, which tells whether the lock was ours to the end.
        min_replicas: so many replicas must have confirmed the lock before it counts; else it is given back and
            NotReplicated is raised. One more round trip, on a connection of its own. Not in a Cluster.
        kind: which family of keys; "leader" is for `LeaderElection`.
        namespace: begins every key.

    Raises ValueError before any I/O for a ttl that is zero, negative, NaN, below a millisecond or above ten years.
    """

    def __init__(
        self,
        client: RedisClient,
        key: Key,
        *,
        fair: bool = False,
        min_replicas: int = 0,
        kind: Literal["lock", "leader"] = "lock",
        **options: Unpack[LeaseOptions],
    ) -> None:
        if min_replicas and isinstance(client, RedisCluster):
            raise ValueError("min_replicas needs one primary; in a Cluster it cannot be told which one")
        super().__init__(client, readable(key), Options.checked(**options))
        self.fair: Final = fair
        self.min_replicas: Final = min_replicas
        self.keys: Final = lock_keys(self.options.namespace, key, kind)

    async def extend(self, ttl: Seconds | None = None) -> None:
        """Extend what this task holds; see `Lease.extend`. Raises LockNotOwned when it holds nothing."""
        lease = self._forget()
        self._remember(lease)
        await lease.extend(ttl)

    async def locked(self) -> bool:
        """Whether anybody holds it. One round trip; true only for the moment of the answer."""
        return await self.info() is not None

    async def info(self) -> LockInfo | None:
        """Who holds it, or None. One round trip."""
        site = self._here()
        number, owner, left, waiting = await lock_info(
            site.commands, lock=self.keys.held, queue=self.keys.queue, deadline=self.options.deadline
        )
        if number == -1:
            return None
        return LockInfo(owner, number, float("inf") if left < 0 else left / 1000, waiting)

    async def owner(self) -> str | None:
        """What the holder calls itself, or None. One round trip."""
        info = await self.info()
        return None if info is None else info.owner

    async def force_release(self) -> bool:
        """End the lock whoever holds it, and wake the next; whether it was held. One round trip.

        The holder is told at once if its process listens for messages, else by its next renewal. It may still be at work:
        only fencing keeps the two apart.
        """
        site = self._here()
        answer = await lock_release(
            site.commands,
            lock=self.keys.held,
            queue=self.keys.queue,
            token="",
            member="",
            force=True,
            countable=not site.runtime.cluster,
            deadline=self.options.deadline,
        )
        return bool(answer.released)

    def _take(self, timeout: float | None) -> Coroutine[Any, Any, Lease | None]:
        return self._take_and_confirm(timeout) if self.min_replicas else self._take_or_wait(timeout)

    async def _take_and_confirm(self, timeout: float | None) -> Lease | None:
        lease = await self._take_or_wait(timeout)
        if lease is not None:
            try:
                await self._confirm(lease)
            except BaseException:
                lease.release_nowait()
                raise
        return lease

    async def _confirm(self, lease: Lease) -> None:
        """Wait until the replicas have what the primary has now, the lock included."""
        untyped: Any = self._client
        patience = max(1, int(min(self.options.deadline, lease.expires_in / 2) * 1000))
        async with untyped.pipeline(transaction=False) as pipe:
            # WAIT speaks of what its own connection has seen last: first let it see the lock.
            pipe.execute_command("EXISTS", self.keys.held)
            pipe.execute_command("WAIT", self.min_replicas, patience)
            _, confirmed = await pipe.execute()
        if confirmed < self.min_replicas:
            raise NotReplicated(self.key, f"{confirmed} of {self.min_replicas} replicas have confirmed the lock")

    def _make_site(self) -> LockSite:
        return LockSite(self._client, self.key, self.keys, self.options, self.counts, fair=self.fair)
