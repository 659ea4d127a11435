"""Who waits in this process, and where: `Waiter` is one attempt to acquire, `Room` all of them for one key.

A room also knows the lease that this process has of its key, and looks after those who wait: a timer for holders that
die without a word, and for waiters that were woken and do not come.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from redis.exceptions import RedisError

from aredis_patterns.exceptions import PatternError
from aredis_patterns.locks._answers import Answer
from aredis_patterns.locks._tokens import next_token

if TYPE_CHECKING:
    from aredis_patterns.locks._lease import Lease
    from aredis_patterns.locks._runtime import Runtime
    from aredis_patterns.pipelining import Inbox

__all__ = ["LONGEST_REST", "Grant", "Resource", "Room", "Waiter"]

LONGEST_REST: Final = 5.0
"""Seconds after which a waiting process looks for itself, whatever it was told: keys can be deleted without a word."""

_log: Final = logging.getLogger("aredis_patterns.locks")


class Grant(NamedTuple):
    """What a waiter got."""

    fence: int
    start: float
    """Time of the loop before it was asked for."""


class Waiter:
    """One attempt to acquire, under one token.

    No slots: with the defaults in the class, making one sets two attributes.
    """

    ticket = 0
    grant: Grant | None = None
    """Set by whoever hands a lock over inside this process."""
    asked = False
    """Whether the server may know this token."""
    in_line = False
    listening = False
    waited = False
    gone = False
    woken = False
    """Whether there may be something to have that has not been looked into."""
    _future: asyncio.Future[None] | None = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.token: Final = next_token()
        self._loop: Final = loop

    def wake(self, _: bytes | None = None) -> None:
        """There may be something to have."""
        self.woken = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def rest(self, seconds: float | None = None) -> None:
        """Until woken, or for so long at most."""
        self.waited = True
        if not self.woken:
            self._future = self._loop.create_future()
            timer = None if seconds is None else self._loop.call_later(seconds, self.wake)
            try:
                await self._future
            finally:
                self._future = None
                if timer is not None:
                    timer.cancel()
        self.woken = False  # or a waiter whose turn it is not would never rest again


class Resource(Protocol):
    """What can be waited for."""

    runtime: Runtime
    room: Room
    inbox: Inbox
    lines_up: bool
    """Whether the waiters of one process stand behind one another and only the first asks the server."""

    def attempt(self, waiter: Waiter, *, enqueue: bool) -> Coroutine[Any, Any, Answer]:
        """Ask the server once. Safe to repeat for the same token."""
        ...

    def leave(self, waiter: Waiter) -> None:
        """Give up whatever this token has, without waiting."""
        ...

    async def look(self) -> tuple[int, int]:
        """Wake somebody if there is something to have. (How many wait on the server, ms until looking again.)"""
        ...


class Room:
    """Those of this process who wait for one key, the lease that this process has of it, and the timer."""

    holder: Lease | None = None
    heir: Waiter | None = None
    """To whom the lock is being handed right now."""
    transfers = 0
    """How often in a row the lock stayed here."""
    _timer: asyncio.TimerHandle | None = None
    _when = 0.0
    _on_guard = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: Final = loop
        self.line: Final[deque[Waiter]] = deque()
        """Who stands behind one another: the first asks the server for all."""
        self._waiters: Final[set[Waiter]] = set()

    def join(self, waiter: Waiter, *, line_up: bool) -> None:
        self._waiters.add(waiter)
        if line_up:
            waiter.in_line = True
            self.line.append(waiter)

    def part(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)
        waiter.gone = True
        if waiter.in_line:
            line = self.line
            if line[0] is not waiter:
                line.remove(waiter)
                return
            line.popleft()
            self.call_first()

    def may_ask(self, waiter: Waiter) -> bool:
        """Whether it is this waiter's turn to ask the server. Who does not stand in the line may always."""
        return not waiter.in_line or (self.holder is None and self.heir is None and self.line[0] is waiter)

    def call_first(self) -> None:
        """Whoever stands first may ask now."""
        if self.line:
            self.line[0].wake()

    def look_after(self, milliseconds: int, resource: Resource, *, guard: bool = False) -> None:
        """Look when what is in the way should be over. The earlier of two such wishes counts."""
        rest = (
            LONGEST_REST if milliseconds < 0 else min(milliseconds / 1000 + random.uniform(0.003, 0.015), LONGEST_REST)
        )
        when = self.loop.time() + rest
        self._on_guard |= guard
        if self._timer is not None:
            if self._when <= when:
                return
            self._timer.cancel()
        self._when = when
        self._timer = self.loop.call_at(when, self._ring, resource)

    def _ring(self, resource: Resource) -> None:
        self._timer = None
        # For others only while connected: a client that was closed must not be opened again.
        if self._waiters or (self._on_guard and resource.runtime.connected):
            resource.runtime.spawn(self._look(resource))
        self._on_guard = False

    async def _look(self, resource: Resource) -> None:
        try:
            waiting, again = await resource.look()
        except (RedisError, PatternError, OSError) as error:
            _log.warning("cannot look after those who wait, trying again: %s", error)
            self.look_after(500, resource)
            return
        if waiting:
            self.look_after(again, resource)
            return
        # The server knows nobody who waits. If we do, its memory was lost: they enter their names again.
        for waiter in tuple(self._waiters):
            waiter.wake()
