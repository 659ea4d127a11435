"""Where to begin to read a topic, and what is read. Values only; no I/O.

A position is the id of a message and its number: "1758000000000-0/42". Everything behind it is still to come, and the
number of the next message tells how many were trimmed in between. A position without a number ("1758000000000-0") is
good enough to go on, but not to count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from aredis_patterns.exceptions import DecodeError

__all__ = ["BEGINNING", "EntryId", "Last", "Position", "StartAt", "TopicEntry", "parse_start", "read_entries"]

T = TypeVar("T")

_POSITION: Final = re.compile(r"(\d{1,20})-(\d{1,20})(?:/(\d{1,19}))?")
_LARGEST: Final = 2**64 - 1


class EntryId(NamedTuple):
    """The id of a message: the server's ms, and a count within it. Later messages have larger ids."""

    ms: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.sequence}"

    def before(self) -> EntryId:
        """The largest id that is smaller."""
        if self.sequence:
            return EntryId(self.ms, self.sequence - 1)
        return EntryId(self.ms - 1, _LARGEST) if self.ms else EntryId(0, 0)


class Position(NamedTuple):
    """Behind which message to read on; `number` is None when it is not known."""

    id: EntryId
    number: int | None

    def __str__(self) -> str:
        return str(self.id) if self.number is None else f"{self.id}/{self.number}"


BEGINNING: Final = Position(EntryId(0, 0), 0)
BEHIND_ALL: Final = EntryId(_LARGEST, _LARGEST)


@dataclass(frozen=True, slots=True)
class Last:
    """Begin so many messages before the end."""

    count: int

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"Last takes a whole number of messages, at least 1, got {self.count!r}")


StartAt: TypeAlias = "Literal['new', 'all'] | Last | str | datetime"
"""Where to begin: with what is published from now on, with everything that is there, with the last few, behind a
position (`entry.position`, or an id), or at a time (with a time zone)."""


@dataclass(frozen=True, slots=True)
class TopicEntry(Generic[T]):
    """One message of a topic. All subscribers of a process may share one object: do not change `data`."""

    id: EntryId
    number: int
    """Its place in the topic: rises by one with each message."""
    data: T
    raw: bytes
    """`data` as it is stored, before the codec."""

    @property
    def position(self) -> str:
        """`start=entry.position` reads on behind this message, in any process, and counts what was trimmed meanwhile."""
        return f"{self.id}/{self.number}"

    @property
    def published_at(self) -> float:
        """Seconds since the epoch, by the server's clock."""
        return self.id.ms / 1000


class ParsedStart(NamedTuple):
    """A start as lua/topic_position.lua takes it; `number` is what the caller knows beyond that."""

    kind: str
    value: str
    number: int | None


def parse_start(start: StartAt) -> ParsedStart:
    """ValueError or TypeError for what is no place to begin."""
    if isinstance(start, Last):
        return ParsedStart("last", str(start.count), None)
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise ValueError(f"a start time needs a time zone, got {start!r}")
        return ParsedStart("time", str(max(0, round(start.timestamp() * 1000))), None)
    if not isinstance(start, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f'start is "new", "all", Last(n), a position, an id or a datetime, got {start!r}')
    if start in ("new", "all"):
        return ParsedStart(start, "", None)
    position = parse_position(start)
    return ParsedStart("id", str(position.id), position.number)


def parse_position(text: str) -> Position:
    """`entry.position` or an id. ValueError for anything else: it may come from a client of yours."""
    found = _POSITION.fullmatch(text)
    id = EntryId(int(found[1]), int(found[2])) if found else BEHIND_ALL
    if found is None or max(id) > _LARGEST or id == BEHIND_ALL:  # nothing can be behind the last: XRANGE refuses it
        raise ValueError(f'start is "new", "all", Last(n), a position, an id or a datetime, got {text!r}')
    return Position(id, None if found[3] is None else int(found[3]))


def parse_id(raw: bytes) -> EntryId:
    """An id as the server writes it."""
    ms, _, sequence = raw.partition(b"-")
    return EntryId(int(ms), int(sequence))


class Stored(NamedTuple):
    """One message as it is stored. `number` is None for one that somebody has added without us."""

    id: EntryId
    number: int | None
    raw: bytes


def read_entries(reply: Sequence[Any]) -> list[Stored]:
    """What XRANGE answers."""
    found: list[Stored] = []
    for raw_id, fields in reply:
        if fields is None:  # deleted, in the reply of some servers
            continue
        pairs = dict(zip(fields[::2], fields[1::2], strict=False))
        number = pairs.get(b"n")
        found.append(Stored(parse_id(raw_id), None if number is None else int(number), pairs.get(b"d", b"")))
    return found


def read_live(data: bytes) -> list[Stored]:
    """What is published to those who listen; see lua/topic_publish.lua. Empty for a wake-up."""
    if not data:
        return []
    head, _, bodies = data.partition(b"\n")
    try:
        raw_id, number, lengths = head.split(b" ")
        first, start = parse_id(raw_id), int(number)
        sizes = [int(size) for size in lengths.split(b",")]
    except ValueError as error:
        raise DecodeError(f"a message on the channel of a topic that no topic has sent: {data[:40]!r}") from error
    found: list[Stored] = []
    at = 0
    for index, size in enumerate(sizes):
        found.append(Stored(EntryId(first.ms, first.sequence + index), start + index, bodies[at : at + size]))
        at += size
    return found
