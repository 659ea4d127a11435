"""Moves bytes between a lane and one redis-py connection. Two engines, one interface.

`TransportEngine` takes over the transport of an open connection: its protocol feeds redis-py's own hiredis reader and
answers all waiting calls in one pass, with no task in between. It needs two private names of redis-py (`_writer`,
`_parser._reader`). `StreamEngine` uses public methods only and is about half as fast. `engine_for` looks at a
connection and chooses.

An engine knows the order of replies and nothing of commands: whom to answer is in `Inbox.sent`, what to do when the
connection ends is decided by the lane (`Inbox.lost`).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Any, Final, Protocol, cast

from hiredis import PushNotification, Reader
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, InvalidResponse, RedisError

try:
    from redis._parsers.hiredis import NOT_ENOUGH_DATA
    from redis._parsers.hiredis import _AsyncHiredisParser as HiredisParser
except ImportError:  # pragma: no cover - another redis-py: the public way remains
    NOT_ENOUGH_DATA = HiredisParser = None  # type: ignore[assignment,misc]

READ_SIZE: Final = 256 * 1024
HIGH_WATER: Final = 512 * 1024
"""Bytes that a transport may hold for a slow server before the lane keeps them itself."""


Entry = tuple["asyncio.Future[Any]", bytes, int]
"""One command on its way: whom to answer, what was (or will be) written, and how to treat it. A bare tuple: one per
command."""

RAW: Final = 1
"""The reply is never decoded."""
REPEATABLE: Final = 2
"""A second execution is harmless."""


class Inbox(Protocol):
    """What an engine sees of its lane."""

    sent: deque[Entry]
    loop: asyncio.AbstractEventLoop
    dropped: int
    """Replies whose caller had gone."""

    def answered(self) -> None:
        """Callers were just woken."""
        ...

    def pushed(self, message: Any) -> None:
        """The server said something that nobody asked for (RESP3 push)."""
        ...

    def writable(self) -> None:
        """The transport takes bytes again."""
        ...

    def lost(self, error: Exception) -> None:
        """The connection is gone. Called once; nothing is written or answered after it."""
        ...


class Engine(Protocol):
    """One open connection under a lane."""

    connection: AbstractConnection

    @property
    def paused(self) -> bool:
        """Whether the transport asks for no more bytes at present."""
        ...

    def start(self) -> None:
        """The lane is ready to be told things."""
        ...

    def write(self, data: bytes) -> None: ...

    def abort(self, error: Exception) -> None:
        """End the connection now; `Inbox.lost(error)` is called before this returns."""
        ...

    def detach(self) -> None:
        """Leave the connection alone, without a word to the lane: it is being closed in an orderly way."""
        ...


def engine_for(connection: AbstractConnection, inbox: Inbox, *, fast: bool = True) -> Engine:
    """The fastest engine that this connection allows."""
    if fast and _is_well_known(connection):
        return TransportEngine(connection, inbox)
    return StreamEngine(connection, inbox)


def _is_well_known(connection: AbstractConnection) -> bool:
    """Whether the private names are what we think, and nobody has overridden how replies are read."""
    if HiredisParser is None:
        return False
    parser = getattr(connection, "_parser", None)
    transport = getattr(getattr(connection, "_writer", None), "transport", None)
    # Sentinel overrides read_response only to notice a demoted primary, which a lane does itself.
    reading = type(connection).read_response
    return (
        type(parser) is HiredisParser
        and isinstance(getattr(parser, "_reader", None), Reader)
        # uvloop's transports are no asyncio.Transport, but can do the same.
        and all(hasattr(transport, name) for name in ("set_protocol", "set_write_buffer_limits", "resume_reading"))
        and (reading is AbstractConnection.read_response or reading.__module__ == "redis.asyncio.sentinel")
    )


class TransportEngine(asyncio.BufferedProtocol):
    """Reads and writes the transport directly."""

    def __init__(self, connection: AbstractConnection, inbox: Inbox) -> None:
        self.connection = connection
        self.paused = False
        self._inbox: Inbox | None = inbox
        self._sent = inbox.sent
        private: Any = connection
        self._transport = cast(asyncio.Transport, private._writer.transport)
        self._reader = private._parser._reader
        self._decodes = bool(connection.encoder.decode_responses)
        self._buffer = bytearray(READ_SIZE)
        self._view = memoryview(self._buffer)
        self._stream_protocol = self._transport.get_protocol()
        early = bytes(private._reader._buffer)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._transport.set_protocol(self)
        self._transport.resume_reading()
        # A push may have come with the last reply of the handshake.
        self._reader.feed(early)

    def start(self) -> None:
        self._drain()

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def abort(self, error: Exception) -> None:
        self._transport.abort()
        self._lose(error)

    def detach(self) -> None:
        self._inbox = None

    # asyncio.BufferedProtocol -------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self._reader.feed(self._buffer, 0, nbytes)
        self._drain()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self._inbox is not None:
            self._inbox.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        # The stream protocol must hear it too, or StreamWriter.wait_closed() would wait for ever.
        self._stream_protocol.connection_lost(exc)
        self._lose(ConnectionError(f"Connection closed by server: {exc or 'end of stream'}"))

    # replies ------------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Answer everybody whose reply is complete, oldest first."""
        inbox = self._inbox
        if inbox is None:
            return
        try:
            if self._drain_decoding(inbox) if self._decodes else self._drain_raw(inbox):
                inbox.answered()
        except RedisError as error:  # a reply that is not RESP: nothing after it can be trusted
            self.abort(ConnectionError(f"Protocol error: {error}"))

    def _drain_raw(self, inbox: Inbox) -> bool:
        gets, take = self._reader.gets, self._sent.popleft
        reply = gets()
        woken = reply is not NOT_ENOUGH_DATA
        while reply is not NOT_ENOUGH_DATA:
            if type(reply) is PushNotification:
                self._push(reply)
            else:
                try:
                    future = take()[0]
                except IndexError:
                    self._unasked()
                    break
                if not future.done():
                    future.set_result(reply)
                else:
                    inbox.dropped += 1
            reply = gets()
        return woken

    def _drain_decoding(self, inbox: Inbox) -> bool:
        """As `_drain_raw`, for a client with `decode_responses`: whoever is next decides whether bytes become text."""
        sent, woken = self._sent, False
        while True:
            reply: Any
            try:
                raw = bool(sent) and sent[0][2] & RAW
                reply = self._reader.gets(False) if raw else self._reader.gets()
            except UnicodeDecodeError as error:  # hiredis has consumed the reply: only its owner fails
                reply = error
            if reply is NOT_ENOUGH_DATA:
                return woken
            woken = True
            if type(reply) is PushNotification:
                self._push(reply)
                continue
            if not sent:
                self._unasked()
                return woken
            future = sent.popleft()[0]
            if not future.done():
                future.set_result(reply)
            else:
                inbox.dropped += 1

    def _push(self, message: Any) -> None:
        if self._inbox is not None:
            self._inbox.pushed(message)

    def _unasked(self) -> None:
        self.abort(ConnectionError("Protocol error: a reply that nobody asked for"))

    def _lose(self, error: Exception) -> None:
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            inbox.lost(error)


