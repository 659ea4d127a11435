"""Taking turns: one request of a caller is under way at a time, and what is asked for meanwhile rides on the next one.

So a caller that is alone pays one round trip per operation, and a thousand callers share one. And because turns are
numbered and never overlap, a script can tell a repeated turn from a new one by remembering a single answer: that is all
it takes to be safe when replies are lost.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from redis import exceptions as redis_errors

from aredis_patterns._core.backoff import exponential
from aredis_patterns.exceptions import OutcomeUnknown, ReadOnlyServer, ServerOutOfMemory, ServerUnavailable, WireClosed

__all__ = ["PATIENCE", "Turns", "copy_of", "insist", "insist_for", "is_outage", "jittered"]

R = TypeVar("R")

PATIENCE: Final = 15_000_000
"""Microseconds after which a waiting address is forgotten by the server. Who waits looks again well before."""

_OUTAGES: Final = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.ClusterDownError,
    redis_errors.ClusterError,
    redis_errors.TryAgainError,
    ReadOnlyServer,
    ServerOutOfMemory,
    OSError,
)
_MISTAKES: Final = (redis_errors.AuthenticationError, redis_errors.AuthorizationError, WireClosed)
"""Connection errors for redis-py, but they stay until somebody repairs the program or its configuration."""


class Turns:
    """Runs `turn` while `wanted` says that there is something to do; one at a time, in a task of its own.

    `turn` must not raise: it hands errors to whoever waits for it.
    """

    def __init__(self, turn: Callable[[], Awaitable[None]], wanted: Callable[[], bool], *, name: str) -> None:
        self._turn: Final = turn
        self._wanted: Final = wanted
        self._name: Final = name
        self._task: asyncio.Task[None] | None = None

    def kick(self) -> None:
        """See to it that there is a turn. It begins in the next loop iteration, so that others can ride along."""
        if self._task is None and self._wanted():
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    async def _run(self) -> None:
        try:
            while self._wanted():
                await self._turn()
        finally:
            self._task = None

    async def finish(self, timeout: float) -> None:
        """Wait until nothing is wanted any more; after `timeout` seconds, give up."""
        self.kick()
        task = self._task
        if task is not None and not (await asyncio.wait({task}, timeout=timeout))[0]:
            task.cancel()
            await asyncio.wait({task})


async def insist(send: Callable[[], Awaitable[R]], go_on: Callable[[Exception, float], bool]) -> R:
    """Send the same turn again and again until it is answered, for it counts once. What does not pass is raised.

    `go_on(error, seconds)` is asked after each attempt that failed, with the time since the first one began.
    """
    pauses = exponential(first=0.02, longest=1.0)
    began = time.monotonic()
    while True:
        try:
            return await send()
        except Exception as error:
            if not is_outage(error) or not go_on(error, time.monotonic() - began):
                raise
            await asyncio.sleep(next(pauses))


async def insist_for(seconds: float, send: Callable[[], Awaitable[R]]) -> R:
    """Send the same turn until it is known whether it counted, or `seconds` are over.

    A turn that certainly did not count is an error at once: the caller should hear that the server is away.
    """
    unknown: OutcomeUnknown | None = None

    def go_on(error: Exception, spent: float) -> bool:
        nonlocal unknown
        unknown = error if isinstance(error, OutcomeUnknown) else unknown
        return unknown is not None and spent < seconds

    try:
        return await insist(send, go_on)
    except Exception as error:
        if unknown is not None and is_outage(error):
            raise unknown from None
        raise


def is_outage(error: Exception) -> bool:
    """Whether this will pass by itself: the server is away, silent, full or being replaced."""
    return isinstance(error, _OUTAGES) and not isinstance(error, _MISTAKES)


def copy_of(error: Exception) -> Exception:
    """The same error for one more caller: a traceback must not grow with each who raises it."""
    if isinstance(error, OutcomeUnknown):
        return type(error)(error.command, error.key, error.reason)
    if type(error) is ServerUnavailable:
        return ServerUnavailable(*error.args)
    return error


def jittered(seconds: float) -> float:
    """Give or take a fifth, so that processes that began together do not stay together."""
    return seconds * random.uniform(0.8, 1.2)
