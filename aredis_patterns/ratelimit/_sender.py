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
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from redis.exceptions import AuthenticationError, ResponseError

from aredis_patterns._core.diagnosis import translate
from aredis_patterns.exceptions import OutcomeUnknown, ServerRefused
from aredis_patterns.ratelimit._scripts import Numbers, begin_hit, finish_hit, hit
from aredis_patterns.types import Commands

__all__ = ["Abandoned", "Sender"]

_log: Final = logging.getLogger("aredis_patterns.ratelimit")

MOST: Final = 40
"""Hits in one script run: enough to share its cost, few enough to hold up nobody (about a fifth of a millisecond)."""

Abandoned = Callable[[str, int], None]
"""Called with the key and the cost of a hit that was charged and whose caller had gone."""


_Hit: TypeAlias = tuple[str, int, "asyncio.Future[Sequence[int]]", Abandoned | None]
"""Key, cost, who waits for the answer, and whom to tell when nobody does any more."""


class _Here:
    """What is under way in one event loop."""

    __slots__ = ("busy", "gathered", "loop", "tasks")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: Final = loop
        self.gathered: Final[dict[Numbers, list[_Hit]]] = {}
        self.tasks: Final[set[asyncio.Task[None]]] = set()
        self.busy = 0
        """Calls that have not been answered."""


