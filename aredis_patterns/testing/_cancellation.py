"""Cancel a piece of code at every point where it can be cancelled, and look at what it leaves behind."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

import anyio

from aredis_patterns.testing._link import PROXY_TASK

__all__ = ["CancelMode", "cancel_everywhere"]

CancelMode: TypeAlias = Literal["native", "double", "scope"]
MODES: Final[tuple[CancelMode, ...]] = get_args(CancelMode)
GRACE: Final = 1.0
"""Seconds that tasks have to end after the code that started them."""

Check: TypeAlias = Callable[[], "Awaitable[object] | None"]


async def cancel_everywhere(
    make_coroutine: Callable[[], Coroutine[Any, Any, object]],
    *,
    check: Check | None = None,
    max_ticks: int = 500,
    modes: Sequence[CancelMode] = MODES,
    may_finish: bool = False,
    ignore_task: Callable[[asyncio.Task[Any]], bool] = lambda _: False,
) -> int:
    """Run the coroutine again and again, cancelling it one step later each time, until it ends before it is cancelled.

        async def critical():
            async with lock:
                await work()

        await cancel_everywhere(critical, check=lambda: assert_free(lock))

    First once without cancelling; then, in each of `modes`, in the moment in which each of its awaits is answered (the
    reply is there, but the code will never see it), and at tick 0, 1, 2, ... of the event loop. Modes: `native` is
    `task.cancel()`; `double` cancels again one tick later, while the code cleans up; `scope` is an anyio cancel scope,
    which cancels every further await. After each run `check` is called (and awaited). `ignore_task` is true for tasks
    that may live on, such as those of a shared client. `may_finish=True` accepts code that goes on to a normal end
    although it was cancelled: `asyncio.wait_for` of Python 3.11 does so when the answer is already there, and with it
    the stock redis-py client.

    Returns the number of cancelled runs. Code that waits for a clock is cancelled at the first `max_ticks` ticks only.

    Raises AssertionError if the code swallows a cancellation or leaves a task behind that does not end within a second.
    What the code or `check` raises goes through, with a note that says where the cancellation was.
    """

    async def checked(run: Coroutine[Any, Any, object], moment: str) -> None:
        before = asyncio.all_tasks()
        try:
            await run
            await _no_tasks_left(before, ignore_task)
            if check is not None and inspect.isawaitable(result := check()):
                await result
        except Exception as error:
            error.add_note(f"The code was {moment}.")
            raise

    await checked(make_coroutine(), "not cancelled")
    cancelled = 0
    for mode in modes:
        for when in ("as await {} is answered", "at tick {}"):
            for number in range(max_ticks):
                run = _Run(make_coroutine, mode, number, late=when.startswith("as"))
                await checked(run(), f"cancelled ({mode}) {when.format(number)}")
                if run.swallowed and not may_finish:
                    raise AssertionError(f"the code swallowed its cancellation ({mode}, {when.format(number)})")
                if not run.cancelled:
                    break
                cancelled += 1
    return cancelled


async def _no_tasks_left(before: set[asyncio.Task[Any]], ignore_task: Callable[[asyncio.Task[Any]], bool]) -> None:
    left = {
        task
        for task in asyncio.all_tasks() - before
        if not (task.done() or task.get_name().startswith(PROXY_TASK) or ignore_task(task))
    }
    if left:
        _, left = await asyncio.wait(left, timeout=GRACE)
    if left:
        raise AssertionError(f"tasks left behind: {', '.join(map(repr, left))}")


class _Run:
    """One run, cancelled at one point."""

    def __init__(
        self,
        make_coroutine: Callable[[], Coroutine[Any, Any, object]],
        mode: CancelMode,
        number: int,
        *,
        late: bool,
    ) -> None:
        self.cancelled = False
        """Whether there was still something to cancel at that point."""
        self.swallowed = False
        self._make_coroutine = make_coroutine
        self._mode: CancelMode = mode
        self._number = number
        self._late = late
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        self._task = task = asyncio.ensure_future(self._body())
        if not self._late:
            for _ in range(self._number):
                if task.done():
                    break
                await asyncio.sleep(0)
            self._cancel()
        await asyncio.wait((task,))
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            raise error
        # A scope cancels awaits: code that had none left has not swallowed anything.
        self.swallowed = self.cancelled and self._mode != "scope"

    async def _body(self) -> None:
        with self._scope:
            coroutine = self._make_coroutine()
            await (_Interrupted(coroutine, self._number, self._cancel) if self._late else coroutine)

    def _cancel(self) -> None:
        task = self._task
        if task is None or task.done():
            return
        self.cancelled = True
        if self._mode == "scope":
            self._scope.cancel()
            return
        task.cancel()
        if self._mode == "double":
            # Behind the wake-up that was just queued: there the code waits for its own cleaning up.
            asyncio.get_running_loop().call_soon(task.cancel)


class _Interrupted(Awaitable[Any]):
    """Drives a coroutine; calls `interrupt` when the n-th future that it waits for is done, before it hears of it."""

    def __init__(self, coroutine: Coroutine[Any, Any, object], number: int, interrupt: Callable[[], object]) -> None:
        self._coroutine = coroutine
        self._number = number
        self._interrupt = interrupt

    def __await__(self) -> Generator[Any, Any, object]:
        steps = self._coroutine.__await__()
        failure: BaseException | None = None
        for waits in itertools.count():
            try:
                future = next(steps) if failure is None else steps.throw(failure)
            except StopIteration as end:
                return end.value
            if waits == self._number:
                self._interrupt_after(future)
            failure = None
            try:
                yield future
            except BaseException as error:
                failure = error
        raise AssertionError

    def _interrupt_after(self, future: asyncio.Future[Any] | None) -> None:
        if future is None:  # sleep(0)
            asyncio.get_running_loop().call_soon(self._interrupt)
        else:
            # Callbacks run in order, and the task that is to be woken adds its own after this one.
            future.add_done_callback(lambda _: self._interrupt())
