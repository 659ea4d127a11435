"""One channel that the server is asked for, and what becomes of what it says: decoded, numbered, told of gaps.

How events reach subscribers: `_switchboard`. Everything that the listener calls is quick and synchronous.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from redis.exceptions import ConnectionError

from aredis_patterns.exceptions import ServerRefused, WireClosed
from aredis_patterns.pipelining import ListenerSubscription
from aredis_patterns.pubsub._events import Event, Gap
from aredis_patterns.pubsub._keys import ChannelNames
from aredis_patterns.pubsub._numbers import Position, Tracker, parse

if TYPE_CHECKING:
    from aredis_patterns.pubsub._subscription import Subscription
    from aredis_patterns.pubsub._switchboard import Switchboard

__all__ = ["Address", "Kind", "Route", "SwitchboardOptions"]

Kind: TypeAlias = Literal["channel", "pattern", "shard"]

MOST_TRACKED: Final = 10_000
"""Channels of one pattern whose numbers are followed. Beyond that the one that came first begins anew."""

_log: Final = logging.getLogger("aredis_patterns.pubsub")


class Address(NamedTuple):
    """What the server is asked for."""

    kind: Kind
    on_server: bytes
    name: str
    """As the user calls it."""


@dataclass(frozen=True, slots=True)
class SwitchboardOptions:
    """What a `PubSub` says once for all its loops."""

    names: ChannelNames
    decode: Callable[[bytes], Any]
    linger: float
    """Seconds that a channel stays subscribed after its last subscriber: whoever left often comes back at once."""
    counted: Callable[[bytes], Awaitable[Position | None]] | None
    """Asks the server how far a channel is counted, when messages are numbered."""


class Route:
    """One channel or pattern."""

    def __init__(self, board: Switchboard, address: Address) -> None:
        self.address: Final = address
        self.subscriptions: dict[Subscription[Any], None] = {}
        self.heard: ListenerSubscription | None = None
        self.confirmed = False
        """Confirmed at some time: later losses are healed by the listener."""
        self.linger: asyncio.TimerHandle | None = None
        self.trackers: dict[str, Tracker] = {}
        self._board = board
        self._numbered = board.options.counted is not None
        self._gap_seen = 0

    # called by the listener: quick, and synchronous -----------------------------------------------------------------

    def hear(self, data: bytes, channel: bytes, pattern: bytes | None) -> None:
        """One message."""
        board, address = self._board, self.address
        name = address.name if pattern is None else board.options.names.here(channel)
        sequence = None
        if self._numbered and (numbered := parse(data)) is not None:
            sequence, data = numbered.number, numbered.payload
            self._account(name, numbered.epoch, sequence)
        try:
            value = board.options.decode(data)
        except Exception as error:  # the user's code: whatever it raises, the message is not there
            _log.warning("a message on %r is left out: %s: %s", name, type(error).__name__, error)
            self.tell(Gap("undecodable", 1, name))
            return
        matched = None if pattern is None else address.name
        board.pass_on(self, Event(name, value, data, matched, sequence, time.time()))

    def resumed(self) -> None:
        """The subscription is established again after a loss."""
        counted = self._board.options.counted
        self._gap_seen += 1
        if counted is None or self.address.kind == "pattern":
            self.trackers.clear()  # a hole that shows later is part of this gap, not another one
            self.tell(Gap("reconnect", None, self._channel))
        else:
            self._board.spawn(self._catch_up(counted, self._gap_seen))

    def lost(self, error: Exception) -> None:
        """The connection is gone. The listener comes back by itself, unless it has been closed or is not allowed to."""
        if isinstance(error, (WireClosed, ServerRefused)):
            self._board.give_up(self, error)

    # ----------------------------------------------------------------------------------------------------------------

    @property
    def _channel(self) -> str | None:
        return None if self.address.kind == "pattern" else self.address.name

    def tell(self, gap: Gap) -> None:
        """Tell every subscriber of a gap, behind what has come so far."""
        self._board.flush()
        for subscription in self.subscriptions:
            subscription.note(gap)

    def _account(self, name: str, epoch: bytes, number: int) -> None:
        tracker = self.trackers.get(name)
        if tracker is None:
            if len(self.trackers) >= MOST_TRACKED:
                del self.trackers[next(iter(self.trackers))]
            tracker = self.trackers[name] = Tracker()
        missed = tracker.arrived(epoch, number)
        if missed != 0:
            self.tell(Gap("reset" if missed is None else "reconnect", missed, name))

    async def _catch_up(self, counted: Callable[[bytes], Awaitable[Position | None]], gap: int) -> None:
        """Messages are numbered: find out how many were lost, if any, without waiting for the next one."""
        heard = self.heard
        try:
            position = await counted(self.address.on_server)
        except Exception:
            if gap == self._gap_seen:
                self.trackers.clear()
                self.tell(Gap("reconnect", None, self._channel))
            return
        try:
            if heard is None or gap != self._gap_seen:
                return
            await heard.sync()  # what was counted and is on its way to us has arrived now
        except ConnectionError:
            return  # lost again: the next one to resume accounts for both
        if gap != self._gap_seen or not self.subscriptions:
            return
        tracker = self.trackers.setdefault(self.address.name, Tracker())
        before = tracker.seen
        missed = tracker.caught_up(position)
        if missed is None:
            began_anew = before is not None
            self.tell(Gap("reset" if began_anew else "reconnect", None, self._channel))
        elif missed:
            self.tell(Gap("reconnect", missed, self._channel))
