"""The fast engine: a protocol of our own on the transport of a redis-py connection.

It feeds redis-py's own hiredis reader and answers all waiting calls in one pass, with no task in between. It needs two
private names of redis-py (`_writer`, `_parser._reader`); `is_well_known` looks whether they are what we think.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from hiredis import PushNotification, Reader
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, RedisError

from aredis_patterns.pipelining._contract import RAW, Inbox

try:
    from redis._parsers.hiredis import NOT_ENOUGH_DATA
    from redis._parsers.hiredis import _AsyncHiredisParser as HiredisParser
except ImportError:  # pragma: no cover - another redis-py: the public way remains
    NOT_ENOUGH_DATA = HiredisParser = None  # type: ignore[assignment,misc]

READ_SIZE: Final = 256 * 1024
HIGH_WATER: Final = 512 * 1024
"""Bytes that a transport may hold for a slow server before the lane keeps them itself."""


def is_well_known(connection: AbstractConnection) -> bool:
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
