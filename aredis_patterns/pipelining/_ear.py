"""An ear: one connection that listens, for everybody in one event loop who wants to hear from one server.

    subscribe  ->  asked  --confirmed-->  established  --message-->  handlers
                     |                        |
                     |                        +-- connection lost: asked again on the next one, then `on_gap`
                     +-- nobody there: the subscriber gets the error

Invariants

1. Each command names one channel, so the server answers each with exactly one frame, in order: `_asked` is that order.
2. `subscribe` returns after the server's confirmation: what is published after that is heard, or a gap is told.
3. After a lost connection every subscription is told once, when it is established again and only then.
4. Handlers are called in order of arrival, in the reader's own pass: they must be quick and synchronous. One that raises
   hurts nobody else.

A connection on which nothing is heard for two heartbeats is dead, whatever TCP says. The last subscriber leaves the
connection open for `LINGER` seconds, then it goes back to the pool.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, MovedError

from aredis_patterns._core.backoff import exponential
from aredis_patterns._core.diagnosis import translate
from aredis_patterns.exceptions import ServerUnavailable, WireClosed
from aredis_patterns.pipelining._channel import Channel, Endless, Kind, ListenerSubscription, OnMessage
from aredis_patterns.pipelining._contract import Engine, Entry
from aredis_patterns.pipelining._engine import engine_for
from aredis_patterns.pipelining._opening import Opening, Source, cut
from aredis_patterns.pipelining._packing import pack_plain

__all__ = ["Ear"]

HEARTBEAT: Final = 10.0
"""Seconds between two PINGs."""
LINGER: Final = 2.0
"""Seconds that a connection without subscriptions stays: whoever left often comes back at once."""
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 2.0

_LETTER: Final[dict[Kind, str]] = {"channel": "", "pattern": "P", "shard": "S"}

_log: Final = logging.getLogger("aredis_patterns.pipelining")


class Ear:
    """The listening connection of one server. Opens with the first subscription, and again by itself while there is
    one."""

    def __init__(self, source: Source, *, heartbeat: float = HEARTBEAT, fast: bool = True) -> None:
        self.loop = asyncio.get_running_loop()
        self.source = source
        self.heartbeat = heartbeat
        self.sent = cast("deque[Entry]", Endless(self._heard))
        self.dropped = 0
        self.on_moved: Callable[[list[Channel], MovedError | None], None] | None = None
        """Takes channels that this node can no longer serve to another one; without it they wait for this node."""
        self.connections = 0
        self._fast = fast
        self._channels: dict[tuple[Kind, bytes], Channel] = {}
        self._asked: deque[tuple[bytes, bytes, Channel | None]] = deque()
        """The verb, the name, and who waits for the answer."""
        self._marks: deque[asyncio.Future[None]] = deque()
        """Those who wait for their own PONG."""
        self._engine: Engine | None = None
        self._opening = Opening(self)
        self._pauses = exponential(first=FIRST_PAUSE, longest=LONGEST_PAUSE)
        self._timer: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._quiet = False
        self._answered = False
        """Something was heard on this connection."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        state = "open" if self._engine is not None else "opening" if self._opening.active else "idle"
        return f"<Ear {self.source!r} {state}, {len(self._channels)} channels>"

    @property
    def open(self) -> bool:
        """Whether there is a connection now."""
        return self._engine is not None

    @property
    def channels(self) -> int:
        """Channels and patterns that somebody wants to hear."""
        return len(self._channels)

    async def subscribe(
        self,
        kind: Kind,
        name: bytes,
        on_message: OnMessage,
        on_lost: Callable[[Exception], None] | None = None,
        on_gap: Callable[[], None] | None = None,
    ) -> ListenerSubscription:
        """Hear a channel; returns after the server has confirmed it. Cancelled or failed, nothing stays behind."""
        subscription = self.add(kind, name, on_message, on_lost, on_gap)
        try:
            await subscription.confirmed()
        except BaseException:
            subscription.close()
            raise
        return subscription

    def add(
        self,
        kind: Kind,
        name: bytes,
        on_message: OnMessage,
        on_lost: Callable[[Exception], None] | None = None,
        on_gap: Callable[[], None] | None = None,
    ) -> ListenerSubscription:
        """As `subscribe`, without waiting."""
        if self._closed:
            raise WireClosed("the client was closed")
        channel = self._channels.get((kind, name))
        if channel is None:
            channel = Channel(kind, name, self._expectation())
            self.take(channel)
        subscription = ListenerSubscription(channel, on_message, on_lost, on_gap)
        channel.handlers += (subscription,)
        return subscription

    async def sync(self) -> None:
        """See `ListenerSubscription.sync`."""
        engine = self._engine
        if engine is None:
            raise ServerUnavailable(f"there is no connection to {self.source!r} at present")
        mark = self._expectation()
        self._marks.append(mark)
        self._asked.append((b"mark", b"", None))
        engine.write(pack_plain(("PING",)))
        await mark

    def take(self, channel: Channel) -> None:
        """Ask the server for a channel: a new one, or one that has moved here."""
        channel.ear = self
        self._channels[channel.kind, channel.name] = channel
        if self._engine is not None:
            self._ask(channel)
        elif self._retry is None:
            self._opening.start()

    def drop(self, channel: Channel) -> None:
        """Nobody wants this channel any more."""
        if self._channels.get((channel.kind, channel.name)) is not channel:
            return
        del self._channels[channel.kind, channel.name]
        if self._engine is not None:
            self._command("UNSUBSCRIBE", channel, None)
        if not self._channels:
            self.loop.call_later(LINGER, self._leave)

    # frames -------------------------------------------------------------------------------------------------------

    def pushed(self, message: Any) -> None:
        self._heard(message)

    def answered(self) -> None:
        """Nothing waits for the end of a pass."""

    def _heard(self, frame: Any) -> None:
        """One frame: a message, a confirmation, an error to a subscription, a PONG, or something that is not for us."""
        self._quiet, self._answered = False, True
        if isinstance(frame, Exception):
            self._refused(frame)
            return
        if not isinstance(frame, list) or not frame:
            self._ponged()
            return
        what = _bytes(frame[0])
        if what == b"message":
            self._deliver("channel", _bytes(frame[1]), frame[2], None)
        elif what == b"pmessage":
            self._deliver("pattern", _bytes(frame[1]), frame[3], frame[2])
        elif what == b"smessage":
            self._deliver("shard", _bytes(frame[1]), frame[2], None)
        elif what.endswith(b"subscribe"):
            self._confirmed(what, _bytes(frame[1]) if frame[1] is not None else b"")
        elif what == b"pong":
            self._ponged()

    def _deliver(self, kind: Kind, name: bytes, data: Any, channel_name: Any) -> None:
        channel = self._channels.get((kind, name))
        if channel is None:
            return
        payload = data if type(data) is bytes else _bytes(data)
        where, pattern = (name, None) if channel_name is None else (_bytes(channel_name), name)
        for subscription in channel.handlers:
            try:
                subscription.on_message(payload, where, pattern)
            except Exception:
                _log.exception("a handler of %r raised", name)

    def _confirmed(self, what: bytes, name: bytes) -> None:
        if what == b"sunsubscribe" and (not self._asked or self._asked[0][:2] != (what, name)):
            self._moved(name)  # nobody asked: the slot has gone to another node
            return
        if not self._asked:
            return
        _, _, channel = self._asked.popleft()
        if channel is None or self._channels.get((channel.kind, channel.name)) is not channel:
            return
        channel.live = True
        if not channel.confirmed.done():
            channel.confirmed.set_result(None)
        if channel.established:
            for subscription in channel.handlers:
                _guarded(subscription.on_gap)
        channel.established = True

    def _refused(self, error: Exception) -> None:
        """The server said no to the oldest thing that was asked."""
        if not self._asked:
            return
        _, _, channel = self._asked.popleft()
        if channel is None or self._channels.get((channel.kind, channel.name)) is not channel:
            return
        if isinstance(error, MovedError) and self.on_moved is not None:
            self._hand_over([channel], error)
            return
        self._give_up(
            channel, translate(error, command="SUBSCRIBE", key=channel.name.decode(errors="backslashreplace"))
        )

    def _give_up(self, channel: Channel, error: Exception) -> None:
        del self._channels[channel.kind, channel.name]
        self.end(channel, error)

    def end(self, channel: Channel, error: Exception) -> None:
        """Nobody will listen for this channel any more, whether somebody does now or not."""
        channel.live = False
        if channel.confirmed.done():
            channel.confirmed = self._expectation()
        channel.confirmed.set_exception(error)
        for subscription in channel.handlers if channel.established else ():
            _guarded(subscription.on_lost, error)

    def _moved(self, name: bytes) -> None:
        channel = self._channels.get(("shard", name))
        if channel is not None:
            self._tell_lost(channel, ConnectionError(f"the slot of {name!r} has moved to another node"))
            if self.on_moved is not None:
                self._hand_over([channel], None)

    def _hand_over(self, channels: list[Channel], error: MovedError | None) -> None:
        assert self.on_moved is not None
        for channel in channels:
            del self._channels[channel.kind, channel.name]
            channel.ear = None
        self.on_moved(channels, error)

    def _tell_lost(self, channel: Channel, error: Exception) -> None:
        was_live, channel.live = channel.live, False
        if channel.confirmed.done():
            channel.confirmed = self._expectation()
        for subscription in channel.handlers if was_live else ():
            _guarded(subscription.on_lost, error)

    def _ponged(self) -> None:
        if not self._asked or self._asked[0][0] not in (b"ping", b"mark"):
            return
        what, _, _ = self._asked.popleft()
        if what == b"mark":
            mark = self._marks.popleft()
            if not mark.done():
                mark.set_result(None)

    def _forget_what_was_asked(self, error: Exception) -> None:
        self._asked.clear()
        for mark in self._marks:
            if not mark.done():
                mark.set_exception(error)
        self._marks.clear()

    # asking -------------------------------------------------------------------------------------------------------

    def _ask(self, channel: Channel) -> None:
        self._command("SUBSCRIBE", channel, channel)

    def _command(self, verb: str, channel: Channel, waiting: Channel | None) -> None:
        assert self._engine is not None
        name = _LETTER[channel.kind] + verb
        self._asked.append((name.lower().encode(), channel.name, waiting))
        self._engine.write(pack_plain((name, channel.name)))

    def _beat(self) -> None:
        """Nothing heard since the last PING, which is one heartbeat ago: there is nobody any more."""
        engine = self._engine
        if engine is None:
            return
        if self._quiet:
            engine.abort(ConnectionError(f"{self.source!r} was silent for {2 * self.heartbeat:g} s"))
            return
        self._quiet = True
        self._asked.append((b"ping", b"", None))
        engine.write(pack_plain(("PING",)))
        self._timer = self.loop.call_later(self.heartbeat, self._beat)

    # opening and closing ------------------------------------------------------------------------------------------

    def attach(self, connection: AbstractConnection) -> None:
        """A connection is ready: ask for everything that somebody wants."""
        if self._closed or not self._channels:
            self._spawn(self.source.discard(connection))
            return
        self.connections += 1
        self._answered = False
        self._listen_to_pushes(connection, self._pushed_later)
        self._engine = engine = engine_for(connection, self, fast=self._fast)
        engine.start()
        for channel in tuple(self._channels.values()):
            self._ask(channel)
        self._quiet = False
        self._timer = self.loop.call_later(self.heartbeat, self._beat)

    def refuse(self, make_error: Callable[[], Exception]) -> None:
        """Nobody is there. Those who wait for the first time get the error; the others wait for better times."""
        for channel in tuple(self._channels.values()):
            if not channel.established:
                self._give_up(channel, make_error())
            elif not channel.confirmed.done():
                channel.confirmed.set_exception(make_error())
                channel.confirmed = self._expectation()
        if self.on_moved is not None and self._channels:
            self._hand_over(list(self._channels.values()), None)
        self._open_later()

    def lost(self, error: Exception) -> None:
        engine, self._engine = self._engine, None
        self._stop_timer()
        self._forget_what_was_asked(error)
        if engine is not None:
            self._listen_to_pushes(engine.connection, None)
            self._spawn(self.source.discard(engine.connection))
        for channel in tuple(self._channels.values()):
            self._tell_lost(channel, error)
        if not self._answered:
            self._open_later()  # it takes connections and ends them: perhaps a proxy with nobody behind it
        elif self._channels and not self._closed:
            # At once the first time: most connections end because somebody ended this one, not the server.
            self._pauses = exponential(first=FIRST_PAUSE, longest=LONGEST_PAUSE)
            self._opening.start()

    def writable(self) -> None:
        """What we write is short; the transport keeps it."""

    def _open_later(self) -> None:
        if self._channels and not self._closed and self._retry is None:
            self._retry = self.loop.call_later(next(self._pauses), self._open_again)

    def _open_again(self) -> None:
        self._retry = None
        if self._channels and not self._closed and self._engine is None:
            self._opening.start()

    def _leave(self) -> None:
        """Give the connection back when nobody wants it any more."""
        if self._channels:
            return
        engine, self._engine = self._engine, None
        self._stop_timer()
        self._forget_what_was_asked(WireClosed("nobody listens any more"))
        if engine is not None:
            engine.detach()
            self._listen_to_pushes(engine.connection, None)
            self._spawn(self.source.discard(engine.connection))

    async def close(self) -> None:
        """End every subscription and give the connection back. Safe to call twice."""
        self._closed = True
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            self.end(channel, WireClosed("the client was closed"))
        await self._opening.stop()
        self._leave()
        if self._retry is not None:
            self._retry.cancel()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def abandon(self) -> None:
        """Close without an event loop's help: the client was collected."""
        self._closed = True
        self._channels.clear()
        self._stop_timer()
        self._opening.cancel()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.detach()
            if not self.loop.is_closed():
                cut(engine.connection)

    def _expectation(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self.loop.create_future()
        future.add_done_callback(_retrieved)
        return future

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _listen_to_pushes(self, connection: AbstractConnection, handler: Any) -> None:
        """RESP3 pushes reach the public engine through redis-py's hook; None puts redis-py's own handler back."""
        parser: Any = getattr(connection, "_parser", None)
        if hasattr(parser, "pubsub_push_handler_func"):
            parser.pubsub_push_handler_func = handler or parser.handle_pubsub_push_response

    async def _pushed_later(self, message: Any) -> None:
        self._heard(message)

    def _spawn(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _bytes(value: Any) -> bytes:
    """Channel names and data are bytes; the public engine of a client with `decode_responses` gives text."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _guarded(function: Callable[..., None] | None, *args: Any) -> None:
    if function is None:
        return
    try:
        function(*args)
    except Exception:
        _log.exception("a handler raised")


def _retrieved(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
