"""What a lane and its engine know of each other: entries, and two small interfaces. No code."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, Protocol

from redis.asyncio.connection import AbstractConnection

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