class StreamEngine:
    """The public way: one task that writes and one that reads, through `AbstractConnection`."""

    def __init__(self, connection: AbstractConnection, inbox: Inbox) -> None:
        self.connection = connection
        self._inbox: Inbox | None = inbox
        self._sent = inbox.sent
        self._outgoing: list[bytes] = []
        self._writing = False
        self._decodes = bool(connection.encoder.decode_responses)
        self._wake_writer = asyncio.Event()
        self._wake_reader = asyncio.Event()
        self._loop = inbox.loop
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        for name, work in (("writer", self._write), ("reader", self._read)):
            self._tasks.append(self._loop.create_task(self._guard(work), name=f"aredis-patterns lane {name}"))

    @property
    def paused(self) -> bool:
        """While one write is under way the next bytes wait in the lane, where they still count as unsent."""
        return self._writing or bool(self._outgoing)

    def write(self, data: bytes) -> None:
        self._outgoing.append(data)
        self._wake_writer.set()
        self._wake_reader.set()

    def abort(self, error: Exception) -> None:
        transport = getattr(getattr(self.connection, "_writer", None), "transport", None)
        if transport is not None:
            transport.abort()
        self._lose(error)

    def detach(self) -> None:
        self._inbox = None
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()

    async def _guard(self, work: Any) -> None:
        try:
            await work()
        except Exception as error:
            self._lose(error if isinstance(error, ConnectionError) else ConnectionError(str(error)))

    async def _write(self) -> None:
        while self._inbox is not None:
            await self._wake_writer.wait()
            self._wake_writer.clear()
            data = b"".join(self._outgoing)
            self._outgoing.clear()
            self._writing = True
            await self.connection.send_packed_command([data], check_health=False)
            self._writing = False
            inbox = self._listener()
            if inbox is not None:
                inbox.writable()

    async def _read(self) -> None:
        while self._inbox is not None:
            # Reading while nothing is asked notices at once when the server goes away. Only a client that decodes cannot:
            # whether bytes become text depends on whose reply comes next.
            if self._decodes and not self._sent:
                self._wake_reader.clear()
                await self._wake_reader.wait()
                continue
            reply: Any
            try:
                reply = await self.connection.read_response(
                    disable_decoding=self._decodes and bool(self._sent[0][2] & RAW),
                    timeout=math.inf,
                    disconnect_on_error=False,
                )
            except (UnicodeDecodeError, RedisError) as error:
                if type(error) in (ConnectionError, InvalidResponse):
                    raise
                reply = error
            if not self._sent:
                raise InvalidResponse("a reply that nobody asked for")
            future = self._sent.popleft()[0]
            inbox = self._listener()
            if not future.done():
                future.set_result(reply)
            elif inbox is not None:
                inbox.dropped += 1
            if inbox is not None:
                inbox.answered()

    def _listener(self) -> Inbox | None:
        """The lane, unless it has left while we awaited."""
        return self._inbox

    def _lose(self, error: Exception) -> None:
        inbox = self._inbox
        self.detach()
        if inbox is not None:
            inbox.lost(error)
