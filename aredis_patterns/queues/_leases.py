"""The leases of one process: renewed together at each third of a lease, for as long as somebody has the message."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final

from aredis_patterns.queues._desk import lose
from aredis_patterns.queues._message import Message

__all__ = ["Leases"]

_YOUNG: Final = 0.7
"""A lease with more than this part of it left is not renewed yet."""


class Leases:
    """Weak: a message that nobody refers to any more is given up, and comes back when its lease ends."""

    def __init__(self, seconds: float, renew: Callable[[list[Message[Any]]], None]) -> None:
        self._seconds: Final = seconds
        self._renew: Final = renew
        self._loop: Final = asyncio.get_running_loop()
        self._held: dict[str, weakref.ref[Message[Any]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def hold(self, message: Message[Any]) -> None:
        """See to it that the lease of this message lives."""
        earlier = self._now_held(message.id)
        if earlier is not None and earlier is not message and earlier.state == "held":
            lose(earlier)  # it lapsed and came back to us: whoever still works on it has to hear of it
        self._held[message.id] = weakref.ref(message)
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds / 3, self._beat)

    def drop(self, message: Message[Any]) -> None:
        """Its lease is of no interest any more."""
        if self._now_held(message.id) is message:  # and not a later delivery of the same message
            del self._held[message.id]

    def notice_ends(self) -> None:
        """The server is away: leases that have ended here may have ended there."""
        for message in self._alive():
            if message.lost:
                self.drop(message)
                lose(message)

    def close(self) -> None:
        """Renew nothing any more."""
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now_held(self, id: str) -> Message[Any] | None:
        reference = self._held.get(id)
        return reference() if reference is not None else None

    def _alive(self) -> Iterator[Message[Any]]:
        for id, reference in list(self._held.items()):
            message = reference()
            if message is None or message.state != "held":
                del self._held[id]
            else:
                yield message

    def _beat(self) -> None:
        self._timer = None
        soon = time.monotonic() + self._seconds * _YOUNG
        due = [message for message in self._alive() if message._expires < soon]
        if self._held:
            self._timer = self._loop.call_later(self._seconds / 3, self._beat)
        if due:
            self._renew(due)
