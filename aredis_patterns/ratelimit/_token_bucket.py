"""`TokenBucketLimiter`: a bucket of tokens that refills all the time."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from aredis_patterns._core.durations import LONGEST
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._limiter import Limiter
from aredis_patterns.ratelimit._result import Decision
from aredis_patterns.ratelimit._scripts import token_bucket_hit

__all__ = ["Flow", "TokenBucketLimiter", "flow_of"]

_EXACT: Final = 2**52
"""A full bucket in parts of a token. Half of what a double holds exactly, so that one refill fits on top."""


class Flow(NamedTuple):
    """A refill in integers: `rate` parts per microsecond, `scale` parts in a token."""

    scale: int
    rate: int


class TokenBucketLimiter(Limiter):
    """A bucket of `burst` tokens (without one: `amount`) into which `amount` tokens flow per period, evenly.

    Guarantee: in any time t at most burst + amount * t / period units pass; with the burst left at `amount`, that is
    twice the limit in the worst period, so choose a burst to bound it. Nothing is rounded: neither rate nor wait. Cost:
    one round trip, one short string per key (about 100 bytes), gone when the bucket is full again. Complexity O(1).
    Prefer `SlidingWindowLogLimiter` where no period may ever see more than the limit.

        limiter = TokenBucketLimiter(redis, "100/minute burst 20")
        result = await limiter.hit("user:1", cost=3)

    A bucket that would take more than ten years to fill is a ValueError. Other arguments, verbs and errors: `Limiter`.
    """

    _algorithm = "bucket"
    _any_period = True

    def _check(self, limit: Limit) -> None:
        if limit.capacity * limit.period > LONGEST.total_seconds() * limit.amount:
            raise ValueError(f"a bucket must refill within ten years, got {str(limit)!r}")

    async def _decide(self, key: str, cost: int, limit: Limit, *, charge: bool) -> Decision:
        flow = flow_of(limit)
        return await token_bucket_hit(
            self._commands,
            bucket=key,
            capacity=limit.capacity,
            scale=flow.scale,
            rate=flow.rate,
            cost=cost,
            charge=charge,
            deadline=self._deadline,
        )


@lru_cache(maxsize=1024)
def flow_of(limit: Limit) -> Flow:
    """The flow of a limit in lowest terms.

    Exact, unless a full bucket then had more parts than a double counts: the rate next to it is off by less than one
    part in four million.
    """
    rate = Fraction(limit.amount, limit.period_us).limit_denominator(_EXACT // limit.capacity)
    return Flow(rate.denominator, rate.numerator)
