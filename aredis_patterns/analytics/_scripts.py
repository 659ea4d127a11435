"""One typed function per script of this family: the only callers of `lua/*.lua`."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from redis.exceptions import ResponseError

from aredis_patterns._core.script import Script
from aredis_patterns.exceptions import WrongKeyType
from aredis_patterns.types import Commands, Encodable

__all__ = [
    "Status",
    "count_visitors",
    "evaluate_sets",
    "index_ids",
    "mark_active",
    "merge_visitors",
    "of_the_right_type",
    "track_visitor",
]

_PACKAGE: Final = "aredis_patterns.analytics"
_MARK_ACTIVE: Final = Script.load(_PACKAGE, "mark_active")
_EVALUATE_SETS: Final = Script.load(_PACKAGE, "evaluate_sets")
_TRACK_VISITOR: Final = Script.load(_PACKAGE, "track_visitor")
_COUNT_VISITORS: Final = Script.load(_PACKAGE, "count_visitors")
_MERGE_VISITORS: Final = Script.load(_PACKAGE, "merge_visitors")
_INDEX_IDS: Final = Script.load(_PACKAGE, "index_ids")

T = TypeVar("T")


class Status(NamedTuple):
    """0 done, 1 another day, 2 a day that is no longer kept; and a number, mostly the server's time in ms."""

    status: int
    number: int


async def of_the_right_type(reply: Coroutine[Any, Any, T], *keys: str) -> T:
    """The reply; WRONGTYPE becomes an error that names the keys."""
    try:
        return await reply
    except ResponseError as error:
        named = _named(error, keys)
        if named is error:
            raise
        raise named from error


def _named(error: ResponseError, keys: tuple[str, ...]) -> ResponseError:
    # The code stands in front, also when a script has met the wrong type.
    return WrongKeyType(keys, str(error)) if "WRONGTYPE" in str(error) else error


async def mark_active(
    commands: Commands,
    *,
    day: str,
    value: int,
    opens: int,
    closes: int,
    expires: int,
    ids: Sequence[int],
    deadline: float | None = None,
) -> Status:
    """See lua/mark_active.lua. One round trip."""
    args = (value, opens, closes, expires, *ids)
    return Status(*await of_the_right_type(_MARK_ACTIVE(commands, keys=(day,), args=args, deadline=deadline), day))


async def evaluate_sets(
    commands: Commands,
    *,
    registers: Sequence[str],
    sets: int,
    program: str,
    deadline: float | None = None,
) -> list[int]:
    """See lua/evaluate_sets.lua. One round trip."""
    call = _EVALUATE_SETS(commands, keys=registers, args=(sets, program), deadline=deadline)
    (counts,) = await of_the_right_type(call, *registers[:sets])
    return list(counts)


async def track_visitor(
    commands: Commands,
    *,
    day: str,
    unions: Sequence[str],
    opens: int,
    closes: int,
    expires: int,
    visitors: Sequence[bytes],
    deadline: float | None = None,
) -> Status:
    """See lua/track_visitor.lua. One round trip."""
    args: tuple[Encodable, ...] = (opens, closes, expires, *visitors)
    call = _TRACK_VISITOR(commands, keys=(day, *unions), args=args, deadline=deadline)
    return Status(*await of_the_right_type(call, day))


async def count_visitors(
    commands: Commands,
    *,
    union: str,
    today: str,
    closed: Sequence[str],
    opens: int,
    closes: int,
    deadline: float | None = None,
) -> Status:
    """See lua/count_visitors.lua. One round trip."""
    call = _COUNT_VISITORS(commands, keys=(union, today, *closed), args=(opens, closes), deadline=deadline)
    return Status(*await of_the_right_type(call, today, *closed))


async def merge_visitors(
    commands: Commands,
    *,
    day: str,
    others: Sequence[str],
    sources: int,
    expires: int,
    deadline: float | None = None,
) -> int:
    """See lua/merge_visitors.lua. One round trip."""
    call = _MERGE_VISITORS(commands, keys=(day, *others), args=(sources, expires), deadline=deadline)
    (count,) = await of_the_right_type(call, day, *others[:sources])
    return int(count)


async def index_ids(
    commands: Commands,
    *,
    index: str,
    names: Sequence[str],
    create: bool,
    max_id: int,
    wanted: Sequence[bytes],
    deadline: float | None = None,
) -> tuple[int, list[int]]:
    """See lua/index_ids.lua. One round trip."""
    args: tuple[Encodable, ...] = (int(create), max_id, *wanted)
    status, ids = await _INDEX_IDS(commands, keys=(index, *names), args=args, deadline=deadline)
    return status, ids
