"""`Lock`: mutual exclusion between tasks, processes and machines, for as long as a lease lives."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Unpack

from aredis_patterns.exceptions import LockAlreadyHeld, LockLost
from aredis_patterns.locks._keys import lock_keys
from aredis_patterns.locks._lease import Lease
from aredis_patterns.locks._lock_site import LockSite
from aredis_patterns.locks._lockable import LeaseOptions, Lockable, Options
from aredis_patterns.locks._scripts import lock_info, lock_release
from aredis_patterns.locks._waiting import Waiter, obtain_within
from aredis_patterns.types import Key, RedisClient, Seconds

__all__ = ["Lock", "LockInfo"]

MOST_LATE_ANSWERS: Final = 3
"""Grants that arrived after their own ttl, before acquire gives up."""


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


class Lock(Lockable):
    """A lock with a lease, renewed while it is held, that tells when it is lost.

        async with Lock(client, "invoice:42") as lease:
            await charge(invoice, fence=lease.fencing_token)

    Guarantee: at most one holder at a time, while the servers' memory and clocks last. A lease can end while its holder
    is paused, so the body is cancelled when the lease is lost, and every acquisition carries a larger `fencing_token`
    than the one before: a resource that refuses smaller ones is safe even then (`FencedStore`, or SQL).
    Fails closed: when Redis cannot be reached, acquiring raises and a held lock is lost at its local deadline.

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
        namespace: begins every key.

    Raises ValueError before any I/O for a ttl that is zero, negative, NaN, below a millisecond or above ten years.
    """

    def __init__(self, client: RedisClient, key: Key, *, fair: bool = False, **options: Unpack[LeaseOptions]) -> None:
        super().__init__(client, Options.checked(key, **options))
        self.fair: Final = fair
        self.keys: Final = lock_keys(self.options.namespace, key)
        self._site: LockSite | None = None

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

    def _here(self) -> LockSite:
        site = self._site
        if site is None or site.runtime.closed or site.runtime.loop is not asyncio.get_running_loop():
            site = self._site = LockSite(self._client, self.keys, self.options, self.counts, fair=self.fair)
        return site

    async def _take(self, timeout: float | None) -> Lease | None:
        site = self._here()
        holder = site.room.holder
        if holder is not None and timeout != 0 and holder.task is asyncio.current_task():
            raise LockAlreadyHeld(self.key, "this task holds it, and would wait for itself")
        for _ in range(MOST_LATE_ANSWERS):
            waiter = Waiter(site.runtime.loop)
            grant = await obtain_within(site, waiter, timeout)
            if grant is None:
                return None
            lease = site.lease(waiter, grant)
            if lease.held:
                return lease
            lease.release_nowait()
        raise LockLost(self.key, f"answers take longer than its ttl of {self.options.ttl:g} s")
