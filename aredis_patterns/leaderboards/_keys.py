"""The keys of this family. All keys of a board, and of all boards of one group, share a slot."""

from __future__ import annotations

from aredis_patterns._core.keys import Keyspace

__all__ = ["BoardKeys", "TrendKeys"]


class BoardKeys:
    """`<namespace>:lb:{<group>}:<name>:<window>:<part>`, and what belongs to the board as a whole.

    Parts of a window: `z` the ranked members, `d` their data, `t` who came when, `s` the distinct scores.
    """

    __slots__ = ("_group", "_name", "_space")

    def __init__(self, namespace: str, group: str, name: str) -> None:
        self._space = Keyspace(namespace, "lb")
        self._group = group
        self._name = name

    def window(self, window: str, layout: str) -> tuple[str, ...]:
        """The board of one window ("all", "2026-W48"), then one key for each letter of `layout`."""
        return tuple(self._space.key(self._group, self._name, window, part) for part in ("z", *layout))

    def record(self, owner: str, number: int | str) -> str:
        """Where one slot of one process remembers its last operation."""
        return self._space.key(self._group, self._name, "op", owner, str(number))

    def channel(self) -> str:
        """Where writes announce that ranks have changed."""
        return self._space.key(self._group, self._name, "live")


class TrendKeys:
    """`<namespace>:trend:{<name>}:...`"""

    __slots__ = ("_name", "_space", "board", "landmark")

    def __init__(self, namespace: str, name: str) -> None:
        self._space = Keyspace(namespace, "trend")
        self._name = name
        self.board = self._space.key(name, "z")
        self.landmark = self._space.key(name, "t0")

    def record(self, owner: str, number: int) -> str:
        """Where one slot of one process remembers its last operation."""
        return self._space.key(self._name, "op", owner, str(number))
