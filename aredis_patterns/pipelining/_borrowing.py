"""A pool connection for one caller, for what must not share a lane and takes more than one command: WATCH, for example.

Callers stand in line, first come, first served, and half of the pool is left to others. What was sent is never sent
again; a caller that is cancelled, or whose connection is lost, leaves a connection that will be opened anew.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, MaxConnectionsError, RedisError, TimeoutError

from aredis_patterns.exceptions import OutcomeUnknown, ReplyTimeout
from aredis_patterns.pipelining._dedicated import cancellations, raise_if_cancelled_since
from aredis_patterns.pipelining._opening import NO_RETRY, Source, connect
from aredis_patterns.pipelining._packing import describe, pack
from aredis_patterns.types import Command, Encodable

__all__ = ["Borrowed", "borrow"]

PAUSE: Final = 0.02
"""Seconds, give or take half, before an exhausted pool is asked again."""


class Borrowed:
    """One connection, one caller. Replies are raw: bytes are never decoded.

    The connection is never opened a second time: what it had (a WATCH) would be gone without a word.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()  # tasks of one body may call at the same time
        self._used = False
        self._ended = False
        self.lost: OutcomeUnknown | None = None
        """Set when this connection has been lost, or given up in the middle of a call. Every later call raises it."""
        self.interrupted = False
        """Whether it was a call that was cancelled, and not the network."""

    async def call(self, *args: Encodable) -> Any:
        """Send one command; raises its error reply."""
        (reply,) = await self.batch([args])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def batch(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one write and read all replies: one round trip. An error is returned in its place.

        Raises OutcomeUnknown when the connection is lost before the last reply.
        """
        packed = [pack(command) for command in commands]
        async with self._turn:
            self._check(packed)
            replies: list[Any] = []
            try:
                before = cancellations()
                await self._connection.send_packed_command([b"".join(packed)], check_health=False)
                raise_if_cancelled_since(before)
                while len(replies) < len(packed):
                    replies.append(await self._read())
            except (ConnectionError, TimeoutError) as error:
                name, key = describe(packed[len(replies)])
                kind = ReplyTimeout if isinstance(error, TimeoutError) else OutcomeUnknown
                self.lost = kind(name, key, str(error))
                raise self.lost from error
            except BaseException:
                self.interrupted = True
                self.lost = OutcomeUnknown(*describe(packed[-1]), "it was cancelled before its reply")
                raise
            return replies

    def _check(self, packed: Sequence[bytes]) -> None:
        """Nothing is sent on a connection that is not, or not any more, the one that was borrowed."""
        if self._ended:
            raise RuntimeError("this connection has been given back: a transaction ends with its body")
        if self._used and self.lost is None and not self._connection.is_connected:
            self.lost = OutcomeUnknown(*describe(packed[0]), "the connection was closed")
        if self.lost is not None:
            raise self.lost
        self._used = True

    def end(self) -> None:
        """No more calls. Whoever still waits for a reply gets a lost connection."""
        self._ended = True
        if self.lost is not None or self._turn.locked():
            self._connection.mark_for_reconnect()

    async def _read(self) -> Any:
        try:
            return await self._connection.read_response(disable_decoding=True)
        except (ConnectionError, TimeoutError):
            raise
        except RedisError as error:
            return error


@asynccontextmanager
async def borrow(source: Source, line: asyncio.Semaphore) -> AsyncGenerator[Borrowed, None]:
    """Wait for a connection and give it back. After any error inside the block it is opened anew before its next use."""
    async with line:
        connection = await _patiently(source)
        retry, connection.retry = connection.retry, NO_RETRY
        borrowed = Borrowed(connection)
        try:
            yield borrowed
        except BaseException:
            connection.mark_for_reconnect()  # a reply may still come, or a WATCH may still hold
            raise
        finally:
            borrowed.end()
            connection.retry = retry
            await asyncio.shield(source.give_back(connection))


async def _patiently(source: Source) -> AbstractConnection:
    while True:
        try:
            return await connect(source)
        except MaxConnectionsError:
            await asyncio.sleep(random.uniform(PAUSE / 2, PAUSE * 1.5))
