"""`Estimate`: a count that knows how far off it may be."""

from __future__ import annotations

from typing import Final, Self

__all__ = ["Estimate"]

HLL_ERROR: Final = 0.0081
"""Standard error of Redis' HyperLogLog: 1.04 / sqrt(16384)."""


class Estimate(int):
    """A number of different visitors, from a HyperLogLog. An int, so it can be used as one.

    Two thirds of all estimates are within `error` (0.81 %) of the truth, 95 % between `low` and `high`. Small counts are
    nearly exact. Differences and intersections of estimates have no useful error bound, so there is no method for them:
    use `ActivityTracker`, which is exact.
    """

    error: Final = HLL_ERROR

    def __new__(cls, count: int) -> Self:
        return super().__new__(cls, count)

    @property
    def low(self) -> int:
        """The lower end of the 95 % interval."""
        return round(int(self) / (1 + 2 * self.error))

    @property
    def high(self) -> int:
        """The upper end of the 95 % interval."""
        return round(int(self) / (1 - 2 * self.error))

    def __repr__(self) -> str:
        return f"<Estimate {int(self)}, 95 % between {self.low} and {self.high}>"

    def __str__(self) -> str:
        return str(int(self))
