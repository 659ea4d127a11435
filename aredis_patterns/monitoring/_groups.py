"""What keys look like, once names and numbers are taken out of them: `user:42:cart` is `user:*:cart`."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

__all__ = ["OTHER", "BigKey", "KeyGroup", "Tally", "grouping", "shape_of"]

OTHER: Final = "(other)"
"""Where groups are counted once there are too many of them."""

_TAG: Final = re.compile(r"\{[^{}]*\}")
_NAME: Final = re.compile(
    r"(?<![0-9A-Za-z])(?:[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|(?=[0-9a-fA-F]*[0-9])[0-9a-fA-F]{8,}|\d+)(?![0-9A-Za-z])"
)


def shape_of(key: str) -> str:
    """The shape of a key: hash tags, numbers, UUIDs and long hexadecimal words become `*`.

    >>> shape_of("ap:rl:fixed:default:{user%3A42}")
    'ap:rl:fixed:default:{*}'
    >>> shape_of("cart:42:item:7")
    'cart:*:item:*'
    """
    return _NAME.sub("*", _TAG.sub("{*}", key))


def grouping(group: str | Callable[[str], str] | None) -> Callable[[str], str]:
    """A function from key to group: `shape_of`, a function of the caller's, or a regular expression.

    A regular expression puts a key where its groups say, joined by ":", or else its whole match; no match is "(other)".
    """
    if group is None:
        return shape_of
    if callable(group):
        return group
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise ValueError(f"group is not a regular expression: {error}, in {group!r}") from error

    def by_pattern(key: str) -> str:
        found = pattern.search(key)
        if found is None:
            return OTHER
        return ":".join(part or "" for part in found.groups()) if pattern.groups else found[0]

    return by_pattern


@dataclass(frozen=True, slots=True)
class BigKey:
    """One of the largest keys."""

    key: bytes
    type: str
    bytes: int
    ttl: float | None
    """Seconds to live; None for ever."""
    elements: int | None = None
    """Members, entries, or bytes of a string; None where it cannot be asked without touching the key."""
    node: str = ""


@dataclass(slots=True)
class KeyGroup:
    """Keys of one shape, or of one type."""

    name: str
    keys: int = 0
    bytes: int = 0
    largest: int = 0
    without_ttl: int = 0

    def add(self, size: int, lives_for_ever: bool) -> None:
        self.keys += 1
        self.bytes += size
        self.largest = max(self.largest, size)
        self.without_ttl += lives_for_ever


@dataclass(slots=True)
class Tally:
    """Counts keys as they come, in memory that does not grow with their number."""

    group_of: Callable[[str], str]
    max_groups: int
    top: int
    groups: dict[str, KeyGroup] = field(default_factory=dict[str, KeyGroup])
    types: dict[str, KeyGroup] = field(default_factory=dict[str, KeyGroup])
    keys: int = 0
    bytes: int = 0
    without_ttl: int = 0
    _largest: list[tuple[int, int, BigKey]] = field(default_factory=list[tuple[int, int, BigKey]])

    def add(self, key: BigKey) -> None:
        """Count one key."""
        self.keys += 1
        self.bytes += key.bytes
        self.without_ttl += key.ttl is None
        name = self.group_of(key.key.decode(errors="backslashreplace"))
        if name not in self.groups and len(self.groups) >= self.max_groups:
            name = OTHER
        for table, label in ((self.groups, name), (self.types, key.type)):
            table.setdefault(label, KeyGroup(label)).add(key.bytes, key.ttl is None)
        entry = (key.bytes, self.keys, key)
        if len(self._largest) < self.top:
            heapq.heappush(self._largest, entry)
        elif self._largest:
            heapq.heappushpop(self._largest, entry)

    def largest(self) -> list[BigKey]:
        """Largest first."""
        return [key for _, _, key in sorted(self._largest, reverse=True)]
