"""A rate in integers, for the algorithms in which units flow all the time."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from aredis_patterns._core.durations import LONGEST
from aredis_patterns.ratelimit._limit import Limit

__all__ = ["Flow", "check_flow", "flow_of"]

_EXACT: Final = 2**52
"""A full bucket in parts of a token. Half of what a double holds exactly, so that one refill fits on top."""


class Flow(NamedTuple):
    """A flow in integers: `rate` parts per microsecond, `scale` parts in a unit."""

    scale: int
    rate: int


@lru_cache(maxsize=1024)
def flow_of(limit: Limit) -> Flow:
    """The flow of a limit in lowest terms.

    Exact, unless a full bucket then had more parts than a double counts: the rate next to it is off by less than one
    part in four million.
    """
    rate = Fraction(limit.amount, limit.period_us).limit_denominator(_EXACT // limit.capacity)
    return Flow(rate.denominator, rate.numerator)


def check_flow(limit: Limit) -> None:
    """ValueError for a bucket that would take more than ten years to fill."""
    if limit.capacity * limit.period > LONGEST.total_seconds() * limit.amount:
        raise ValueError(f"a bucket must refill within ten years, got {str(limit)!r}")
