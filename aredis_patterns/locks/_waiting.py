"""Waiting without polling: for locks, permits and whatever else is granted to one token at a time.

    attempt --granted-->  done
       |
     in the queue of the server  --message "free", gap in the messages, timer-->  attempt again, with the old ticket

A failed attempt has put the token into the queue in the same step, so no release can fall in between. The release sends
one message to one waiter. Three things can go wrong, and each has its remedy:

- The holder dies, so nobody sends anything. A timer, one per key and process, looks when the key should have expired.
- The waiter that was woken dies or stands still. The process that woke it looks again shortly after.
- A message is missed. The inbox says so to all its waiters, and each attempts again.

Whoever leaves for any reason, cancellation included, gives up place, reservation and grant in one posted command, which
wakes the next if that frees anything: a wake-up is never lost with its receiver.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from redis.exceptions import RedisError

from aredis_patterns._core.backoff import exponential
from aredis_patterns.exceptions import OutcomeUnknown, PatternError, PermissionDenied, ServerUnavailable
from aredis_patterns.locks._answers import RESERVE, Answer
from aredis_patterns.locks._tokens import next_token

if TYPE_CHECKING:
    from aredis_patterns.locks._lease import Lease
    from aredis_patterns.locks._runtime import Runtime
    from aredis_patterns.pipelining import Inbox

__all__ = ["Grant", "Resource", "Room", "Waiter", "obtain", "obtain_within"]

LONGEST_REST: Final = 5.0
"""Seconds after which a waiting process looks for itself, whatever it was told: keys can be deleted without a word."""
GUARD: Final = RESERVE / 1000 + 0.03
"""Seconds after which the process that woke a waiter looks whether it came."""
AGAIN_AFTER_LOSS: Final = 1.0
"""Seconds after which an undo is repeated when its connection broke: the server may still work off the old one."""
MOST_TRANSFERS: Final = 16
"""Times that a lock may stay in one process before others get their turn."""

_log: Final = logging.getLogger("aredis_patterns.locks")


class Grant(NamedTuple):
    """What a waiter got."""

    fence: int
    start: float
    """Time of the loop before it was asked for."""


class Waiter:
    """One attempt to acquire, under one token."""

    __slots__ = (
        "_future",
        "_loop",
        "asked",
        "gone",
        "grant",
        "in_line",
        "listening",
        "ticket",
        "token",
        "waited",
        "woken",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.token: Final = next_token()
        self.ticket = 0
        self.grant: Grant | None = None
        """Set by whoever hands a lock over inside this process."""
        self.asked = False
        """Whether the server may know this token."""
        self.in_line = False
        self.listening = False
        self.waited = False
        self.gone = False
        self.woken = False
        """Whether there may be something to have that has not been looked into."""
        self._loop = loop
        self._future: asyncio.Future[None] | None = None

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

    async def attempt(self, waiter: Waiter, *, enqueue: bool) -> Answer:
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

    __slots__ = (
        "__weakref__",
        "_on_guard",
        "_timer",
        "_waiters",
        "_when",
        "heir",
        "holder",
        "line",
        "loop",
        "transfers",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: Final = loop
        self.holder: Lease | None = None
        self.line: deque[Waiter] = deque()
        """Who stands behind one another: the first asks the server for all."""
        self.heir: Waiter | None = None
        """To whom the lock is being handed right now."""
        self.transfers = 0
        """How often in a row the lock stayed here."""
        self._waiters: set[Waiter] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._when = 0.0
        self._on_guard = False

    def join(self, waiter: Waiter, *, line_up: bool) -> None:
        self._waiters.add(waiter)
        if line_up:
            waiter.in_line = True
            self.line.append(waiter)

    def part(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)
        waiter.gone = True
        if waiter.in_line:
            first = self.line[0] is waiter
            self.line.remove(waiter)
            if first:
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


async def obtain(resource: Resource, waiter: Waiter, *, wait: bool) -> Grant | None:
    """A grant; None without one if it may not wait. Ends otherwise only by being cancelled, or with an error of the
    server; then nothing stays behind."""
    room, inbox = resource.room, resource.inbox
    room.join(waiter, line_up=resource.lines_up)
    pauses: Iterator[float] | None = None
    try:
        while waiter.grant is None:
            pause = None
            if room.may_ask(waiter):
                # The first attempt spares opening the inbox: most locks are free.
                listening = wait and (await _listen(resource, waiter) if waiter.asked else _overhear(inbox, waiter))
                waiter.woken, first, waiter.asked = False, not waiter.asked, True
                start = room.loop.time()
                answer = await resource.attempt(waiter, enqueue=listening)
                if answer.granted:
                    return Grant(answer.fence, start)
                waiter.ticket = answer.ticket
                room.look_after(answer.again, resource, guard=answer.again == 0)
                if wait and first and not listening:
                    continue
                if not listening:
                    pauses = pauses or exponential(first=0.005, longest=0.1)
                    pause = next(pauses)
            if not wait:
                return None
            await waiter.rest(pause)
        return waiter.grant
    except BaseException as error:
        if waiter.asked:
            _undo(resource, waiter, error)
        raise
    finally:
        if waiter.listening:
            inbox.forget(waiter.token)
        room.part(waiter)


async def obtain_within(resource: Resource, waiter: Waiter, timeout: float | None) -> Grant | None:
    """`obtain`, for so many seconds at most."""
    if not timeout:
        return await obtain(resource, waiter, wait=timeout is None)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            return await obtain(resource, waiter, wait=True)
    return None


def _overhear(inbox: Inbox, waiter: Waiter) -> bool:
    """Be ready to be woken, if that costs nothing."""
    if inbox.live:
        inbox.expect(waiter.token, waiter.wake)
        waiter.listening = True
    return waiter.listening


async def _listen(resource: Resource, waiter: Waiter) -> bool:
    """Be ready to be woken. False: this user may not subscribe, or nobody answers; then it takes polling."""
    try:
        await resource.inbox.open()
    except (PermissionDenied, ServerUnavailable) as error:
        resource.runtime.cannot_listen(error)
        return False
    resource.inbox.expect(waiter.token, waiter.wake)
    waiter.listening = True
    return True


def _undo(resource: Resource, waiter: Waiter, error: BaseException) -> None:
    loop = resource.runtime.loop
    with contextlib.suppress(RuntimeError):  # the loop is closing: the ttl will do it
        resource.leave(waiter)
        if waiter.ticket:
            resource.room.look_after(int(GUARD * 1000), resource, guard=True)
        if isinstance(error, OutcomeUnknown):
            loop.call_later(AGAIN_AFTER_LOSS, resource.leave, waiter)
