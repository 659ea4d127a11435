"""Callers that know when their turn comes: times on one side, callers on the other, one timer for each key.

The times of a key were given out by the server, in order and evenly apart. When a caller goes away, everybody behind it
in this process moves up, if all cost the same, and the last time is left over; otherwise its own time is. The time left
over is given back to the server, which takes it while nobody has come behind it, and else lets it pass unused: others
have been told theirs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

__all__ = ["Turn", "Turns"]


class Turn(NamedTuple):
    """A time to go on, by the clock of the loop; `tail` names it to the server."""

    at: float
    cost: int
    tail: int


Leave: TypeAlias = Callable[[str, Turn], None]


@dataclass(slots=True, eq=False)
class _Line:
    turns: deque[Turn] = field(default_factory=lambda: deque[Turn]())
    callers: deque[asyncio.Future[None]] = field(default_factory=lambda: deque[asyncio.Future[None]]())
    timer: asyncio.TimerHandle | None = None


class Turns:
    """Who waits for a turn, in whatever event loop."""

    def __init__(self, leave: Leave) -> None:
        self._leave: Final = leave
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lines: dict[str, _Line] = {}

    def __len__(self) -> int:
        """How many wait."""
        return sum(len(line.callers) for line in self._lines.values())

    async def wait(self, full_key: str, turn: Turn) -> None:
        """Return when the turn has come. Cancelled, the turn goes to the next, or back."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._lines = loop, {}
        line = self._lines.setdefault(full_key, _Line())
        caller: asyncio.Future[None] = loop.create_future()
        line.turns.append(turn)
        line.callers.append(caller)
        self._arm(full_key, line)
        try:
            await caller
        except asyncio.CancelledError:
            if caller.cancelled():
                self._go_away(full_key, line, caller)
            raise

    def _arm(self, full_key: str, line: _Line) -> None:
        loop = asyncio.get_running_loop()
        if line.timer is None and line.turns:
            line.timer = loop.call_at(line.turns[0].at, self._ring, full_key, line)

    def _ring(self, full_key: str, line: _Line) -> None:
        line.timer = None
        now = asyncio.get_running_loop().time()
        while line.turns and line.turns[0].at <= now:
            line.turns.popleft()
            caller = line.callers.popleft()
            if not caller.done():
                caller.set_result(None)
        self._tidy(full_key, line)

    def _go_away(self, full_key: str, line: _Line, caller: asyncio.Future[None]) -> None:
        place = line.callers.index(caller)
        del line.callers[place]
        left_over = len(line.turns) - 1 if len({turn.cost for turn in line.turns}) == 1 else place
        turn = line.turns[left_over]
        del line.turns[left_over]
        if left_over == len(line.turns):  # the last: with a hole before others, there is nothing to give back
            self._leave(full_key, turn)
        self._tidy(full_key, line)

    def _tidy(self, full_key: str, line: _Line) -> None:
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
        if line.turns:
            self._arm(full_key, line)
        elif self._lines.get(full_key) is line:
            del self._lines[full_key]
