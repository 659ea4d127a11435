"""The words that shape a board."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Literal, TypeAlias, TypedDict

from aredis_patterns.leaderboards._windows import Window
from aredis_patterns.types import Seconds

__all__ = ["BoardOptions", "Keep", "Order", "Ranking", "Ties"]

Order: TypeAlias = Literal["desc", "asc"]
Ranking: TypeAlias = Literal["ordinal", "standard", "dense"]
Ties: TypeAlias = Literal["lexical", "first"]
Keep: TypeAlias = Literal["set", "last", "best", "worst"]
"""Which score stays: the last one written ("set" and "last" are the same), the best, or the worst."""


class BoardOptions(TypedDict, total=False):
    """The keyword arguments of `Leaderboard`, for type checkers. What they mean is said there."""

    order: Order
    ranking: Ranking
    ties: Ties
    keep: Keep
    data: bool
    max_size: int | None
    windows: Sequence[Window]
    tz: tzinfo | str | None
    retention: Seconds
    ttl: Seconds | None
    group: str | None
    live: bool
    namespace: str
    deadline: Seconds
