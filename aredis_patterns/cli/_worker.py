"""`aredis-patterns worker`: a process that handles the messages of one queue."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from aredis_patterns._core.diagnosis import translate
from aredis_patterns.hub import Patterns
from aredis_patterns.queues import Message, QueueOptions

MessageHandler = Callable[[Message[Any]], Awaitable[object]]


async def run_worker(
    target: str,
    queue_name: str,
    *,
    url: str,
    namespace: str,
    concurrency: int,
    prefetch: int | None,
    grace: float,
    options: QueueOptions,
    console: Console,
) -> bool:
    """Handle messages until SIGTERM or SIGINT, then drain. A second signal does not wait for running handlers."""
    handler = find_handler(target)
    stop = asyncio.Event()
    async with Patterns.from_url(url, namespace=namespace) as patterns:
        try:
            await patterns.ping()
        except Exception as error:
            known = translate(error, command="PING")
            raise known from (error if known is not error else error.__cause__)
        queue = patterns.queue(queue_name, **options)
        work = asyncio.create_task(
            queue.process(handler, concurrency=concurrency, prefetch=prefetch, shutdown_grace=grace, stop=stop)
        )

        def on_signal() -> None:
            if stop.is_set():
                work.cancel()
            stop.set()

        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, on_signal)
        console.print(
            f"{await patterns.server_name()}: {target} handles queue {queue_name!r}, {concurrency} messages at a time",
            highlight=False,
        )
        await asyncio.wait({work})
        done = queue.statistics()
        console.print(
            f"{done.delivered} delivered, {done.acked} done, {done.nacked} failed, {done.released} given back",
            highlight=False,
        )
    if work.cancelled():
        return False
    work.result()
    return True


def find_handler(target: str) -> MessageHandler:
    """The async function `module:name`; modules of the current folder count. ValueError says what is wrong."""
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise ValueError(f"the handler is written module:function, got {target!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ValueError(f"there is no module {module_name!r} here or among what is installed") from error
    for name in path.split("."):
        found = getattr(found, name, None)
    if not (inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(_call_of(found))):
        raise ValueError(f"{target!r} is not an async function that takes a message")
    handler: MessageHandler = found
    return handler


def _call_of(found: object) -> Any:
    """For objects that are called like functions."""
    return vars(type(found)).get("__call__")
