"""`QueuedLock`: a `Lockable` on one server (or Cluster), whose waiters stand in its queue."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine
from typing import Any, Final

from aredis_patterns.exceptions import LockAlreadyHeld, LockLost
from aredis_patterns.locks._lease import Lease
from aredis_patterns.locks._lockable import Lockable
from aredis_patterns.locks._options import Options
from aredis_patterns.locks._room import Waiter
from aredis_patterns.locks._site import Site
from aredis_patterns.locks._waiting import obtain, obtain_within
from aredis_patterns.types import RedisClient

__all__ = ["QueuedLock"]

MOST_LATE_ANSWERS: Final = 3
"""Grants that arrive after their own ttl, before acquire gives up."""


class QueuedLock(Lockable):
    """Finds its site in the running loop, and waits there."""

    def __init__(self, client: RedisClient, key: str, options: Options) -> None:
        super().__init__(client, key, options)
        self._site: Site | None = None

    @abstractmethod
    def _make_site(self) -> Site:
        """It, in the running loop."""

    def _here(self) -> Site:
        site = self._site
        if (
            site is None
            or site.runtime.closed
            or site.inbox.closed  # its client was closed, and is used again
            or site.runtime.loop is not asyncio.get_running_loop()
        ):
            site = self._site = self._make_site()
        return site

    def _take(self, timeout: float | None) -> Coroutine[Any, Any, Lease | None]:
        """A lease, or None when it could not be had in time. Cancelled, nothing stays behind."""
        return self._take_or_wait(timeout)

    async def _take_or_wait(self, timeout: float | None) -> Lease | None:
        site = self._here()
        holder = site.room.holder
        if holder is not None and timeout != 0 and holder.task is asyncio.current_task():
            raise LockAlreadyHeld(self.key, "this task holds it, and would wait for itself")
        for _ in range(MOST_LATE_ANSWERS):
            waiter = Waiter(site.runtime.loop)
            if timeout is None:
                grant = await obtain(site, waiter, wait=True)
            else:
                grant = await obtain_within(site, waiter, timeout)
            if grant is None:
                return None
            lease = site.lease(waiter, grant)
            if site.runtime.loop.time() < lease.deadline:
                return lease
            lease.release_nowait()
        raise LockLost(self.key, f"answers take longer than its ttl of {self.options.ttl:g} s")
