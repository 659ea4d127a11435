"""What a queue object has in each event loop that uses it."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Final, Generic, TypeVar

__all__ = ["Sessions"]

T = TypeVar("T")


class Sessions(Generic[T]):
    """One `T` per running loop, made on first use. Those of closed loops are forgotten."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make: Final = make
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, T] = weakref.WeakKeyDictionary()

    def here(self) -> T:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._by_loop.get(loop)
        if found is None:
            # A session refers to its loop, so the entry of a closed loop does not go by itself.
            for old in [each for each in self._by_loop if each.is_closed()]:
                del self._by_loop[old]
            found = self._by_loop[loop] = self._make()
        return found

    def existing(self) -> T | None:
        """That of the running loop, if there is one. None also outside of a loop."""
        try:
            return self._by_loop.get(asyncio.get_running_loop())
        except RuntimeError:
            return None

    def forget(self) -> T | None:
        """That of the running loop, which makes a new one when it is needed again."""
        return self._by_loop.pop(asyncio.get_running_loop(), None)
