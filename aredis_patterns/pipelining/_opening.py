"""How a lane gets its connection, and gives it back.

The connection comes from the client's own pool, so everything that redis-py can do on connecting (TLS, ACL users,
credential providers, Sentinel, unix sockets) keeps working, and closing the pool closes the lane. redis-py would try
a refused port for seconds; a lane tries for `CONNECT_BUDGET` with jittered pauses, because callers wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
from collections.abc import Callable
from typing import Any, Final, Protocol

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, MaxConnectionsError, RedisError

from aredis_patterns._core.diagnosis import translate

CONNECT_BUDGET: Final = 0.35
"""Seconds of trying again before the callers that wait get the error. The next caller starts anew."""
FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 0.1

NO_RETRY: Final = Retry(NoBackoff(), 0)


class Source(Protocol):
    """Where connections come from: a pool, or a node of a Cluster."""

    async def acquire(self) -> AbstractConnection:
        """A connection that is open and ready."""
        ...

    async def discard(self, connection: AbstractConnection) -> None:
        """Close a connection and give it back."""
        ...

    async def give_back(self, connection: AbstractConnection) -> None:
        """Give back a connection that others may use, or that marks itself for reconnection."""
        ...


class PoolSource:
    """Connections of a `redis.asyncio.ConnectionPool`."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.pool = pool

    def __repr__(self) -> str:
        return address_of(self.pool.connection_kwargs)

    async def acquire(self) -> AbstractConnection:
        pool: Any = self.pool
        connection: AbstractConnection
        try:
            connection = pool.get_available_connection()
        except MaxConnectionsError:
            # A blocking pool that is empty: stand in line like everybody else.
            connection = await pool.get_connection()
            return connection
        _forget_other_loop(connection)
        retry, connection.retry = connection.retry, NO_RETRY
        try:
            await pool.ensure_connection(connection)
        except BaseException:
            await asyncio.shield(self.discard(connection))
            raise
        finally:
            connection.retry = retry
        return connection

    async def discard(self, connection: AbstractConnection) -> None:
        with contextlib.suppress(RedisError, OSError, RuntimeError):
            await connection.disconnect(nowait=True)
        await self.give_back(connection)

    async def give_back(self, connection: AbstractConnection) -> None:
        # KeyError: the pool has been reset meanwhile and no longer knows it.
        with contextlib.suppress(KeyError, RedisError, OSError):
            await self.pool.release(connection)


def address_of(kwargs: dict[str, Any]) -> str:
    """Where a pool connects to, for messages. Never a password."""
    if kwargs.get("path"):
        return f"unix://{kwargs['path']}"
    return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"


def _forget_other_loop(connection: AbstractConnection) -> None:
    """An idle connection that another event loop has left in the pool: its transport is not ours to touch."""
    private: Any = connection
    reader = private._reader
    if reader is not None and getattr(reader, "_loop", None) is not asyncio.get_running_loop():
        private._reader = private._writer = None


def cut(connection: AbstractConnection) -> None:
    """Close the transport now, without an event loop's help, and leave redis-py nothing to warn about."""
    private: Any = connection
    transport = getattr(getattr(connection, "_writer", None), "transport", None)
    if transport is not None:
        transport.abort()
        private._reader = private._writer = None


class Openable(Protocol):
    """What opening needs of its lane."""

    loop: asyncio.AbstractEventLoop
    source: Source

    def attach(self, connection: AbstractConnection) -> None: ...
    def refuse(self, make_error: Callable[[], Exception]) -> None: ...


class Opening:
    """Single flight: however many callers wait, one task connects; none of them can cancel it."""

    def __init__(self, lane: Openable) -> None:
        self._lane = lane
        self._task: asyncio.Task[None] | None = None

    @property
    def active(self) -> bool:
        return self._task is not None

    def start(self) -> None:
        if self._task is None:
            self._task = self._lane.loop.create_task(self._open(), name="aredis-patterns lane opening")

    def cancel(self) -> None:
        task, self._task = self._task, None
        if task is not None and not self._lane.loop.is_closed():
            task.cancel()

    async def stop(self) -> None:
        """Cancel, and wait until the connection that was being opened is given back."""
        task = self._task
        self.cancel()
        if task is not None:
            await asyncio.wait([task])

    async def _open(self) -> None:
        lane = self._lane
        try:
            connection = await connect(lane.source)
        except Exception as error:
            self._task = None
            lane.refuse(_fresh(error))
        else:
            self._task = None
            lane.attach(connection)


async def connect(source: Source) -> AbstractConnection:
    """An open connection within `CONNECT_BUDGET`, or the error of the last try with what to do about it."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + CONNECT_BUDGET
    pause = FIRST_PAUSE
    while True:
        try:
            return await source.acquire()
        except Exception as error:
            if not _may_pass(error) or loop.time() + pause > give_up:
                known = translate(error, where=repr(source))
                if known is error:
                    raise
                raise known from error
        await asyncio.sleep(random.uniform(pause / 2, pause))
        pause = min(pause * 2, LONGEST_PAUSE)


def _may_pass(error: Exception) -> bool:
    """Whether trying again in a moment can help. A wrong password stays wrong."""
    lasting = (AuthenticationError, MaxConnectionsError)
    if isinstance(error, lasting) or isinstance(error.__cause__, lasting):
        return False
    return isinstance(error, (RedisError, OSError))


def _fresh(error: Exception) -> Callable[[], Exception]:
    """Errors carry tracebacks: one object for many callers would grow with each of them."""

    def make() -> Exception:
        try:
            fresh = copy.copy(error)
        except Exception:
            return error
        fresh.__cause__ = error.__cause__
        return fresh

    return make
