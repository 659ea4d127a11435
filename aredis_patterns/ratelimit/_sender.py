"""How hits reach the server: a lone one at once, hits that come together in one EVALSHA.

While one call is under way, hits under the same limit gather until the end of the loop's iteration (or until they are
many) and are decided by one script run, in the order in which they came. Each is still decided by itself; what they
share is the round trip, the parsing and the moment. In a Cluster, where keys live on many nodes, nothing is gathered.

A caller that is cancelled leaves its place empty. If its hit is on its way, it may be charged; `on_abandoned` is told
when it was, so that a waiter can give its units back.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from aredis_patterns.exceptions import OutcomeUnknown
from aredis_patterns.ratelimit._scripts import Numbers, begin_hit, finish_hit, hit
from aredis_patterns.types import Commands

__all__ = ["Abandoned", "Sender"]

MOST: Final = 40
"""Hits in one script run: enough to share its cost, few enough to hold up nobody (about a fifth of a millisecond)."""

Abandoned = Callable[[str, int], None]
"""Called with the key and the cost of a hit that was charged and whose caller had gone."""


_Hit: TypeAlias = tuple[str, int, "asyncio.Future[Sequence[int]]", Abandoned | None]
"""Key, cost, who waits for the answer, and whom to tell when nobody does any more."""


class Sender:
    """The hits of one limiter, in whatever event loop it is used."""

    def __init__(self, commands: Commands, deadline: float, *, gathers: bool) -> None:
        self._commands: Final = commands
        self._deadline: Final = deadline
        self._gathers: Final = gathers
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gathered: dict[Numbers, list[_Hit]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy = 0

    @property
    def alone(self) -> bool:
        """Whether a hit now should go by itself: nobody is under way whom it could wait for in the meantime."""
        return not (self._busy and self._gathers and asyncio.get_running_loop() is self._loop)

    async def hit(self, numbers: Numbers, key: str, cost: int) -> Sequence[int]:
        """Charge by itself, and return the four integers of a Decision."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the first use, or a second loop: what gathered in the old one went with it
            self._loop, self._gathered, self._busy = loop, {}, 0
        self._busy += 1
        try:
            begun = begin_hit(self._commands, numbers, (key,), (cost,), self._deadline)
            if begun is None:
                return await self._run(numbers, (key,), (cost,), 1)
            reply = await begun
            if isinstance(reply, Exception):
                reply = await finish_hit(reply, self._commands, numbers, (key,), (cost,), self._deadline)
            return reply
        finally:
            self._busy -= 1

    def join(
        self, numbers: Numbers, key: str, cost: int, on_abandoned: Abandoned | None = None
    ) -> asyncio.Future[Sequence[int]]:
        """Charge together with those who come in the same iteration of the loop."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._gathered, self._busy = loop, {}, 0
        future: asyncio.Future[Sequence[int]] = loop.create_future()
        gathered = self._gathered.get(numbers)
        if gathered is None:
            gathered = self._gathered[numbers] = []
            loop.call_soon(self._send, numbers)
        gathered.append((key, cost, future, on_abandoned))
        if len(gathered) >= MOST or not self._gathers:
            self._send(numbers)
        return future

    async def hit_or_give_back(self, numbers: Numbers, key: str, cost: int, on_abandoned: Abandoned) -> Sequence[int]:
        """Charge; when the caller is cancelled and was charged all the same, `on_abandoned` is told."""
        future = self.join(numbers, key, cost, on_abandoned)
        try:
            return await future
        except asyncio.CancelledError:
            # The answer may have come in the very moment in which the caller was cancelled.
            if future.done() and not future.cancelled() and future.exception() is None and future.result()[0]:
                on_abandoned(key, cost)
            raise

    async def look(self, numbers: Numbers, key: str, cost: int) -> Sequence[int]:
        """What a hit would say."""
        return await self._run(numbers, [key], [cost], 0)

    async def hit_together(
        self, numbers: Numbers, keys: Sequence[str], costs: Sequence[int], *, in_line: bool = False
    ) -> list[Sequence[int] | BaseException]:
        """Charge each; answers and errors in order. One round trip."""
        size = MOST if self._gathers else 1
        chunks = [(keys[at : at + size], costs[at : at + size]) for at in range(0, len(keys), size)]
        charge = 2 if in_line else 1
        replies = await asyncio.gather(
            *(self._run(numbers, some, theirs, charge) for some, theirs in chunks), return_exceptions=True
        )
        answers: list[Sequence[int] | BaseException] = []
        for (some, _), reply in zip(chunks, replies, strict=True):
            if isinstance(reply, BaseException):
                answers.extend(_error_of(reply, key) for key in some)
            else:
                answers.extend(reply[at : at + 4] for at in range(0, len(reply), 4))
        return answers

    def _run(
        self, numbers: Numbers, keys: Sequence[str], costs: Sequence[int], charge: int
    ) -> Coroutine[Any, Any, list[int]]:
        algorithm, limit, a, b = numbers
        return hit(
            self._commands,
            states=keys,
            algorithm=algorithm,
            limit=limit,
            a=a,
            b=b,
            charge=charge,
            costs=costs,
            deadline=self._deadline,
        )

    def _send(self, numbers: Numbers) -> None:
        gathered = self._gathered.pop(numbers, None)
        if not gathered:
            return
        hits = [each for each in gathered if not each[2].done()]
        if not hits:
            return
        self._busy += 1
        keys, costs, _, _ = zip(*hits, strict=True)
        begun = begin_hit(self._commands, numbers, keys, costs, self._deadline, at_once=True)
        if begun is None:
            self._start(hits, self._run(numbers, keys, costs, 1))
        else:
            begun.add_done_callback(partial(self._answered, numbers, hits))

    def _answered(self, numbers: Numbers, hits: list[_Hit], begun: asyncio.Future[list[int] | Exception]) -> None:
        error = begun.exception()
        if error is not None:
            self._busy -= 1
            _fail(hits, error)
            return
        reply = begun.result()
        if isinstance(reply, Exception):
            keys, costs, _, _ = zip(*hits, strict=True)
            self._start(hits, finish_hit(reply, self._commands, numbers, keys, costs, self._deadline))
            return
        self._busy -= 1
        _hand_out(hits, reply)

    def _start(self, hits: list[_Hit], run: Coroutine[Any, Any, list[int]]) -> None:
        task = asyncio.get_running_loop().create_task(self._settle(hits, run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, hits: list[_Hit], run: Coroutine[Any, Any, list[int]]) -> None:
        try:
            reply = await run
        except asyncio.CancelledError:  # the loop ends
            for _, _, future, _ in hits:
                future.cancel()
            raise
        except Exception as error:
            _fail(hits, error)
        else:
            _hand_out(hits, reply)
        finally:
            self._busy -= 1


def _hand_out(hits: list[_Hit], reply: list[int]) -> None:
    at = 0
    for key, cost, future, on_abandoned in hits:
        answer = reply[at : at + 4]
        at += 4
        if not future.done():
            future.set_result(answer)
        elif on_abandoned is not None and answer[0]:
            on_abandoned(key, cost)


def _fail(hits: list[_Hit], error: BaseException) -> None:
    for key, _, future, _ in hits:
        if not future.done():
            future.set_exception(_error_of(error, key))


def _error_of(error: BaseException, key: str) -> BaseException:
    """An error of its own for each caller, about its own key."""
    if isinstance(error, OutcomeUnknown):
        own: BaseException = type(error)(error.command, key, error.reason)
    else:
        own = copy.copy(error)
    own.__cause__ = error
    return own
