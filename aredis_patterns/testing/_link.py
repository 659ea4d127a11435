"""One client of a `FaultProxy` and its own connection to the server.

Two loops, one per direction, each handling one message at a time; so what is delayed or held delays all that comes
after it on this connection, as on a real one, and no other connection.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from collections import deque
from typing import Final

from aredis_patterns.testing._faults import Fault, Rule
from aredis_patterns.testing._journal import Journal, Sent
from aredis_patterns.testing._resp import SUBSCRIPTIONS, FrameSplitter, is_push, is_subscription_message, words_of
from aredis_patterns.testing._round_trips import HANDSHAKE

BEFORE: Final[frozenset[Fault]] = frozenset(("reset before", "swallow", "delay command", "hold command"))
"""Faults that happen on the way to the server."""
PROXY_TASK: Final = "aredis-patterns fault proxy"
READ_SIZE: Final = 256 * 1024
LINGER_NOT: Final = struct.pack("ii", 1, 0)
TICKS: Final = 3
"""Loop iterations until bytes that have arrived have also been read: poll, read, resume the reader."""


class Reset(Exception):
    """End this connection now, without a farewell."""


class Link:
    """Runs until one side closes or a fault ends it."""

    def __init__(self, journal: Journal, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.silent = False
        """Open, but nothing gets through in either direction, ever again."""
        self._journal = journal
        self._from_client, self._to_client = reader, writer
        self._to_server: asyncio.StreamWriter | None = None
        self._unanswered: deque[Sent] = deque()
        self._subscribed = False
        self._opening = True
        self._waiting = True
        """All that the client has sent so far was passed on."""
        self._blocked = False
        """A fault holds the client's commands back."""

    async def run(self, upstream: tuple[str, int] | str) -> None:
        """Connect to the server and pass messages until the end. Never raises."""
        try:
            if isinstance(upstream, str):
                from_server, self._to_server = await asyncio.open_unix_connection(upstream)
            else:
                from_server, self._to_server = await asyncio.open_connection(*upstream)
            await self._pass_on(from_server)
        except (Reset, OSError):
            self.reset()
        finally:
            await self._close()

    def reset(self) -> None:
        """End the client's connection with RST: it learns at once, and what was under way is lost."""
        connection: socket.socket | None = self._to_client.get_extra_info("socket")
        if connection is not None and connection.fileno() >= 0:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        self._to_client.transport.abort()

    async def _pass_on(self, from_server: asyncio.StreamReader) -> None:
        requests = asyncio.create_task(self._requests(), name=PROXY_TASK)
        replies = asyncio.create_task(self._replies(from_server), name=PROXY_TASK)
        try:
            await asyncio.wait((requests, replies), return_when=asyncio.FIRST_COMPLETED)
            if replies.done() and not replies.exception() and self.silent:
                await asyncio.wait((requests,))
        finally:
            for task in (requests, replies):
                task.cancel()
            ends = await asyncio.gather(requests, replies, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _close(self) -> None:
        writers = [writer for writer in (self._to_client, self._to_server) if writer is not None]
        for writer in writers:
            writer.close()
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    # client to server ------------------------------------------------------------------------------------------------

    async def _requests(self) -> None:
        splitter = FrameSplitter()
        while data := await self._from_client.read(READ_SIZE):
            self._waiting = False
            for message in splitter.feed(data):
                await self._request(message)
            self._waiting = splitter.empty

    async def _request(self, message: bytes) -> None:
        words = words_of(message)
        self._opening = self._opening and words[0] in HANDSHAKE
        rule = None if self.silent else self._journal.rule_for(words)
        self._blocked = True
        await self._journal.gate.wait()
        if rule is not None and rule.fault in BEFORE:
            rule.happens()
            await self._before(rule)
        self._blocked = False
        if self.silent or self._to_server is None:
            return
        self._subscribed = self._subscribed or words[0] in SUBSCRIPTIONS
        self._unanswered.append(self._journal.forwarding(words, rule, counted=not self._opening))
        self._to_server.write(message)
        await self._to_server.drain()
        if rule is not None and rule.fault == "reset after":
            rule.happens()
            raise Reset

    async def _before(self, rule: Rule) -> None:
        if rule.fault == "reset before":
            raise Reset
        if rule.fault == "swallow":
            self.silent = True
        elif rule.fault == "delay command":
            await asyncio.sleep(rule.seconds)
        elif rule.fault == "hold command":
            await rule.open.wait()

    # server to client ------------------------------------------------------------------------------------------------

    async def _replies(self, from_server: asyncio.StreamReader) -> None:
        splitter = FrameSplitter()
        while data := await from_server.read(READ_SIZE):
            for message in splitter.feed(data):
                await self._journal.gate.wait()
                sent = self._answered_by(message)
                if sent is None:
                    await self._deliver(message)
                else:
                    await self._reply(message, sent)

    def _answered_by(self, message: bytes) -> Sent | None:
        push = is_push(message) or (self._subscribed and is_subscription_message(message))
        if push and not (
            self._unanswered
            and self._unanswered[0].words[0] in SUBSCRIPTIONS
            and self._unanswered[0].words[0] in message[:64].upper()
        ):
            return None
        return self._unanswered.popleft() if self._unanswered else None

    async def _reply(self, message: bytes, sent: Sent) -> None:
        rule = sent.rule
        fault = None if rule is None else rule.fault
        if rule is not None:
            rule.happens()
        if rule is not None and fault == "drop reply":
            self._journal.dropped()
            if rule.then == "reset":
                raise Reset
            self.silent = self.silent or rule.then == "silence"
            return
        if rule is not None and fault == "delay reply":
            await asyncio.sleep(rule.seconds)
        elif rule is not None and fault == "hold reply":
            await rule.open.wait()
        if self.silent:
            self._journal.dropped()
            return
        await self._read_what_was_sent_before()
        if fault == "cut reply":
            self._journal.dropped()
            await self._deliver(message[: max(1, len(message) // 2)])
            # In an orderly way, so that the half surely arrives.
            await self._close()
            return
        self._journal.delivered(sent)
        await self._deliver(message * 2 if fault == "duplicate reply" else message)

    async def _deliver(self, message: bytes) -> None:
        if not self.silent:
            self._to_client.write(message)
            await self._to_client.drain()

    async def _read_what_was_sent_before(self) -> None:
        """While counting: what the client has sent by now did not wait for the reply that is about to be delivered."""
        quiet = 0 if self._journal.counts else TICKS
        while quiet < TICKS and not self._blocked:
            quiet = quiet + 1 if self._waiting and not self._unread() else 0
            await asyncio.sleep(0)

    def _unread(self) -> bool:
        connection: socket.socket | None = self._to_client.get_extra_info("socket")
        if connection is None or connection.fileno() < 0:
            return False
        waiting = array.array("i", [0])
        fcntl.ioctl(connection.fileno(), termios.FIONREAD, waiting)
        return waiting[0] > 0
