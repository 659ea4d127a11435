"""What a client has in each event loop: made on first use, found again by everybody, ended with the client.

Nothing is kept for a client that has gone, and nothing of a loop that has closed.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["PerLoop"]


class Ending(Protocol):
    """Has a life of its own in one loop. Must not refer to its client, or neither ever ends."""

    loop: asyncio.AbstractEventLoop

    async def close(self) -> None: ...
    def abandon(self) -> None:
        """Close without waiting: the client was collected."""
        ...


T = TypeVar("T", bound=Ending)


class PerLoop(Generic[T]):
    """One `T` per client and event loop."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._by_client: weakref.WeakKeyDictionary[Any, weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, T]] = (
            weakref.WeakKeyDictionary()
        )

    def here(self, client: Any) -> T:
        """That of this client in the running loop."""
        by_loop = self._by_client.get(client)
        if by_loop is None:
            by_loop = self._by_client[client] = weakref.WeakKeyDictionary()
            weakref.finalize(client, _abandon_all, by_loop).atexit = False
        loop = asyncio.get_running_loop()
        found = by_loop.get(loop)
        if found is None:
            # Each refers to its loop, so the entry of a closed loop does not go by itself.
            for old in [each for each in by_loop if each.is_closed()]:
                del by_loop[old]
            found = by_loop[loop] = self._make(client)
        return found

    def existing(self, client: Any) -> T | None:
        """That of this client in the running loop, if there is one."""
        by_loop = self._by_client.get(client)
        return by_loop.get(asyncio.get_running_loop()) if by_loop is not None else None

    def forget(self, client: Any) -> None:
        """The next use in the running loop makes another one."""
        by_loop = self._by_client.get(client)
        if by_loop is not None:
            by_loop.pop(asyncio.get_running_loop(), None)


def _abandon_all(by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any]) -> None:
    """The client was collected, perhaps in another thread than its loop's."""
    for loop, owned in list(by_loop.items()):
        if loop.is_closed():
            continue
        try:
            loop.call_soon_threadsafe(owned.abandon)
        except RuntimeError:  # closed in between
            continue
