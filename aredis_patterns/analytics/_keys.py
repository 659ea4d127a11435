"""The keys of this family. All keys of one tracker, counter or index share a slot, so one script may combine them."""

from __future__ import annotations

from datetime import date

from aredis_patterns._core.keys import Keyspace

__all__ = ["ActivityKeys", "IndexKeys", "VisitorKeys"]


class ActivityKeys:
    """`<namespace>:act:{<name>}:...`"""

    __slots__ = ("_name", "_space")

    def __init__(self, namespace: str, name: str) -> None:
        self._space = Keyspace(namespace, "act")
        self._name = name

    def day(self, event: str, day: date) -> str:
        """The bitmap of who did this on that day."""
        return self._space.key(self._name, "d", event, day.isoformat())

    def flag(self, flag: str) -> str:
        """The bitmap of who has this flag."""
        return self._space.key(self._name, "f", flag)

    def scratch(self, number: int) -> str:
        """A register of a program, gone before the script ends."""
        return self._space.key(self._name, "scratch", str(number))


class VisitorKeys:
    """`<namespace>:uv:{<name>}:...`"""

    __slots__ = ("_name", "_space")

    def __init__(self, namespace: str, name: str) -> None:
        self._space = Keyspace(namespace, "uv")
        self._name = name

    def day(self, page: str, day: date) -> str:
        """The HyperLogLog of one day."""
        return self._space.key(self._name, "d", page, day.isoformat())

    def union(self, page: str, last: date, days: int) -> str:
        """The union of `days` closed days, of which `last` is the newest."""
        return self._space.key(self._name, "u", page, last.isoformat(), str(days))


class IndexKeys:
    """`<namespace>:ids:{<name>}:...`"""

    __slots__ = ("index", "names")

    def __init__(self, namespace: str, name: str) -> None:
        space = Keyspace(namespace, "ids")
        self.index = space.key(name, "i")
        self.names = space.key(name, "n")
