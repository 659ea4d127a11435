"""Numbers the publications of one process, so that the server's memory of them reaches as far back as it must."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

__all__ = ["WINDOW", "Operations"]

WINDOW: Final = 1024
"""The server remembers so many publications of one process and topic."""


class Operations:
    """Hands out numbers, in the order of asking. None begins while one that is still under way would be forgotten for it.

    To bound how many are under way would not be enough: one that is sent again and again while others pass it by falls
    out of the server's memory, and is executed twice.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self._window: Final = window
        self._newest = 0
        self._under_way: dict[int, None] = {}
        """In order: the first is the oldest."""
        self._waiting: deque[asyncio.Future[int]] = deque()

    async def begin(self) -> int:
        """The number of an operation that is under way until `end`."""
        if self._has_room() and not self._waiting:
            return self._next()
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.end(turn.result())  # it was our turn already
            raise

    def end(self, operation: int) -> None:
        """It has been answered, or is not sent again."""
        del self._under_way[operation]
        while self._waiting and self._has_room():
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(self._next())

    def _has_room(self) -> bool:
        return not self._under_way or self._newest + 1 - next(iter(self._under_way)) < self._window

    def _next(self) -> int:
        self._newest += 1
        self._under_way[self._newest] = None
        return self._newest
