"""The keys of this family. All keys of one tracker, counter or index share a slot, so one script may combine them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Final

from aredis_patterns._core.keys import Keyspace

__all__ = ["ActivityKeys", "IndexKeys", "VisitorKeys"]

REMEMBERED: Final = 4096
"""Keys that one object does not build again: a report names the same days many times, a hot path the same day always."""


class ActivityKeys:
    """`<namespace>:act:{<name>}:...`"""

    __slots__ = ("_name", "_space", "day")

    def __init__(self, namespace: str, name: str) -> None:
        self._space = Keyspace(namespace, "act")
        self._name = name
        self.day: Final[Callable[[str, date], str]] = lru_cache(REMEMBERED)(self._day)
        """The bitmap of who did this on that day."""

    def _day(self, event: str, day: date) -> str:
        return self._space.key(self._name, "d", event, day.isoformat())

    def flag(self, flag: str) -> str:
        """The bitmap of who has this flag."""
        return self._space.key(self._name, "f", flag)

    def scratch(self, number: int) -> str:
        """A register of a program, gone before the script ends."""
        return self._space.key(self._name, "scratch", str(number))


class VisitorKeys:
    """`<namespace>:uv:{<name>}:...`"""

    __slots__ = ("_name", "_space", "day", "union")

    def __init__(self, namespace: str, name: str) -> None:
        self._space = Keyspace(namespace, "uv")
        self._name = name
        self.day: Final[Callable[[str, date], str]] = lru_cache(REMEMBERED)(self._day)
        """The HyperLogLog of one day."""
        self.union: Final[Callable[[str, date, int], str]] = lru_cache(REMEMBERED)(self._union)
        """The union of so many closed days, of which that day is the newest."""

    def _day(self, page: str, day: date) -> str:
        return self._space.key(self._name, "d", page, day.isoformat())

    def _union(self, page: str, last: date, days: int) -> str:
        return self._space.key(self._name, "u", page, last.isoformat(), str(days))


class IndexKeys:
    """`<namespace>:ids:{<name>}:...`"""

    __slots__ = ("index", "names")

    def __init__(self, namespace: str, name: str) -> None:
        space = Keyspace(namespace, "ids")
        self.index = space.key(name, "i")
        self.names = space.key(name, "n")
