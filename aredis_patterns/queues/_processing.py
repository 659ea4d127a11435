"""`process`: handlers, many at a time, until somebody says stop; then everything under way is brought to an end."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias, TypeVar

from aredis_patterns.queues._consumer import Consumer
from aredis_patterns.queues._message import Message

__all__ = ["MessageHandler", "Processor"]

T = TypeVar("T")

MessageHandler: TypeAlias = Callable[[Message[T]], Awaitable[object]]
"""Returns when the message is done, raises when it failed. It may decide about the message itself."""

_log: Final = logging.getLogger("aredis_patterns")


class Processor:
    """A number of workers on one consumer. See `ReliableQueue.process`."""

    def __init__(
        self, consumer: Consumer, handler: MessageHandler[Any], *, concurrency: int, prefetch: int, cancel_on_loss: bool
    ) -> None:
        self._consumer: Final = consumer
        self._handler: Final = handler
        self._concurrency: Final = concurrency
        self._prefetch: Final = prefetch
        self._cancel_on_loss: Final = cancel_on_loss
        self._busy: set[asyncio.Task[None]] = set()
        self._ending = False

    async def run(self, stop: asyncio.Event, *, grace: float, deadline: float) -> None:
        """Work until `stop` is set, a worker fails or we are cancelled; then drain for `grace` seconds at most."""
        consumer = self._consumer
        consumer.look_ahead(self._prefetch)
        workers = {
            asyncio.create_task(self._work(), name=f"worker of {consumer.name}") for _ in range(self._concurrency)
        }
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({stopped, *workers}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            await self._drain(workers, grace, deadline)
        for worker in workers:
            if not worker.cancelled() and (error := worker.exception()) is not None:
                raise error

    async def _drain(self, workers: set[asyncio.Task[None]], grace: float, deadline: float) -> None:
        """Give back what nobody has begun, wait for what is running, then cancel it. Cancelled here, we do not wait."""
        consumer = self._consumer
        self._ending = True
        consumer.look_ahead(-self._prefetch)
        for idle in workers - self._busy:
            idle.cancel()
        try:
            if self._busy:
                await asyncio.wait(set(self._busy), timeout=grace)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await consumer.finish(deadline)

    async def _work(self) -> None:
        consumer, busy = self._consumer, self._busy
        task = asyncio.current_task()
        assert task is not None
        while not self._ending:
            try:
                message = consumer.shelf.take() or await consumer.next(None)
            except asyncio.CancelledError:
                if self._ending:
                    raise
                task.uncancel()  # meant for a handler whose lease was lost, and which had just ended
                continue
            if message is None:
                continue
            busy.add(task)
            try:
                await self._handle(task, message)
            finally:
                busy.discard(task)

    async def _handle(self, task: asyncio.Task[None], message: Message[Any]) -> None:
        if self._cancel_on_loss:
            message._lost_callback = functools.partial(_cancel, task)
        try:
            await self._handler(message)
        except asyncio.CancelledError:
            self._failed(message, "cancelled", 0.0 if self._ending else None)
            if self._ending:
                raise
        except Exception as error:
            _log.warning("message %s of queue %r failed", message.id, self._consumer.name, exc_info=error)
            self._failed(message, f"{type(error).__name__}: {error}", None)
        else:
            if message.state == "held":
                self._consumer.ack_soon(message)
        finally:
            message._lost_callback = None
            while task.cancelling() and not self._ending:  # also when the handler did not let it show
                task.uncancel()

    def _failed(self, message: Message[Any], reason: str, pause: float | None) -> None:
        if message.state == "held":
            self._consumer.nack_soon(message, pause, reason)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel("the lease of the message was lost")


@contextmanager
def stopping_on(signals: tuple[signal.Signals, ...], stop: asyncio.Event) -> Generator[None, None, None]:
    """Set `stop` on these signals, where nobody else handles them; only the main thread can."""
    loop = asyncio.get_running_loop()
    installed: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        for each in signals:
            if signal.getsignal(each) is signal.SIG_DFL:
                try:
                    loop.add_signal_handler(each, stop.set)
                except NotImplementedError:  # not on this platform's loop
                    continue
                installed.append(each)
    try:
        yield
    finally:
        for each in installed:
            loop.remove_signal_handler(each)
