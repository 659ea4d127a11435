"""`Listening`: a handler that is called for each event, in a task of its own.

The reader of the connection never waits for it. A handler that is slow fills the buffer of its own subscription, and one
that raises is reported; nobody else notices.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar

from aredis_patterns.pubsub._events import Event, Gap, Handler
from aredis_patterns.pubsub._subscription import Subscription

__all__ = ["Listening", "OnError", "OnGap"]

T = TypeVar("T")

OnGap: TypeAlias = Callable[[Gap], Awaitable[object] | None]
"""Told of each gap, in its place between the events."""

OnError: TypeAlias = Callable[[Exception, Event[Any]], Awaitable[object] | None]
"""Told what a handler raised, and for which event."""

_log: Final = logging.getLogger("aredis_patterns.pubsub")


class Listening(Generic[T]):
    """A handler at work. Made by `PubSub.listen`; ended by `aclose()`, by `async with`, or with its `PubSub`.

    With `concurrency=1` events are handled one after the other, in order; with more, so many at once.
    """

    def __init__(
        self,
        subscription: Subscription[Event[T] | Gap],
        handler: Handler[T],
        *,
        concurrency: int,
        on_gap: OnGap | None,
        on_error: OnError | None,
    ) -> None:
        self.subscription: Final = subscription
        self._handler = handler
        self._on_gap = on_gap
        self._on_error = on_error
        self._free = asyncio.Semaphore(concurrency)
        self._running: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self.handled = 0
        """Events whose handler has ended well."""
        self.failed = 0
        """Events whose handler has raised."""

    def start(self, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        """Begin. `spawn` makes a task that somebody owns."""
        self._spawn = spawn
        self._task = spawn(self._pump())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Unsubscribe, cancel the handlers that run, and wait until they have ended. Safe to call twice."""
        self.subscription.close()
        tasks = [task for task in (self._task, *self._running) if task and task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def wait(self) -> None:
        """Return when the subscription has ended and all its events are handled. Raises the error that ended it."""
        if self._task is not None:
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()

    async def _pump(self) -> None:
        try:
            async for item in self.subscription:
                if isinstance(item, Gap):
                    await self._tell(self._on_gap, item)
                    continue
                await self._free.acquire()
                if self._free.locked() and not self._running:
                    await self._handle(item)  # one at a time: here and now
                else:
                    task = self._spawn(self._handle(item))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
            if self._running:
                await asyncio.wait(self._running)
        finally:
            self.subscription.close()

    async def _handle(self, event: Event[T]) -> None:
        try:
            answer = self._handler(event)
            if inspect.isawaitable(answer):
                await answer
            self.handled += 1
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled us: something that the handler waited for was. That must not end the listening in silence.
            cause = RuntimeError("the handler was cancelled from within")
            cause.__cause__ = error
            await self._report(cause, event)
        except Exception as error:
            await self._report(error, event)
        finally:
            self._free.release()

    async def _report(self, error: Exception, event: Event[T]) -> None:
        self.failed += 1
        if self._on_error is None:
            _log.error("the handler of %r failed", event.channel, exc_info=error)
        else:
            await self._tell(self._on_error, error, event)

    async def _tell(self, hook: Callable[..., Awaitable[object] | None] | None, *args: object) -> None:
        if hook is None:
            return
        try:
            answer = hook(*args)
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            _log.exception("a hook of %r failed", self.subscription)

    def __repr__(self) -> str:
        return f"<Listening {self.subscription!r}, {len(self._running)} running, {self.failed} failed>"
