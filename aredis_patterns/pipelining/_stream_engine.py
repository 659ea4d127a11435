"""The public engine: reads and writes through the public methods of `AbstractConnection`. About half as fast.

For connections that are not what the fast engine expects: another parser, a subclass that reads by itself, a test double.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, InvalidResponse, RedisError

from aredis_patterns.pipelining._contract import RAW, Inbox


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
