"""What is wanted of one channel, and by whom. No I/O: the connection that listens is `_ear`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol

from aredis_patterns.exceptions import ServerUnavailable
from aredis_patterns.pipelining._contract import RAW

__all__ = ["Channel", "Endless", "Kind", "ListenerSubscription", "OnMessage"]

Kind = Literal["channel", "pattern", "shard"]
"""SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE."""

OnMessage = Callable[[bytes, bytes, "bytes | None"], None]
"""`on_message(data, channel, pattern)`; the pattern is None but for pattern subscriptions."""


class Server(Protocol):
    """What a channel sees of the ear that listens for it."""

    async def sync(self) -> None: ...
    def drop(self, channel: Channel) -> None: ...


class ListenerSubscription:
    """One handler on one channel or pattern. Made by `subscribe`; ended by `close`, which is synchronous and final."""

    __slots__ = ("_channel", "on_gap", "on_lost", "on_message")

    def __init__(
        self,
        channel: Channel,
        on_message: OnMessage,
        on_lost: Callable[[Exception], None] | None,
        on_gap: Callable[[], None] | None,
    ) -> None:
        self._channel = channel
        self.on_message: Final = on_message
        self.on_lost: Final = on_lost
        self.on_gap: Final = on_gap

    @property
    def name(self) -> bytes:
        """The channel or pattern."""
        return self._channel.name

    @property
    def live(self) -> bool:
        """Whether the server has confirmed this subscription on a connection that is open now."""
        return self._channel.live and self in self._channel.handlers

    async def confirmed(self) -> None:
        """Wait until the server has confirmed it, on the connection that is open or the one that is being opened."""
        await asyncio.shield(self._channel.confirmed)

    async def sync(self) -> None:
        """Return when everything has been heard that the server had published before this call. One round trip.

        With another command that tells how far the server is, this tells what is lost from what is only late. Raises a
        ConnectionError when there is no connection, or when it is lost meanwhile.
        """
        ear = self._channel.ear
        if ear is None:
            raise ServerUnavailable(f"{self._channel.name!r} is on its way to another node")
        await ear.sync()

    def close(self) -> None:
        """Hear no more. No handler of this subscription is called after this returns."""
        self._channel.remove(self)

    def __repr__(self) -> str:
        state = "closed" if self not in self._channel.handlers else "live" if self.live else "waiting"
        return f"<ListenerSubscription {self._channel.kind} {self.name!r} {state}>"


class Channel:
    """What is wanted of one channel or pattern."""

    __slots__ = ("confirmed", "ear", "established", "handlers", "kind", "live", "name")

    def __init__(self, kind: Kind, name: bytes, confirmed: asyncio.Future[None]) -> None:
        self.kind: Final[Kind] = kind
        self.name: Final = name
        self.handlers: tuple[ListenerSubscription, ...] = ()
        self.ear: Server | None = None
        """Who listens for it; None while it moves from node to node."""
        self.confirmed = confirmed
        self.live = False
        """Confirmed on the present connection."""
        self.established = False
        """Confirmed at some time: its subscribers have returned and must be told of gaps."""

    def remove(self, subscription: ListenerSubscription) -> None:
        if subscription not in self.handlers:
            return
        self.handlers = tuple(each for each in self.handlers if each is not subscription)
        if not self.handlers and self.ear is not None:
            self.ear.drop(self)


class Endless:
    """Looks to an engine like a queue of callers and hands every reply to `heard`: a listener has no callers."""

    def __init__(self, heard: Callable[[Any], None]) -> None:
        self.set_result = heard
        self._entry = (self, b"", RAW)

    def done(self) -> bool:
        return False

    def popleft(self) -> Any:
        return self._entry

    def __getitem__(self, index: int) -> Any:
        return self._entry

    def __bool__(self) -> bool:
        return True
