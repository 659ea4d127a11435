"""Commands that must not share a lane: one pool connection for one command, and no second try after it was sent."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    MaxConnectionsError,
    TimeoutError,
)

from aredis_patterns.exceptions import OutcomeUnknown, ReplyTimeout, ServerUnavailable
from aredis_patterns.pipelining._opening import NO_RETRY, Source, connect
from aredis_patterns.pipelining._packing import describe, pack
from aredis_patterns.pipelining._routing import WAITS, block_seconds, bypass_reason, route_of

NOT_EXECUTED = (AuthenticationError, BusyLoadingError, MaxConnectionsError, ServerUnavailable)


@asynccontextmanager
async def borrowed(source: Source, args: Sequence[Any]) -> AsyncGenerator[AbstractConnection, None]:
    """A connection for one command. Losing it inside the block is `OutcomeUnknown`: redis-py's own retry is switched
    off."""
    connection = await connect(source)
    retry, connection.retry = connection.retry, NO_RETRY
    timeout = connection.socket_timeout
    connection.socket_timeout = _patience(args, timeout)
    try:
        yield connection
    except (ConnectionError, TimeoutError) as error:
        connection.mark_for_reconnect()
        if isinstance(error, NOT_EXECUTED):
            raise
        kind = ReplyTimeout if isinstance(error, TimeoutError) else OutcomeUnknown
        name, key = _name_and_key(args)
        raise kind(name, key, str(error)) from error
    except asyncio.CancelledError:
        connection.mark_for_reconnect()  # a reply may still come
        raise
    finally:
        connection.retry = retry
        connection.socket_timeout = timeout
        await asyncio.shield(source.give_back(connection))


def cancellations() -> int:
    """How often the running task has been asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def raise_if_cancelled_since(before: int) -> None:
    """redis-py writes with `asyncio.wait_for`, which up to Python 3.11 swallows a cancellation that comes together with the
    end of what it waits for. The task remembers."""
    if cancellations() > before:
        raise asyncio.CancelledError


async def run_dedicated(source: Source, args: Sequence[Any], packed: bytes, *, deadline: float | None = None) -> Any:
    """Send one packed command on a connection of its own and return the raw reply."""
    try:
        async with asyncio.timeout(deadline), borrowed(source, args) as connection:
            before = cancellations()
            await connection.send_packed_command([packed], check_health=False)
            raise_if_cancelled_since(before)
            return await connection.read_response(disable_decoding=True)
    except builtins.TimeoutError as error:
        name, key = _name_and_key(args)
        raise ReplyTimeout(name, key, f"no reply came within {deadline} s") from error


def _patience(args: Sequence[Any], timeout: float | None) -> float | None:
    """How long to read: a command that waits inside the server gets its own time on top of the usual timeout."""
    route = route_of(args[0])
    if timeout is None or bypass_reason(route, args) != WAITS:
        return timeout
    held = block_seconds(route.name, args)
    return None if held is None else held + timeout


def _name_and_key(args: Sequence[Any]) -> tuple[str, str | None]:
    return describe(pack(args[:5]))
