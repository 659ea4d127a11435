"""Callers that wait until their request fits: one line and one timer for each key.

A line asks the server for whoever stands first, and sleeps for as long as the answer says. When there is room for
several, it asks for several in one round trip; nobody is let through behind one who was refused. A line exists only while
somebody stands in it.

A waiter that goes away while it is being asked for was charged: what it got goes to the next who costs the same, or is
given back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from aredis_patterns.exceptions import RateLimitExceeded, RateLimitTimeout
from aredis_patterns.ratelimit._result import RateLimitResult

__all__ = ["WaitingRoom"]

AskInLine: TypeAlias = Callable[[str, Sequence[int]], Awaitable[list[RateLimitResult | BaseException]]]
GiveBack: TypeAlias = Callable[[str, int], None]

SHORTEST_PAUSE: Final = 0.001
WIDEST: Final = 64
"""Waiters that are asked for in one round trip."""


@dataclass(slots=True, eq=False)
class _Waiter:
    key: str
    cost: int
    due: float | None
    """When its patience ends, by the clock of the loop."""
    future: asyncio.Future[RateLimitResult]


@dataclass(slots=True, eq=False)
class _Line:
    waiters: deque[_Waiter] = field(default_factory=lambda: deque[_Waiter]())
    awake: asyncio.Future[None] | None = None
    """What the line sleeps on."""
    last: RateLimitResult | None = None
    """The latest refusal."""

    def wake(self) -> None:
        if self.awake is not None and not self.awake.done():
            self.awake.set_result(None)

    def wake_if_first(self, waiter: _Waiter) -> None:
        """The next in line may fit earlier than the one who leaves."""
        if self.waiters and self.waiters[0] is waiter:
            self.wake()

    def head(self) -> _Waiter | None:
        """The first who still waits."""
        while self.waiters and self.waiters[0].future.done():
            self.waiters.popleft()
        return self.waiters[0] if self.waiters else None


class WaitingRoom:
    """The lines of one limiter, in whatever event loop it is used."""

    def __init__(self, ask: AskInLine, give_back: GiveBack, unknown: Callable[[int], RateLimitResult]) -> None:
        self._unknown: Final = unknown
        """The refusal of a cost for which the server has not been asked yet."""
        self._ask: Final = ask
        self._give_back: Final = give_back
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lines: dict[str, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many wait."""
        return sum(not waiter.future.done() for line in self._lines.values() for waiter in line.waiters)

    def occupied(self, full_key: str) -> bool:
        """Whether somebody waits for this key already."""
        return self._loop is asyncio.get_running_loop() and full_key in self._lines

    def look_again(self, full_key: str) -> None:
        """Something was given back: the line of this key need not sleep on."""
        if self.occupied(full_key):
            self._lines[full_key].wake()

    async def wait(
        self, key: str, full_key: str, cost: int, patience: float | None, refused: RateLimitResult | None
    ) -> RateLimitResult:
        """Stand in line until the request fits. `refused`: the answer that made the caller wait, when there is one."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._lines = loop, {}
        due = None if patience is None else loop.time() + patience
        waiter = _Waiter(key, cost, due, loop.create_future())
        if refused is not None and (error := _hopeless(waiter, refused, loop.time())):
            raise error
        line = self._lines.get(full_key)
        if line is None:
            line = self._lines[full_key] = _Line()
            pause = (refused.retry_after or 0.0) if refused is not None else 0.0
            task = loop.create_task(self._serve(full_key, line, pause), name=f"waiting for {full_key}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        line.waiters.append(waiter)
        try:
            async with asyncio.timeout_at(due):
                return await waiter.future
        except TimeoutError:
            if _was_granted(waiter.future):
                return waiter.future.result()
            raise RateLimitTimeout(key, line.last or refused or self._unknown(cost)) from None
        except asyncio.CancelledError:
            if _was_granted(waiter.future) and _was_charged(waiter.future.result()):
                self._give_back(full_key, cost)
            raise
        finally:
            waiter.future.cancel()
            line.wake_if_first(waiter)

    async def _serve(self, full_key: str, line: _Line, pause: float) -> None:
        """Ask for the head of the line, hand over, sleep; until nobody stands in it."""
        width = 1
        try:
            while True:
                if pause > 0:
                    await self._sleep(line, pause)
                    pause = 0.0
                if line.head() is None:
                    return
                asked = [waiter for waiter in line.waiters if not waiter.future.done()][:width]
                answers = await self._ask(full_key, [waiter.cost for waiter in asked])
                pause = self._hand_over(full_key, line, asked, answers)
                last = answers[-1]
                head = line.head()
                width = 1
                if pause == 0 and head is not None and isinstance(last, RateLimitResult):
                    width = max(1, min(WIDEST, last.remaining // max(1, head.cost)))
        finally:
            if self._lines.get(full_key) is line:
                del self._lines[full_key]
            for waiter in line.waiters:
                waiter.future.cancel()

    def _hand_over(
        self, full_key: str, line: _Line, asked: list[_Waiter], answers: list[RateLimitResult | BaseException]
    ) -> float:
        """Give each answer to its waiter; returns how long to sleep."""
        pause = 0.0
        for waiter, answer in zip(asked, answers, strict=True):
            if isinstance(answer, BaseException):
                if not waiter.future.done():
                    waiter.future.set_exception(answer)
            elif answer:
                self._grant(full_key, line, waiter, answer)
            elif not pause:
                line.last = answer
                pause = answer.retry_after or SHORTEST_PAUSE
                self._dismiss_the_hopeless(line, waiter, answer)
        return pause

    def _grant(self, full_key: str, line: _Line, waiter: _Waiter, answer: RateLimitResult) -> None:
        """To the waiter; to the next of the same cost when it has gone; or back to the server."""
        if waiter.future.done():
            others = (other for other in line.waiters if not other.future.done() and other.cost == waiter.cost)
            heir = next(others, None)
            if heir is None:
                if _was_charged(answer):
                    self._give_back(full_key, waiter.cost)
                return
            waiter = heir
        waiter.future.set_result(answer)

    def _dismiss_the_hopeless(self, line: _Line, refused: _Waiter, answer: RateLimitResult) -> None:
        """Tell those who cannot be served in time, rather than let them wait for it."""
        now = asyncio.get_running_loop().time()
        for waiter in line.waiters:
            if not waiter.future.done() and (waiter is refused or waiter.due is not None):
                error = _hopeless(waiter, answer, now) if waiter.cost >= refused.cost else None
                if error is not None:
                    waiter.future.set_exception(error)

    async def _sleep(self, line: _Line, pause: float) -> None:
        """On one timer, or until something has changed."""
        loop = asyncio.get_running_loop()
        line.awake = loop.create_future()
        timer = loop.call_later(pause, line.wake)
        try:
            await line.awake
        finally:
            timer.cancel()
            line.awake = None


def _was_granted(future: asyncio.Future[RateLimitResult]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _was_charged(result: RateLimitResult) -> bool:
    """Whether the server has counted it: an answer of a policy or of shadow mode has nothing to give back."""
    return result.source == "redis" and not result.shadowed


def _hopeless(waiter: _Waiter, answer: RateLimitResult, now: float) -> RateLimitExceeded | None:
    if answer.retry_after is None:
        return RateLimitExceeded(waiter.key, answer)
    if waiter.due is not None and now + answer.retry_after > waiter.due:
        return RateLimitTimeout(waiter.key, answer)
    return None
