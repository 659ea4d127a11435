"""Identical reads that are wanted at the same time share one command.

A lone read goes at once. While one is under way, those that follow gather until the end of the loop's iteration, and
equal questions are asked once. Only whoever asked before the command was sent gets its answer, so nobody sees a board
that is older than their question, and everybody sees what they have written.

Each caller has a future of its own: a cancelled caller takes only itself away. A question that nobody waits for any
more is not asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, TypeAlias, TypeVar

__all__ = ["SharedReads"]

T = TypeVar("T")

_Ask: TypeAlias = Callable[[], Awaitable[Any]]


class SharedReads:
    """The reads of one board, in whatever event loop they are made. Answers must not be changed by those who get them."""

    __slots__ = ("_here",)

    def __init__(self) -> None:
        self._here: _Gathering | None = None

    async def read(self, question: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask()` answers, to this caller and to all who have the same question now."""
        loop = asyncio.get_running_loop()
        here = self._here
        if (
            here is None or here.loop is not loop
        ):  # the first use, or a second loop; what gathered elsewhere goes on there
            here = self._here = _Gathering(loop)
        if not here.under_way:
            here.under_way += 1
            try:
                return await ask()
            finally:
                here.under_way -= 1
        answer: T = await here.join(question, ask)
        return answer


class _Gathering:
    """What gathers in one loop."""

    __slots__ = ("_tasks", "_waiting", "loop", "under_way")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: Final = loop
        self.under_way = 0
        self._waiting: Final[dict[Hashable, list[asyncio.Future[Any]]]] = {}
        self._tasks: Final[set[asyncio.Task[None]]] = set()

    def join(self, question: Hashable, ask: _Ask) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self.loop.create_future()
        waiting = self._waiting.get(question)
        if waiting is None:
            self._waiting[question] = [future]
            self.loop.call_soon(self._send, question, ask)
        else:
            waiting.append(future)
        return future

    def _send(self, question: Hashable, ask: _Ask) -> None:
        waiting = self._waiting.pop(question)  # from now on the same question is another one
        if all(future.done() for future in waiting):
            return
        task = self.loop.create_task(self._answer(waiting, ask))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, waiting: list[asyncio.Future[Any]], ask: _Ask) -> None:
        self.under_way += 1
        try:
            answer = await ask()
        except asyncio.CancelledError:  # the loop ends
            for future in waiting:
                future.cancel()
            raise
        except Exception as error:
            for future in waiting:
                if not future.done():
                    future.set_exception(error)
        else:
            for future in waiting:
                if not future.done():
                    future.set_result(answer)
        finally:
            self.under_way -= 1
