"""Messages that a RESP3 server sends on its own: invalidations, pub/sub, maintenance.

Handlers register by kind (the first word of the message). They are called in order of arrival, in the reader's own
pass, so they must be quick and synchronous; one that raises hurts nobody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection

logger = logging.getLogger("aredis_patterns.pipelining")

Handler = Callable[[Sequence[Any]], None]
Listener = Callable[[Exception | None], None]


class Pushes:
    """Who wants to hear what."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handlers: dict[str, list[Handler]] = {}
        self._listeners: list[Listener] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    def on(self, kind: str, handler: Handler) -> Callable[[], None]:
        """Call `handler(message)` for each push of this kind; returns the function that ends it."""
        handlers = self._handlers.setdefault(kind, [])
        handlers.append(handler)
        return lambda: handlers.remove(handler)

    def on_connection(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(error)` when the connection is lost and `listener(None)` when the next one is up.

        Pushes between the two were missed: whoever mirrors server state must start anew.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def deliver(self, message: Sequence[Any], connection: AbstractConnection | None) -> None:
        """Hand a message to its handlers, or to redis-py's own (maintenance notifications) where we have none."""
        first = message[0]
        kind = first.decode() if isinstance(first, bytes) else str(first)
        handlers = self._handlers.get(kind)
        if handlers:
            for handler in tuple(handlers):
                _guarded(handler, message)
            return
        parser: Any = getattr(connection, "_parser", None)
        handle = getattr(parser, "handle_push_response", None)
        if handle is not None:
            task = self._loop.create_task(handle(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def interrupted(self, error: Exception) -> None:
        for listener in tuple(self._listeners):
            _guarded(listener, error)

    def resumed(self) -> None:
        for listener in tuple(self._listeners):
            _guarded(listener, None)


def _guarded(function: Callable[[Any], None], argument: Any) -> None:
    try:
        function(argument)
    except Exception:
        logger.exception("a push handler raised")
