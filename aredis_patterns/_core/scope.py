"""Who owns the background tasks of a long-lived object: renewals, refreshes, listeners.

    async with Scope("lock renewal") as scope:
        scope.start(renew(), name="renew user:1")
        ...

Invariants
- No task outlives its scope: leaving cancels all of them and waits until each has ended.
- No error is lost: an unexpected one is logged when it happens and raised when the scope is left.
- A task that fails does not stop its siblings. Whether that matters is for the owner to decide, and often it does not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["Scope", "ScopeStatistics"]

_log: Final = logging.getLogger("aredis_patterns")


@dataclass(frozen=True, slots=True)
class ScopeStatistics:
    """`running` now; since the beginning `started`, and of these `finished`, `cancelled` and `failed`."""

    running: int
    started: int
    finished: int
    cancelled: int
    failed: int


class Scope:
    """An async context manager that owns tasks. Enter once; leave in the same event loop."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self._tasks: set[asyncio.Task[Any]] = set()
        self._errors: list[Exception] = []
        self._open = False
        self._started = self._finished = self._cancelled = self._failed = 0

    def start(self, coroutine: Coroutine[Any, Any, Any], *, name: str | None = None) -> asyncio.Task[Any]:
        """Run `coroutine` in this scope. RuntimeError when the scope is not open. The task may be cancelled singly."""
        if not self._open:
            coroutine.close()
            raise RuntimeError(f"scope {self.name!r} is not open: use `async with`")
        task = asyncio.get_running_loop().create_task(coroutine, name=name or self.name)
        self._started += 1
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def statistics(self) -> ScopeStatistics:
        """Counters of this scope."""
        return ScopeStatistics(len(self._tasks), self._started, self._finished, self._cancelled, self._failed)

    async def __aenter__(self) -> Self:
        if self._open:
            raise RuntimeError(f"scope {self.name!r} is open already")
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False
        interrupted = await self._end_all()
        failures, self._errors = self._errors, []
        if interrupted is not None:
            raise interrupted
        if not failures or error is not None:
            return  # the error of the body is the one to see; those of tasks are in the log
        if len(failures) == 1:
            raise failures[0]
        raise ExceptionGroup(f"{len(failures)} background tasks of {self.name!r} failed", failures)

    async def _end_all(self) -> asyncio.CancelledError | None:
        """Cancel all tasks and wait for every one, even when cancelled meanwhile; that is handed back for later."""
        interrupted: asyncio.CancelledError | None = None
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            try:
                await asyncio.wait(self._tasks)
            except asyncio.CancelledError as error:
                interrupted = error  # one cancel per task: a second would cut its cleaning up short
        return interrupted

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            self._cancelled += 1
            return
        error = task.exception()
        if error is None:
            self._finished += 1
            return
        self._failed += 1
        _log.error("background task %s of %s failed", task.get_name(), self.name, exc_info=error)
        if isinstance(error, Exception):
            self._errors.append(error)

    def __repr__(self) -> str:
        state = "open" if self._open else "closed"
        return f"<Scope {self.name!r} {state}, {len(self._tasks)} running, {self._failed} failed>"
