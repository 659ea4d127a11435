"""Deadlines of single calls, without a timer per call.

Calls of one limiter, one cache, one lock share one deadline, and replies come in order. So calls with equal deadlines
stand in one line: a new call drops the answered ones at the head, and only the oldest needs a timer. O(1) per call,
amortised.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple, Protocol


class Expiring(Protocol):
    """What a deadline needs of its lane."""

    loop: asyncio.AbstractEventLoop

    def expire(self, seconds: float, overdue: list[tuple[asyncio.Future[Any], bytes]]) -> None: ...


class _Waiting(NamedTuple):
    due: float
    future: asyncio.Future[Any]
    packed: bytes


class Deadlines:
    """Tells the lane which calls have waited too long."""

    def __init__(self, lane: Expiring) -> None:
        self._lane = lane
        self._lines: dict[float, deque[_Waiting]] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}

    def watch(self, seconds: float, future: asyncio.Future[Any], packed: bytes) -> None:
        """Let `future` fail unless it is done within `seconds`."""
        line = self._lines.get(seconds)
        if line is None:
            line = self._lines[seconds] = deque()
        while line and line[0].future.done():
            line.popleft()
        due = self._lane.loop.time() + seconds
        line.append(_Waiting(due, future, packed))
        if seconds not in self._timers:
            self._timers[seconds] = self._lane.loop.call_at(due, self._ring, seconds)

    def _ring(self, seconds: float) -> None:
        line = self._lines[seconds]
        now = self._lane.loop.time()
        overdue: list[tuple[asyncio.Future[Any], bytes]] = []
        while line and (line[0].future.done() or line[0].due <= now):
            waiting = line.popleft()
            if not waiting.future.done():
                overdue.append((waiting.future, waiting.packed))
        if line:
            self._timers[seconds] = self._lane.loop.call_at(line[0].due, self._ring, seconds)
        else:
            del self._timers[seconds], self._lines[seconds]
        if overdue:
            self._lane.expire(seconds, overdue)
