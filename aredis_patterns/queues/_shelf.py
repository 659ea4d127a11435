"""Messages that are here, and those who wait for one. First come, first served; who stops waiting takes nothing along."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Generic, TypeVar

from aredis_patterns.queues._turns import copy_of

__all__ = ["Shelf", "answer", "fail"]

T = TypeVar("T")


class Shelf(Generic[T]):
    """Pure bookkeeping, no I/O. `lookahead` messages may lie here before anybody asks for them."""

    def __init__(self) -> None:
        self.lookahead = 0
        self._loop: Final = asyncio.get_running_loop()
        self._messages: deque[T] = deque()
        self._takers: deque[asyncio.Future[T | None]] = deque()
        self._hasty: list[asyncio.Future[T | None]] = []

    @property
    def demand(self) -> int:
        """How many more messages are wanted. O(waiting)."""
        takers = self._takers
        while takers and takers[0].done():
            takers.popleft()
        waiting = sum([not taker.done() for taker in takers]) if takers else 0
        return max(0, waiting + self.lookahead - len(self._messages))

    @property
    def hasty(self) -> bool:
        """Whether somebody wants an answer after one look."""
        return bool(self._hasty)

    def take(self) -> T | None:
        """A message that is here already."""
        return self._messages.popleft() if self._messages else None

    def ask(self, timeout: float | None) -> tuple[asyncio.Future[T | None], asyncio.TimerHandle | None]:
        """Stand in line, for `timeout` seconds: None for ever, 0 for one look."""
        taker: asyncio.Future[T | None] = self._loop.create_future()
        self._takers.append(taker)
        if timeout == 0:
            self._hasty.append(taker)
        return taker, self._loop.call_later(timeout, answer, taker, None) if timeout else None

    def leave(self, taker: asyncio.Future[T | None]) -> bool:
        """Stop waiting. A message that came in this very moment is back, in front: true then."""
        if taker.done() and not taker.cancelled() and taker.exception() is None:
            message = taker.result()
            if message is not None:
                self._messages.appendleft(message)
                return True
        return False

    def put(self, message: T) -> None:
        """A message has come."""
        self._messages.append(message)

    def put_first(self, message: T) -> None:
        """A message that was taken and not used."""
        self._messages.appendleft(message)

    def hand_out(self) -> None:
        """Messages to those who wait."""
        takers, messages = self._takers, self._messages
        while takers and messages:
            taker = takers.popleft()
            if not taker.done():
                taker.set_result(messages.popleft())

    def surplus(self, keep: int | None = None) -> Iterable[T]:
        """Takes out what is not wanted here: all but `lookahead` (or `keep`) messages, the youngest first."""
        most = self.lookahead if keep is None else keep
        while len(self._messages) > most:
            yield self._messages.pop()

    def hasty_ones(self) -> list[asyncio.Future[T | None]]:
        """Those who want an answer after the look that begins now."""
        hasty, self._hasty = self._hasty, []
        return hasty

    def fail(self, error: Exception) -> None:
        """Nobody will get anything."""
        for taker in self._takers:
            fail(taker, error)
        self._takers.clear()
        self._hasty.clear()


def answer(taker: asyncio.Future[T | None], message: T | None) -> None:
    """To who still waits."""
    if not taker.done():
        taker.set_result(message)


def fail(future: asyncio.Future[Any], error: Exception) -> None:
    """An error of its own for who still waits."""
    if not future.done():
        future.set_exception(copy_of(error))
