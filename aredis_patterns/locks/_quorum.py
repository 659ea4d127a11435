"""Asking several servers the same, and going on as soon as a majority has decided."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Generic, TypeVar

from redis.exceptions import RedisError

from aredis_patterns.exceptions import PatternError

__all__ = ["TROUBLE", "Poll", "majority"]

TROUBLE: Final = (RedisError, PatternError, OSError)
"""A server that cannot answer."""

T = TypeVar("T")


def majority(servers: int) -> int:
    """How many of so many are more than half."""
    return servers // 2 + 1


class Poll(Generic[T]):
    """One question to all servers. `answers` holds what has come, by number of the server; None for no answer."""

    def __init__(self, questions: Iterable[Coroutine[Any, Any, T]], is_yes: Callable[[T], bool]) -> None:
        self.answers: dict[int, T | None] = {}
        self.yes = self.no = self.silent = 0
        self._is_yes = is_yes
        self._tasks = [asyncio.ensure_future(self._ask(number, each)) for number, each in enumerate(questions)]
        self._needed: Final = majority(len(self._tasks))

    async def decided(self) -> bool:
        """Whether a majority says yes; returns as soon as that is certain either way. Late answers still count."""
        pending: set[asyncio.Task[None]] = set(self._tasks)
        spare = len(self._tasks) - self._needed
        while pending and self.yes < self._needed and self.no + self.silent <= spare:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        return self.yes >= self._needed

    async def all(self) -> bool:
        """Whether a majority says yes, after everybody has answered or failed."""
        await asyncio.wait(self._tasks)
        return self.yes >= self._needed

    @property
    def refused(self) -> bool:
        """Whether so many have said no that the silent ones cannot change it."""
        return self.no > len(self._tasks) - self._needed

    def cancel(self) -> None:
        """Ask nobody any more."""
        for task in self._tasks:
            task.cancel()

    async def _ask(self, number: int, question: Coroutine[Any, Any, T]) -> None:
        try:
            answer = await question
        except TROUBLE:
            self.silent += 1
            self.answers[number] = None
            return
        self.answers[number] = answer
        if self._is_yes(answer):
            self.yes += 1
        else:
            self.no += 1
