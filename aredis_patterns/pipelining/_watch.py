"""Notices a server that is silent, and a connection that is only half there.

- Busy: the age of the oldest unanswered write is bounded by the client's `socket_timeout`. One mark per write, one
  timer.
- Idle: after `health_check_interval` (15 s when the client sets none) a PING goes out ahead of everybody; calls made
  before its reply wait for it *unsent*, so a connection that died in silence costs no unknown outcome.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, NamedTuple, Protocol

from redis.asyncio.connection import AbstractConnection

from aredis_patterns.exceptions import ReplyTimeout
from aredis_patterns.pipelining._contract import Entry

IDLE_CHECK: Final = 15.0


class Watched(Protocol):
    """What the watch needs of its lane."""

    loop: asyncio.AbstractEventLoop
    sent: deque[Entry]

    def probe(self) -> asyncio.Future[Any]: ...
    def writable(self) -> None: ...
    def fail_connection(self, error: Exception) -> None: ...


class _Mark(NamedTuple):
    commands: int
    """Commands written up to and including this write."""
    time: float


class Watch:
    """The clock of one connection."""

    def __init__(self, lane: Watched) -> None:
        self._lane = lane
        self._marks: deque[_Mark] = deque()
        self._written = 0
        self._reply_timeout: float | None = None
        self._idle_after = IDLE_CHECK
        self._connection: AbstractConnection | None = None
        self._busy: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._last_write = 0.0
        self.probing = False

    def start(self, connection: AbstractConnection) -> None:
        """A connection has opened."""
        self._connection = connection
        self._idle_after = connection.health_check_interval or IDLE_CHECK
        self._last_write = self._lane.loop.time()
        self._idle = self._lane.loop.call_later(self._idle_after, self._check_idle)

    def stop(self) -> None:
        """The connection has ended."""
        self._connection = None
        self._marks.clear()
        self.probing = False
        for timer in (self._busy, self._idle):
            if timer is not None:
                timer.cancel()
        self._busy = self._idle = None

    def wrote(self, commands: int) -> None:
        """Something was written; `commands` counts all commands so far."""
        now = self._last_write = self._lane.loop.time()
        self._written = commands
        timeout = self._connection.socket_timeout if self._connection is not None else None
        if timeout is None:
            return
        marks = self._marks
        answered = commands - len(self._lane.sent)
        while marks and marks[0].commands <= answered:
            marks.popleft()
        marks.append(_Mark(commands, now))
        if self._busy is None:
            self._busy = self._lane.loop.call_at(now + timeout, self._check_busy)

    def _check_busy(self) -> None:
        """Fail the connection when its oldest write has waited too long; look again when the next one could have."""
        self._busy = None
        connection, marks = self._connection, self._marks
        # Read anew: maintenance notifications relax the timeout of a connection while it lives.
        timeout = connection.socket_timeout if connection is not None else None
        answered = self._written - len(self._lane.sent)
        while marks and marks[0].commands <= answered:
            marks.popleft()
        if not marks or timeout is None:
            return
        due = marks[0].time + timeout
        if due <= self._lane.loop.time():
            self._lane.fail_connection(ReplyTimeout("A command", None, f"the server was silent for {timeout:g} s"))
        else:
            self._busy = self._lane.loop.call_at(due, self._check_busy)

    def _check_idle(self) -> None:
        loop = self._lane.loop
        due = self._last_write + self._idle_after
        if self._lane.sent or due > loop.time():
            self._idle = loop.call_at(max(due, loop.time() + 0.05), self._check_idle)
            return
        self.probing = True
        pong = self._lane.probe()
        self.wrote(self._written + 1)
        pong.add_done_callback(self._probed)
        self._idle = loop.call_later(self._idle_after, self._check_idle)

    def _probed(self, pong: asyncio.Future[Any]) -> None:
        if pong.cancelled() or pong.exception() is not None:
            return
        if self.probing:
            self.probing = False
            self._lane.writable()
