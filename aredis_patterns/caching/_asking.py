"""Asking the server about a key: what is there, who loads, and where to be woken."""

from __future__ import annotations

import asyncio
import functools
from typing import Final

from redis.exceptions import RedisError

from aredis_patterns.caching import _scripts
from aredis_patterns.caching._entry import parse_entry
from aredis_patterns.caching._flight import Flight
from aredis_patterns.caching._keys import EntryKeys
from aredis_patterns.caching._near import NearTable
from aredis_patterns.caching._result import Answer
from aredis_patterns.caching._scripts import Found, Status
from aredis_patterns.caching._shared import Budget, Shared, unavailable
from aredis_patterns.pipelining import inbox_of

__all__ = ["Asking", "found_answer"]


class Asking:
    """The questions of one cache in one event loop."""

    def __init__(self, shared: Shared, near: NearTable | None) -> None:
        self._shared: Final = shared
        self._near: Final = near
        self._loop: Final = asyncio.get_running_loop()
        self._inbox: Final = inbox_of(shared.client, shared.namespace)

    def expect(self, token: str) -> asyncio.Future[bytes | None]:
        """What a wake-up for this token will bring. To be expected before the question, and forgotten after it."""
        woken: asyncio.Future[bytes | None] = self._loop.create_future()
        self._inbox.expect(token, functools.partial(_wake, woken))
        return woken

    def forget(self, token: str) -> None:
        """No more wake-ups for this token."""
        self._inbox.forget(token)

    async def ask(self, flight: Flight, token: str, budget: Budget) -> tuple[Found, bool]:
        """What the server says, and whether we would hear a wake-up."""
        if flight.offline:
            raise unavailable()
        heard = await self._listen(budget)
        waiter = f"{self._inbox.channel} {token}" if heard else ""
        try:
            found = await self._read(flight, token, waiter, budget.left)
            if found.status is Status.CARE:
                await self._shared.ask(self._shared.tend(flight.keys.shard, self._shared.policy.horizon(flight.ttl)))
                found = await self._read(flight, token, waiter, budget.left)
        except BaseException:
            # Nobody will hear the answer; perhaps it was the lease.
            _scripts.post_fail(self._shared.commands, **flight.keys.named, token=token)
            raise
        return found, heard

    async def _read(self, flight: Flight, token: str, waiter: str, deadline: float) -> Found:
        """One question to the server. What it finds is offered to the near cache."""
        shared, keys = self._shared, flight.keys
        mark = self._near.expect(keys.value) if self._near is not None else None
        seen: Answer | None = None
        try:
            found = await shared.ask(
                _scripts.read(
                    shared.commands,
                    **keys.named,
                    token=token,
                    mode=flight.mode,
                    lease_ms=shared.policy.lease,
                    ahead=flight.ahead,
                    waiter=waiter,
                    unreadable=flight.unreadable,
                    horizon=shared.policy.horizon(flight.ttl),
                    deadline=deadline,
                )
            )
            if found.status is Status.HIT:
                seen = found_answer(found)
        finally:
            if mark is not None and self._near is not None:
                self._near.offer(mark, seen)
        return found

    async def _listen(self, budget: Budget) -> bool:
        if self._inbox.live:
            return True
        try:
            async with asyncio.timeout(budget.left):
                await self._inbox.open()
        except (RedisError, OSError):
            return False
        return True

    async def peek(self, keys: EntryKeys) -> Answer | None:
        """What is there and counts, by the script: it knows the tags. Nothing is loaded."""
        flight = Flight(keys, _nothing, ttl=None, tags=(), ahead=0, mode="look")
        found = await self._read(flight, "-", "", self._shared.policy.deadline)
        return found_answer(found) if found.status is Status.HIT else None


def found_answer(found: Found) -> Answer:
    """What is stored, as an answer."""
    entry = parse_entry(found.found)
    fresh = found.left < 0 or found.left > entry.stale
    return Answer(entry, found.left, "hit" if fresh else "stale", found.found)


def _wake(woken: asyncio.Future[bytes | None], payload: bytes | None) -> None:
    if not woken.done():
        woken.set_result(payload)


async def _nothing() -> None:
    """The loader of those who only look."""
