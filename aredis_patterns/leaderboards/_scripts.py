"""One typed function per script of this family: the only callers of `lua/*.lua`."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Final, NamedTuple

from aredis_patterns._core.script import Script
from aredis_patterns.types import Commands, Encodable

__all__ = [
    "Found",
    "Rows",
    "add_hit",
    "find_members",
    "merge_boards",
    "read_rows",
    "read_trend",
    "remove_members",
    "write_plain",
    "write_score",
]

_PACKAGE: Final = "aredis_patterns.leaderboards"
_WRITE_PLAIN: Final = Script.load(_PACKAGE, "write_plain")
_WRITE_SCORE: Final = Script.load(_PACKAGE, "write_score")
_READ_ROWS: Final = Script.load(_PACKAGE, "read_rows")
_FIND_MEMBERS: Final = Script.load(_PACKAGE, "find_members")
_REMOVE_MEMBERS: Final = Script.load(_PACKAGE, "remove_members")
_MERGE_BOARDS: Final = Script.load(_PACKAGE, "merge_boards")
_ADD_HIT: Final = Script.load(_PACKAGE, "add_hit")
_READ_TREND: Final = Script.load(_PACKAGE, "read_trend")


class Rows(NamedTuple):
    """The reply of `read_rows`."""

    total: int
    start: int
    rank: int
    rows: list[bytes]
    data: list[bytes | None]
    matching: int


class Found(NamedTuple):
    """The reply of `find_members`."""

    total: int
    ranks: list[int]
    scores: list[bytes]
    data: list[bytes]


def write_plain(
    commands: Commands,
    *,
    record: str,
    board: str,
    operation: int,
    member: bytes,
    score: float,
    mode: str,
    order: str,
    record_ttl: int,
    deadline: float | None = None,
) -> Coroutine[Any, Any, tuple[int, bytes]]:
    """See lua/write_plain.lua. One round trip. Gives the status and the answer."""
    args = (operation, member, score, mode, order, record_ttl)
    return _WRITE_PLAIN(commands, keys=(record, board), args=args, deadline=deadline)


def write_score(
    commands: Commands,
    *,
    record: str,
    parts: Sequence[str],
    operation: int,
    member: bytes,
    score: float,
    mode: str,
    order: str,
    ranking: str,
    layout: str,
    data: bytes,
    max_size: int,
    channel: str,
    record_ttl: int,
    spans: Sequence[int],
    deadline: float | None = None,
) -> Coroutine[Any, Any, tuple[int, bytes]]:
    """See lua/write_score.lua. One round trip. Gives the status and the answer."""
    return _WRITE_SCORE(
        commands,
        keys=(record, *parts),
        args=(
            *(operation, member, score, mode, order, ranking),
            *(layout, data, max_size, channel, record_ttl),
            *spans,
        ),
        deadline=deadline,
    )


async def read_rows(
    commands: Commands,
    *,
    board: str,
    parts: Sequence[str],
    mode: str,
    order: str,
    ranking: str,
    layout: str,
    count: int,
    where: bytes | float,
    bound: bytes | float = b"",
    deadline: float | None = None,
) -> Rows:
    """See lua/read_rows.lua. One round trip."""
    args = (mode, order, ranking, layout, count, where, bound)
    return Rows(*await _READ_ROWS(commands, keys=(board, *parts), args=args, deadline=deadline))


async def find_members(
    commands: Commands,
    *,
    board: str,
    parts: Sequence[str],
    order: str,
    ranking: str,
    layout: str,
    members: Sequence[bytes],
    chunk: int = 500,
    deadline: float | None = None,
) -> Found:
    """See lua/find_members.lua. One round trip, in several calls when there are many members."""
    keys = (board, *parts)
    chunks: list[tuple[Encodable, ...]] = [
        (order, ranking, layout, *members[at : at + chunk]) for at in range(0, max(1, len(members)), chunk)
    ]
    if len(chunks) == 1:
        return Found(*await _FIND_MEMBERS(commands, keys=keys, args=chunks[0], deadline=deadline))
    replies = await _FIND_MEMBERS.many(commands, [(keys, args) for args in chunks], deadline=deadline)
    found = [Found(*reply) for reply in replies]
    return Found(
        found[-1].total,
        [rank for part in found for rank in part.ranks],
        [score for part in found for score in part.scores],
        [value for part in found for value in part.data],
    )


async def remove_members(
    commands: Commands,
    *,
    board: str,
    parts: Sequence[str],
    order: str,
    layout: str,
    channel: str,
    keep: int = -1,
    most: int = 0,
    members: Sequence[bytes] = (),
    deadline: float | None = None,
) -> tuple[int, int]:
    """See lua/remove_members.lua. One round trip."""
    args: tuple[Encodable, ...] = (order, layout, channel, keep, most, *members)
    removed, excess = await _REMOVE_MEMBERS(commands, keys=(board, *parts), args=args, deadline=deadline)
    return removed, excess


async def merge_boards(
    commands: Commands,
    *,
    board: str,
    parts: Sequence[str],
    order: str,
    layout: str,
    aggregate: str,
    expires: int,
    channel: str,
    sources: Sequence[str | float],
    deadline: float | None = None,
) -> int:
    """See lua/merge_boards.lua. One round trip."""
    args = (order, layout, aggregate, expires, channel, *sources)
    (total,) = await _MERGE_BOARDS(commands, keys=(board, *parts), args=args, deadline=deadline)
    return int(total)


async def add_hit(
    commands: Commands,
    *,
    record: str,
    board: str,
    landmark: str,
    operation: int,
    item: bytes,
    weight: float,
    half_life: int,
    max_size: int,
    ttl: int,
    record_ttl: int,
    deadline: float | None = None,
) -> tuple[float, int]:
    """See lua/add_hit.lua. One round trip."""
    args = (operation, item, weight, half_life, max_size, ttl, record_ttl)
    score, rank = await _ADD_HIT(commands, keys=(record, board, landmark), args=args, deadline=deadline)
    return float(score), rank


async def read_trend(
    commands: Commands,
    *,
    board: str,
    landmark: str,
    half_life: int,
    count: int,
    item: bytes = b"",
    deadline: float | None = None,
) -> tuple[list[bytes], int]:
    """See lua/read_trend.lua. One round trip."""
    rows, rank = await _READ_TREND(commands, keys=(board, landmark), args=(half_life, count, item), deadline=deadline)
    return rows, rank
