"""A board in plain Python: what the scripts must answer, and a way to test ranks without a server.

Slow and obvious on purpose: it sorts everything each time. Members are bytes, as the server orders them.

    model = BoardModel(ranking="dense")
    model.write(b"ada", 10)
    assert model.rows()[0] == (1, b"ada", 10.0)
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from aredis_patterns.exceptions import ScoreRangeError
from aredis_patterns.leaderboards._options import Keep, Order, Ranking, Ties

__all__ = ["BoardModel", "Row", "TrendModel"]


class Row(NamedTuple):
    """One row: rank, member, score."""

    rank: int
    member: bytes
    score: float


class BoardModel:
    """What one window of a board does."""

    def __init__(
        self,
        *,
        order: Order = "desc",
        ranking: Ranking = "ordinal",
        ties: Ties = "lexical",
        keep: Keep = "set",
        max_size: int | None = None,
    ) -> None:
        self.order, self.ranking, self.ties = order, ranking, ties
        self.keep: Keep = keep
        self.max_size = max_size
        self.scores: dict[bytes, float] = {}
        self.data: dict[bytes, object] = {}
        self._arrivals: dict[bytes, int] = {}
        self._arrived = 0

    def rows(self) -> list[Row]:
        """The whole board, best first."""
        down = self.order == "desc"
        members = sorted(self.scores, reverse=down)  # equal scores: in the direction of the board ...
        if self.ties == "first":
            members.sort(key=self._arrivals.__getitem__)  # ... or who came first
        members.sort(key=lambda member: -self.scores[member] if down else self.scores[member])
        scores = [self.scores[member] for member in members]
        distinct = list(dict.fromkeys(scores))
        ranks = {
            "ordinal": range(1, len(members) + 1),
            "standard": [scores.index(score) + 1 for score in scores],
            "dense": [distinct.index(score) + 1 for score in scores],
        }[self.ranking]
        return [Row(*row) for row in zip(ranks, members, scores, strict=True)]

    def rank(self, member: bytes) -> int | None:
        """The rank of a member."""
        return next((row.rank for row in self.rows() if row.member == member), None)

    def write(
        self, member: bytes, score: float, *, add: bool = False, keep: Keep | None = None, data: object = None
    ) -> tuple[int | None, int | None, float, float | None, bool]:
        """The fields of an `Update`: rank, previous rank, score, previous score, applied."""
        old, previous = self.scores.get(member), self.rank(member)
        new = score + (old or 0.0) if add else score
        if add and abs(Fraction(score) + Fraction(old or 0.0)) > 2**53:
            raise ScoreRangeError(f"the score would be {new!r}")
        applied = add or self._takes(keep or self.keep, old, new)
        if applied:
            if old != new:
                self.scores[member] = new
                self._arrived += 1
                self._arrivals[member] = self._arrived
            if data is not None:
                self.data[member] = data
            if self.max_size is not None:
                self.trim(self.max_size)
        return self.rank(member), previous, new if applied else (old or 0.0), old, applied

    def remove(self, member: bytes) -> bool:
        """Whether the member was there."""
        self.data.pop(member, None)
        return self.scores.pop(member, None) is not None

    def trim(self, keep: int) -> int:
        """How many went."""
        gone = self.rows()[keep:]
        for row in gone:
            self.remove(row.member)
        return len(gone)

    def around(self, member: bytes, count: int) -> list[Row]:
        """The member with its neighbours, the window moved inward at the ends."""
        rows = self.rows()
        place = next((at for at, row in enumerate(rows) if row.member == member), None)
        if place is None:
            return []
        first = max(0, min(place - count, len(rows) - (2 * count + 1)))
        return rows[first : first + 2 * count + 1]

    def percentile(self, member: bytes) -> float | None:
        """The share of members who score no better, in percent."""
        if member not in self.scores:
            return None
        own = self.scores[member]
        better = sum(score > own if self.order == "desc" else score < own for score in self.scores.values())
        return 100.0 * (len(self.scores) - better) / len(self.scores)

    def _takes(self, keep: Keep, old: float | None, new: float) -> bool:
        if old is None or keep in ("set", "last"):
            return True
        return new > old if (keep == "best") == (self.order == "desc") else new < old


class TrendModel:
    """What `Trending` counts, from the definition: every hit is kept, and weighed when asked."""

    def __init__(self, half_life_us: int) -> None:
        self.half_life_us = half_life_us
        self.hits: list[tuple[bytes, float, int]] = []

    def hit(self, item: bytes, weight: float, now: int) -> None:
        """One hit at this moment, in microseconds."""
        self.hits.append((item, weight, now))

    def scores(self, now: int) -> dict[bytes, float]:
        """The decayed score of each item."""
        found: dict[bytes, float] = {}
        for item, weight, at in self.hits:
            found[item] = found.get(item, 0.0) + weight * 2.0 ** -((now - at) / self.half_life_us)
        return found
