"""The live half of a topic in one event loop: one subscription to its channel, for all that read it here.

Messages are decoded once and offered to every reader. A reader takes them if they follow what it has; otherwise it reads
the stream. So whatever happens to the live half, nothing is lost: it only makes readers look sooner.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from aredis_patterns.exceptions import DecodeError, ServerRefused, WireClosed
from aredis_patterns.pipelining import ListenerSubscription
from aredis_patterns.pubsub._operations import Operations
from aredis_patterns.pubsub._pacing import Pacer
from aredis_patterns.pubsub._positions import Position, Stored, TopicEntry, read_live

if TYPE_CHECKING:
    from aredis_patterns.pipelining import Listener

__all__ = ["POLL", "Reader", "TopicFeed"]

POLL: Final = 0.5
"""Seconds between two looks when nobody may listen to the channel."""

_log: Final = logging.getLogger("aredis_patterns.pubsub")


class Run:
    """Messages that came together, one after the other, without a hole."""

    __slots__ = ("entries", "first", "last", "number", "readable")

    def __init__(self, first: Stored) -> None:
        self.entries: list[TopicEntry[Any] | None] = []
        """Decoded; None for one that cannot be."""
        self.readable = True
        """Whether there is no None."""
        self.first: Final = first
        self.last = first
        self.number: Final = first.number

    def add(self, stored: Stored, entry: TopicEntry[Any] | None) -> None:
        self.entries.append(entry)
        self.last = stored
        self.readable = self.readable and entry is not None

    def goes_on_with(self, stored: Stored) -> bool:
        return self.last.number is not None and stored.number == self.last.number + 1 and stored.id > self.last.id

    @property
    def end(self) -> Position:
        return Position(self.last.id, self.last.number)


class Reader(Protocol):
    """Who reads a topic here. All are synchronous and quick."""

    def offer(self, run: Run) -> None:
        """New messages."""
        ...

    def look(self) -> None:
        """Something may have changed: look for yourself."""
        ...

    def end(self, error: Exception | None) -> None:
        """Nobody listens any more, and nobody will."""
        ...


class TopicFeed:
    """What one `Topic` has in one event loop."""

    def __init__(
        self,
        find_listener: Callable[[], Listener],
        channel: str,
        kind: Any,
        decode: Callable[[Stored], TopicEntry[Any] | None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.producer: Final = secrets.token_hex(8)
        self.operations: Final = Operations()
        self.readers: dict[Reader, None] = {}
        self._confirmed = False
        self._run: Run | None = None
        self._pacer: Final = Pacer(self.loop, self.flush)
        self.polls = False
        """Nobody may listen: readers look by themselves now and then."""
        self._find_listener = find_listener
        self._channel: Final = channel.encode()
        self._kind: Final = kind
        self._decode = decode
        self._heard: ListenerSubscription | None = None

    @property
    def live(self) -> bool:
        """Whether messages are heard as they are published."""
        return self._heard is not None and self._heard.live

    async def join(self, reader: Reader) -> None:
        """Offer messages to a reader from now on. Returns when the server has confirmed."""
        self.readers[reader] = None
        if self._heard is None and not self.polls:
            ear = await self._find_listener().ear_for(self._kind, self._channel)
            if self._heard is None and reader in self.readers:
                self._heard = ear.add(self._kind, self._channel, self._hear, self._lost, self.look)
        heard = self._heard
        if heard is None:
            return
        try:
            await heard.confirmed()
        except ServerRefused:
            self.polls = True
            self._stop(heard)
        except Exception:
            if not self._confirmed:  # once confirmed the listener comes back by itself
                self._stop(heard)
            raise
        self._confirmed = True

    def respect(self, buffer: int) -> None:
        """There is a reader that holds so many messages."""
        self._pacer.respect(buffer)

    def leave(self, reader: Reader) -> None:
        """Offer nothing more. The last one turns off the light."""
        self.readers.pop(reader, None)
        if not self.readers and self._heard is not None:
            self._stop(self._heard)

    def look(self) -> None:
        """Ask all readers to look for themselves: messages may have been missed."""
        self.flush()
        for reader in tuple(self.readers):
            reader.look()

    def _hear(self, data: bytes, channel: bytes, pattern: bytes | None) -> None:
        try:
            stored = read_live(data)
        except DecodeError as error:
            _log.warning("%s", error)
            stored = []
        if not stored:
            self.look()
            return
        for each in stored:
            if self._run is None or not self._run.goes_on_with(each):
                self.flush()
                self._run = Run(each)
            self._run.add(each, self._decode(each))
        self._pacer.soon(0 if self._run is None else len(self._run.entries))

    def flush(self) -> None:
        """Hand over what has come so far."""
        run, self._run = self._run, None
        if run is not None:
            for reader in self.readers:
                reader.offer(run)

    def _lost(self, error: Exception) -> None:
        """The connection is gone; the listener comes back by itself and then calls `look`, unless it was closed."""
        if isinstance(error, (ServerRefused, WireClosed)) and self._heard is not None:
            self._stop(self._heard)
        if isinstance(error, ServerRefused):
            self.polls = True
            self.look()
        elif isinstance(error, WireClosed):
            for reader in tuple(self.readers):
                reader.end(error)

    def _stop(self, heard: ListenerSubscription) -> None:
        if self._heard is heard:
            self._heard, self._confirmed = None, False
        heard.close()
