"""What a board answers: `Entry`, `Update`, and runs of entries that print as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, overload

from aredis_patterns._core.tables import Cell, Table

__all__ = ["Entry", "MemberData", "Page", "RankChange", "Standings", "Update", "read_update"]

MemberData: TypeAlias = dict[str, Any]
"""What is remembered of a member: a JSON object."""

T = TypeVar("T")


class Entry(NamedTuple, Generic[T]):
    """One row of a board. Unpacks: `rank, member, score, data = entry`."""

    rank: int
    """1 for the best."""
    member: T
    score: float
    data: MemberData | None = None
    """None when the board keeps none, or nothing is known of this member."""


class Update(NamedTuple):
    """What a write did to a member."""

    rank: int | None
    """None when the member is too weak for a board with `max_size`."""
    previous_rank: int | None
    """None when the member was not on the board."""
    score: float
    """The score on the board now."""
    previous_score: float | None
    applied: bool
    """Whether the board took the score. With keep="best" a lower one is not taken, nor its data."""
    windows: Mapping[str, Update] = {}
    """The same for every window of the board, by "all", "day", "week", "month"; empty when there is only one."""

    @property
    def improved(self) -> bool:
        """Whether the member is new on the board or has a better rank now."""
        return self.rank is not None and (self.previous_rank is None or self.rank < self.previous_rank)


def read_update(words: list[bytes]) -> Update:
    """What the scripts say of one window: rank, previous rank, score, previous score, applied."""
    rank, previous, score, before, applied = words
    old = None if before == b"-" else float(before)
    return Update(int(rank) or None, int(previous) or None, float(score), old, applied == b"1")


class RankChange(NamedTuple, Generic[T]):
    """Something has changed for a watched member. None for a rank or score: not on the board."""

    member: T
    rank: int | None
    previous_rank: int | None
    score: float | None
    previous_score: float | None

    @property
    def overtaken(self) -> bool:
        """Whether the rank got worse."""
        return self.previous_rank is not None and (self.rank is None or self.rank > self.previous_rank)


class Standings(Table, Sequence[Entry[T]]):
    """A run of entries, best first: a sequence that prints as a table, with `to_csv()` and `to_dicts()`."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Iterable[Entry[T]] = ()) -> None:
        self._entries: Final = tuple(entries)

    def columns(self) -> list[str]:
        """rank, member, score, and the fields of the members' data in the order in which they first appear."""
        return ["rank", "member", "score", *self._fields()]

    def cells(self) -> Iterator[list[Cell]]:
        """One row per entry."""
        fields = self._fields()
        for entry in self._entries:
            data = entry.data or {}
            yield [entry.rank, _cell(entry.member), entry.score, *(_cell(data.get(field)) for field in fields)]

    def _fields(self) -> list[str]:
        taken = ("rank", "member", "score")
        fields = dict.fromkeys(field for entry in self._entries for field in entry.data or ())
        return [f"data.{field}" if field in taken else field for field in fields] if fields else []

    @overload
    def __getitem__(self, index: int) -> Entry[T]: ...
    @overload
    def __getitem__(self, index: slice) -> Standings[T]: ...
    def __getitem__(self, index: int | slice) -> Entry[T] | Standings[T]:
        return Standings(self._entries[index]) if isinstance(index, slice) else self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter(self._entries)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Standings):
            return self._entries == other._entries
        return self._entries == tuple(other) if isinstance(other, (list, tuple)) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple((entry.rank, entry.member, entry.score) for entry in self._entries))

    def __repr__(self) -> str:
        shown = ", ".join(f"{e.rank}: {e.member!r} {e.score:g}" for e in self._entries[:5])
        return f"<{type(self).__name__} {shown}{', ...' if len(self) > 5 else ''}>"


class Page(Standings[T]):
    """Standings with their place on the whole board."""

    __slots__ = ("cursor", "number", "pages", "total")

    def __init__(
        self,
        entries: Iterable[Entry[T]] = (),
        *,
        total: int,
        number: int | None = None,
        pages: int | None = None,
        cursor: str | None = None,
    ) -> None:
        super().__init__(entries)
        self.total: Final = total
        """Rows in all: members on the board, or for `between` those with such a score."""
        self.number: Final = number
        """1 for the first page; None when it was found by a cursor."""
        self.pages: Final = pages
        self.cursor: Final = cursor
        """Where the next page begins, for `get_page(cursor=...)`; None at the end of the board."""


def _cell(value: object) -> Cell:
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