class Sender:
    """The hits of one limiter, in whatever event loops it is used, also in several at a time."""

    def __init__(self, commands: Commands, deadline: float, *, gathers: bool) -> None:
        self._commands: Final = commands
        self._deadline: Final = deadline
        self._gathers: Final = gathers
        self._latest: _Here | None = None
        self._by_loop: Final[dict[asyncio.AbstractEventLoop, _Here]] = {}

    def _here(self) -> _Here:
        loop = asyncio.get_running_loop()
        here = self._latest
        if here is None or here.loop is not loop:
            here = self._by_loop.get(loop)
            if here is None:
                for old in [each for each in list(self._by_loop) if each.is_closed()]:
                    self._by_loop.pop(old, None)
                here = self._by_loop[loop] = _Here(loop)
            self._latest = here
        return here

    def hit(self, numbers: Numbers, key: str, cost: int) -> Awaitable[Sequence[int]]:
        """Charge, and give the four integers of a Decision: alone when nobody is under way, else with the next ones."""
        here = self._here()
        return self._join(here, numbers, key, cost) if here.busy and self._gathers else self._alone(numbers, key, cost)

    async def _alone(self, numbers: Numbers, key: str, cost: int) -> Sequence[int]:
        here = self._here()
        here.busy += 1
        try:
            begun = begin_hit(self._commands, numbers, (key,), (cost,), self._deadline)
            if begun is None:
                return await self._run(numbers, (key,), (cost,), 1)
            reply = await begun
            if isinstance(reply, Exception):
                reply = await finish_hit(reply, self._commands, numbers, (key,), (cost,), self._deadline)
            return reply
        finally:
            here.busy -= 1

    def _join(
        self, here: _Here, numbers: Numbers, key: str, cost: int, on_abandoned: Abandoned | None = None
    ) -> asyncio.Future[Sequence[int]]:
        """Charge together with those who come in the same iteration of the loop."""
        future: asyncio.Future[Sequence[int]] = here.loop.create_future()
        gathered = here.gathered.get(numbers)
        if gathered is None:
            gathered = here.gathered[numbers] = []
            here.loop.call_soon(self._send, here, numbers)
        gathered.append((key, cost, future, on_abandoned))
        if len(gathered) >= MOST or not self._gathers:
            self._send(here, numbers)
        return future

    async def hit_or_give_back(self, numbers: Numbers, key: str, cost: int, on_abandoned: Abandoned) -> Sequence[int]:
        """Charge; when the caller is cancelled and was charged all the same, `on_abandoned` is told."""
        future = self._join(self._here(), numbers, key, cost, on_abandoned)
        try:
            return await future
        except asyncio.CancelledError:
            # The answer may have come in the very moment in which the caller was cancelled.
            if future.done() and not future.cancelled() and future.exception() is None and future.result()[0] > 0:
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
        for (some, theirs), reply in zip(chunks, replies, strict=True):
            if isinstance(reply, BaseException):
                answers.extend(_error_of(reply, key) for key in some)
                continue
            for at, (key, cost) in enumerate(zip(some, theirs, strict=True)):
                answer: Sequence[int] | BaseException = reply[4 * at : 4 * at + 4]
                answers.append(answer if reply[4 * at] >= 0 else await self._again(numbers, key, cost))
        return answers

    async def _again(self, numbers: Numbers, key: str, cost: int) -> Sequence[int] | BaseException:
        """By itself, what failed beside others: charged nothing, and now says why."""
        try:
            return await self._run(numbers, (key,), (cost,), 1)
        except Exception as error:
            return error

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

    def _send(self, here: _Here, numbers: Numbers) -> None:
        gathered = here.gathered.pop(numbers, None)
        if not gathered:
            return
        hits = [each for each in gathered if not each[2].done()]
        if not hits:
            return
        keys, costs, _, _ = zip(*hits, strict=True)
        try:
            begun = begin_hit(self._commands, numbers, keys, costs, self._deadline, at_once=True)
        except Exception as error:  # called by the loop: nobody else would tell those who wait
            _fail(hits, error)
            return
        here.busy += 1
        if begun is None:
            self._start(here, numbers, hits, self._run(numbers, keys, costs, 1))
        else:
            begun.add_done_callback(partial(self._answered, here, numbers, hits))

    def _answered(
        self, here: _Here, numbers: Numbers, hits: list[_Hit], begun: asyncio.Future[list[int] | Exception]
    ) -> None:
        error = asyncio.CancelledError() if begun.cancelled() else begun.exception()
        if error is not None:
            here.busy -= 1
            _fail(hits, error)
            return
        reply = begun.result()
        if isinstance(reply, Exception):
            keys, costs, _, _ = zip(*hits, strict=True)
            finishing = finish_hit(reply, self._commands, numbers, keys, costs, self._deadline)
            self._start(here, numbers, hits, finishing)
            return
        here.busy -= 1
        self._hand_out(here, numbers, hits, reply)

    def _start(self, here: _Here, numbers: Numbers, hits: list[_Hit], run: Coroutine[Any, Any, list[int]]) -> None:
        task = here.loop.create_task(self._settle(here, numbers, hits, run))
        here.tasks.add(task)
        task.add_done_callback(here.tasks.discard)

    async def _settle(
        self, here: _Here, numbers: Numbers, hits: list[_Hit], run: Coroutine[Any, Any, list[int]]
    ) -> None:
        try:
            reply = await run
        except asyncio.CancelledError as error:  # the loop ends
            _fail(hits, error)
            raise
        except Exception as error:
            _fail(hits, error)
        else:
            self._hand_out(here, numbers, hits, reply)
        finally:
            here.busy -= 1

    def _hand_out(self, here: _Here, numbers: Numbers, hits: list[_Hit], reply: list[int]) -> None:
        at = 0
        for each in hits:
            key, cost, future, on_abandoned = each
            answer = reply[at : at + 4]
            at += 4
            if future.done():
                if on_abandoned is not None and answer[0] > 0:
                    _tell(on_abandoned, key, cost)
            elif answer[0] >= 0:
                future.set_result(answer)
            else:  # failed without a charge: alone it hears why, and the others do not
                here.busy += 1
                self._start(here, numbers, [each], self._run(numbers, (key,), (cost,), 1))


def _tell(on_abandoned: Abandoned, key: str, cost: int) -> None:
    try:
        on_abandoned(key, cost)
    except Exception:  # those behind it still wait for their answers
        _log.exception("what a cancelled caller was charged could not be given back")


def _fail(hits: list[_Hit], error: BaseException) -> None:
    for key, _, future, _ in hits:
        if future.done():
            continue
        if isinstance(error, asyncio.CancelledError):
            future.cancel()
        else:
            future.set_exception(_error_of(error, key))


def _error_of(error: BaseException, key: str) -> BaseException:
    """An error of its own for each caller, about its own key."""
    said = error.__cause__
    if isinstance(error, OutcomeUnknown):
        own: BaseException = type(error)(error.command, key, error.reason)
    elif isinstance(error, ServerRefused) and isinstance(said, (ResponseError, AuthenticationError)):
        own = translate(said, command="script hit", key=key)
    else:
        own = copy.copy(error)
    own.__cause__ = error
    return own
