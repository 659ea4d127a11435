"""`Board`: everything that can be read from one window of a leaderboard.

What is asked for is one script, or one plain command where Redis has it: ordinal ranks without member data and without
arrivals are ZREVRANK and ZRANGE.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from datetime import date
from functools import partial
from itertools import count as count_from
from itertools import repeat
from typing import Any, Final, Generic

from aredis_patterns._core.checks import check_whole
from aredis_patterns._core.codecs import JSONCodec
from aredis_patterns._core.durations import to_seconds
from aredis_patterns._core.members import M
from aredis_patterns.leaderboards._checks import check_score
from aredis_patterns.leaderboards._cursor import read_cursor, write_cursor
from aredis_patterns.leaderboards._options import Ranking
from aredis_patterns.leaderboards._records import Entry, MemberData, Page, RankChange, Standings
from aredis_patterns.leaderboards._rules import Rules
from aredis_patterns.leaderboards._scripts import Rows, find_members, read_rows
from aredis_patterns.leaderboards._watch import watch
from aredis_patterns.leaderboards._windows import Window
from aredis_patterns.types import Seconds

__all__ = ["Board"]

_JSON: Final[JSONCodec[MemberData]] = JSONCodec()
_new_entry: Final[Any] = tuple.__new__  # a third of the time of Entry(...), ten times per page
_ENTRY: Final = repeat(Entry)
_NONE: Final = repeat(None)


class Board(Generic[M]):
    """One window of a `Leaderboard`, for reading: all time, or the day, week or month of a date.

    Each verb is one round trip and a consistent snapshot. Ranks begin at 1 for the best. Which day "now" is in is the
    client's question, asked with the server's clock as it was last seen; which day a *write* counts for is decided by
    the server. A window that nobody wrote to is an empty board.

    Many callers in one process who ask the same at the same time (`get_top`, a page by its number, `between`,
    `score_at_percentile`) share one command. Only those who asked before it was sent: an answer is never older than its
    question.
    """

    def __init__(self, rules: Rules, window: Window, day: date | None) -> None:
        self._rules: Final = rules
        self._window: Final[Window] = window
        self._day: Final = day
        self._fixed: Final = rules.windows.board(window, day or date.min) if window == "all" or day else None

    @property
    def _keys(self) -> tuple[str, ...]:
        return self._fixed or self._rules.windows.board(self._window, self._rules.windows.today())

    async def get_rank(self, member: M) -> int | None:
        """The rank of a member, None for one who is not on the board. O(log n)."""
        rules, keys = self._rules, self._keys
        stored = rules.members.encode(member)
        if rules.plain:
            name = "ZREVRANK" if rules.order == "desc" else "ZRANK"
            place: int | None = await rules.commands.call(name, keys[0], stored, key=keys[0], deadline=rules.deadline)
            return None if place is None else place + 1
        entry = (await self._find([stored], [member]))[0]
        return None if entry is None else entry.rank

    async def get_score(self, member: M) -> float | None:
        """The score of a member, None for one who is not on the board. O(1)."""
        entry = await self.get_entry(member)
        return None if entry is None else entry.score

    async def get_entry(self, member: M) -> Entry[M] | None:
        """Rank, score and data of a member. O(log n)."""
        return (await self.get_entries([member]))[0]

    async def get_entries(self, members: Iterable[M]) -> list[Entry[M] | None]:
        """`get_entry` for each member, in order: one round trip, in scripts of 500. O(m log n)."""
        wanted = list(members)
        if not wanted:
            return []
        return await self._find([self._rules.members.encode(member) for member in wanted], wanted)

    async def get_ranks(self, members: Iterable[M]) -> dict[M, int | None]:
        """The rank of each member, in the order given. One round trip. O(m log n)."""
        wanted = list(members)
        found = await self.get_entries(wanted)
        return {m: None if entry is None else entry.rank for m, entry in zip(wanted, found, strict=True)}

    async def get_top(self, count: int = 10) -> Standings[M]:
        """The best `count` members. O(log n + count)."""
        check_whole(count, "count", 1)
        rules, key = self._rules, self._keys[0]
        if rules.plain:
            return await rules.shared.read(("top", key, count), partial(self._plain_top, key, count))
        return Standings(self._entries_of(await self._read_shared("place", count, 0)))

    async def get_around_user(self, member: M, count: int = 5) -> Standings[M]:
        """The member with `count` neighbours on each side: always 2 * count + 1 rows, or the whole board.

        Near an end the window moves inward, so the last member sees as many rows as the one in the middle. Empty when
        the member is not on the board. O(log n + count).
        """
        check_whole(count, "count", 0)
        found = await self._read("around", count, self._rules.members.encode(member))
        return Standings(self._entries_of(found))

    async def get_page(self, number: int = 1, *, size: int = 25, cursor: str | None = None) -> Page[M]:
        """A page by its number (1 is the first), or the one behind a cursor. O(log n + size).

        Numbers are right for "page 3 of 12". Cursors are right for "load more": they continue behind the last row that
        was seen, whatever has been written or removed before it. ValueError for a cursor that is not ours.
        """
        check_whole(size, "size", 1)
        check_whole(number, "number", 1)
        if cursor is None:
            found = await self._read_shared("place", size, (number - 1) * size)
        else:
            found = await self._read("after", size, *read_cursor(cursor))
        return Page(
            self._entries_of(found),
            total=found.total,
            number=number if cursor is None else None,
            pages=-(-found.total // size),
            cursor=self._cursor(found),
        )

    async def between(self, low: float | None = None, high: float | None = None, *, limit: int = 100) -> Page[M]:
        """The members with low <= score <= high, best first, at most `limit`; `total` counts all of them.

        None leaves a side open. O(log n + limit).
        """
        check_whole(limit, "limit", 1)
        lowest = -math.inf if low is None else check_score(low, "low")
        highest = math.inf if high is None else check_score(high, "high")
        if lowest > highest:
            raise ValueError(f"low must not be above high, got {low!r} and {high!r}")
        found = await self._read_shared("between", limit, lowest, highest)
        return Page(self._entries_of(found), total=found.matching)

    async def percentile(self, member: M) -> float | None:
        """How many percent of the members score no better than this one: 100.0 for the best. O(log n)."""
        rules, keys = self._rules, self._keys
        found = await find_members(
            rules.commands,
            board=keys[0],
            parts=keys[1:],
            order=rules.order,
            ranking="standard",
            layout=rules.layout,
            members=[rules.members.encode(member)],
            deadline=rules.deadline,
        )
        rank = found.ranks[0]
        return 100.0 * (found.total - rank + 1) / found.total if rank else None

    async def score_at_percentile(self, percent: float) -> float | None:
        """The lowest score with which at least `percent` of the members score no better (nearest rank). None when empty.

        The inverse of `percentile`: 0 gives the worst score, 50 the median, 100 the best. O(log n).
        """
        if not 0 <= check_score(percent, "percent") <= 100:
            raise ValueError(f"percent is 0 to 100, got {percent!r}")
        found = await self._read_shared("percentile", 1, float(percent))
        return float(found.rows[1]) if found.rows else None

    async def size(self) -> int:
        """How many members there are. O(1)."""
        key = self._keys[0]
        return int(await self._rules.commands.call("ZCARD", key, key=key, deadline=self._rules.deadline))

    async def entries(self, *, chunk: int = 500) -> AsyncGenerator[Entry[M], None]:
        """Every entry, best first, `chunk` per round trip: `async for entry in board.entries()`.

        Continues behind the last row it saw, so nobody who stays where they are is left out or seen twice, whatever is
        written meanwhile. Memory for one chunk.
        """
        page = await self.get_page(size=chunk)
        while True:
            for entry in page:
                yield entry
            if page.cursor is None:
                return
            page = await self.get_page(size=chunk, cursor=page.cursor)

    def watch(self, member: M, *, poll: Seconds = 2.0) -> AsyncIterator[RankChange[M]]:
        """The rank changes of a member, as they happen: `async for change in board.watch("ada")`.

        The first one tells where the member is now (`previous_rank` None). After that every change that lasts is
        reported, also those that others cause; changes within one read are reported as one. Needs `live=True` on every
        board that writes. Woken by a push; where the server allows no subscriptions, and after a gap, it looks by
        itself, every `poll` seconds on average. Ends when it is closed or cancelled; leaves nothing behind.
        """
        if not self._rules.channel:
            raise ValueError("watch needs announcements: make the board with live=True, wherever it is written")
        self._rules.members.encode(member)
        seconds = to_seconds(poll, "poll")
        return watch(self._rules.commands.client, self._rules.channel, lambda: self.get_entry(member), member, seconds)

    async def _plain_top(self, key: str, count: int) -> Standings[M]:
        rules = self._rules
        reverse = ("REV",) if rules.order == "desc" else ()
        arguments = (key, 0, count - 1, *reverse, "WITHSCORES")
        rows = await rules.commands.call("ZRANGE", *arguments, key=key, deadline=rules.deadline)
        return Standings(self._entries(rows, 0, 1, ()))

    async def _read_shared(self, mode: str, count: int, where: float, bound: bytes | float = b"") -> Rows:
        """`_read` for questions that many ask alike. Rows are shared, entries are made for each: data can be changed."""
        question = (self._keys[0], mode, count, where, bound)
        return await self._rules.shared.read(question, partial(self._read, mode, count, where, bound))

    async def _read(self, mode: str, count: int, where: bytes | float, bound: bytes | float = b"") -> Rows:
        rules, keys = self._rules, self._keys
        return await read_rows(
            rules.commands,
            board=keys[0],
            parts=keys[1:],
            mode=mode,
            order=rules.order,
            ranking=rules.ranking,
            layout=rules.layout,
            count=count,
            where=where,
            bound=bound,
            deadline=rules.deadline,
        )

    async def _find(self, stored: Sequence[bytes], members: Sequence[M]) -> list[Entry[M] | None]:
        rules, keys = self._rules, self._keys
        found = await find_members(
            rules.commands,
            board=keys[0],
            parts=keys[1:],
            order=rules.order,
            ranking=rules.ranking,
            layout=rules.layout,
            members=stored,
            deadline=rules.deadline,
        )
        rows = zip(found.ranks, members, found.scores, found.data, strict=True)
        return [
            Entry(rank, member, float(score), _JSON.decode(data) if data else None) if rank else None
            for rank, member, score, data in rows
        ]

    def _entries_of(self, found: Rows) -> Iterator[Entry[M]]:
        return self._entries(found.rows, found.start, found.rank, found.data)

    def _entries(self, rows: Sequence[Any], start: int, rank: int, data: Sequence[bytes | None]) -> Iterator[Entry[M]]:
        """Rows as the server gives them: flat, or in pairs (ZRANGE in RESP3). Once per page, so in C where it can be."""
        rules = self._rules
        stored: Iterable[bytes]
        if rows and isinstance(rows[0], list):
            stored, scores = zip(*rows, strict=True)
        else:
            stored, scores = rows[::2], tuple(map(float, rows[1::2]))
        if "t" in rules.layout:
            stored = [member[6:] for member in stored]
        ranks = count_from(rank) if rules.ranking == "ordinal" else _ranks(scores, start, rank, rules.ranking)
        values = [_JSON.decode(value) if value else None for value in data] if data else _NONE
        return map(_new_entry, _ENTRY, zip(ranks, rules.members.decode_all(stored), scores, values, strict=False))

    def _cursor(self, found: Rows) -> str | None:
        if not found.rows or found.start + len(found.rows) // 2 >= found.total:
            return None
        return write_cursor(found.rows[-1], found.rows[-2])

    def __repr__(self) -> str:
        rules = self._rules
        when = "" if self._day is None else f" of {self._day}"
        return f"<{type(self).__name__} {self._keys[0]!r} {self._window}{when}, {rules.order}, {rules.ranking} ranks>"


def _ranks(scores: Sequence[float], start: int, rank: int, ranking: Ranking) -> list[int]:
    """Equal neighbours share a rank; the next one counts rows (standard) or scores (dense)."""
    ranks: list[int] = []
    for at, score in enumerate(scores):
        if at and score != scores[at - 1]:
            rank = rank + 1 if ranking == "dense" else start + at + 1
        ranks.append(rank)
    return ranks
