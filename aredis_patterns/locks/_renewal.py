"""Renewals: one timer and one batch for all leases of a client, instead of a task for each.

A lease is due after a third of its ttl, so two renewals may fail before it ends. When one is due, all that are due
within half of that time go along: a thousand leases cost a few commands per interval. Most leases are released long
before; for those this module costs an entry in a set.

What is answered with 0 is lost at once. What cannot be renewed is tried again, with jitter, until its local deadline;
then it is lost, before the server may give it to somebody else.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from redis.exceptions import RedisError

from aredis_patterns.exceptions import PatternError
from aredis_patterns.locks._lease import EXPIRED, GONE, MAX_HOLD, UNREACHABLE, Lease
from aredis_patterns.locks._options import margin

__all__ = ["RenewalStatistics", "Renewals", "Renewer"]

RETRY: Final = (0.05, 0.25)
"""Seconds, from and to, before a failed renewal is tried again."""

_log: Final = logging.getLogger("aredis_patterns.locks")
_NEVER: Final = float("inf")


class Renewer(Protocol):
    """Prolongs leases of one kind on one client."""

    async def renew(self, leases: Sequence[Lease], ttl: Sequence[float], deadline: float) -> Sequence[int]:
        """One answer for each lease: whether it is still held. `ttl` in seconds, `deadline` for the reply."""
        ...


@dataclass(frozen=True, slots=True)
class RenewalStatistics:
    """`held` now; since the beginning `renewed`, `failed` (tried again), and `lost`."""

    held: int
    renewed: int
    failed: int
    lost: int


class Renewals:
    """The leases of one client in one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: Final = loop
        self._leases: set[Lease] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._when = _NEVER
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewed = self._failed = self._lost = 0

    def add(self, lease: Lease) -> None:
        """Look after this lease from now on."""
        self._leases.add(lease)
        when = lease.due if lease.due < lease.deadline else lease.deadline
        if when < self._when:
            self._arm(when)

    def discard(self, lease: Lease) -> None:
        """It has ended."""
        self._leases.discard(lease)

    def suspect(self, lease: Lease) -> None:
        """Something may have happened to it that nobody told us: renew it now."""
        lease.due = min(lease.due, self.loop.time())
        self._arm(self.loop.time())

    def statistics(self) -> RenewalStatistics:
        """A snapshot."""
        return RenewalStatistics(len(self._leases), self._renewed, self._failed, self._lost)

    async def renew_now(self, lease: Lease, ttl: float) -> None:
        """Prolong one lease. Whatever is raised, the lease keeps the time that it has."""
        await self._renew(lease.renewer, [lease], [ttl], ttl)

    async def aclose(self) -> None:
        """End what runs. Leases that are still held end with their ttl."""
        self.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._when = None, _NEVER

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._when = when
        self._timer = self.loop.call_at(when, self._tick)

    def _tick(self) -> None:
        """Lose what is over, renew what is due, and come back for the next."""
        self._timer, self._when = None, _NEVER
        now = self.loop.time()
        due: dict[Renewer, list[Lease]] = {}
        soonest = _NEVER
        for lease in tuple(self._leases):
            if lease.deadline <= now:
                self._lost += 1
                lease.lose(MAX_HOLD if lease.hold_until <= now else UNREACHABLE if lease.auto_renewed else EXPIRED)
                continue
            if lease.task is not None and lease.task.done():
                _log.error("%r is given back: its task has ended without releasing it", lease)
                lease.release_nowait()
                continue
            if lease.due <= now + lease.ttl / 6 and lease.due <= lease.hold_until:
                due.setdefault(lease.renewer, []).append(lease)
                lease.due = _NEVER  # until the answer sets it
            soonest = min(soonest, lease.due, lease.deadline)
        for renewer, leases in due.items():
            task = self.loop.create_task(self._renew_or_retry(renewer, leases), name="renew locks")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if soonest < self._when:
            self._arm(soonest)

    async def _renew_or_retry(self, renewer: Renewer, leases: list[Lease]) -> None:
        ttls = [lease.ttl for lease in leases]
        try:
            await self._renew(renewer, leases, ttls, min(ttls) / 3)
        except (RedisError, PatternError, OSError) as error:
            _log.warning("%d locks could not be renewed, trying again: %s", len(leases), error)
            self._failed += 1
            again = self.loop.time() + random.uniform(*RETRY) * min(1.0, min(ttls))
            for lease in leases:
                self._due_at(lease, again)
        except Exception as error:
            _log.exception("renewing failed in an unexpected way")
            for lease in leases:
                self._lost += 1
                lease.lose(f"renewing it failed: {error!r}")

    async def _renew(self, renewer: Renewer, leases: list[Lease], ttls: list[float], deadline: float) -> None:
        sent = self.loop.time()
        answers = await renewer.renew(leases, ttls, deadline)
        for lease, ttl, held in zip(leases, ttls, answers, strict=True):
            if not held:
                self._lost += lease in self._leases
                lease.lose(GONE)
                continue
            self._renewed += 1
            lease.deadline = max(lease.deadline, min(sent + ttl - margin(ttl), lease.hold_until))
            if lease.auto_renewed:
                self._due_at(lease, sent + lease.ttl / 3 * random.uniform(0.9, 1.0))

    def _due_at(self, lease: Lease, when: float) -> None:
        lease.due = when
        if lease in self._leases and when < self._when:
            self._arm(when)
