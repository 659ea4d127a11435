"""`FixedWindowLimiter`: one counter per window."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, Unpack

from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._limiter import Limiter
from aredis_patterns.ratelimit._models import FixedWindowModel, LimiterModel
from aredis_patterns.ratelimit._outcomes import LimiterOptions
from aredis_patterns.ratelimit._scripts import Numbers
from aredis_patterns.types import RedisClient

__all__ = ["FixedWindowLimiter", "WindowStart", "refuse_burst"]

WindowStart: TypeAlias = Literal["first-hit", "clock"]


class FixedWindowLimiter(Limiter):
    """At most `amount` units in each window.

    Guarantee: no window holds more than the limit, whatever the number of processes. Worst case in a trailing window:
    twice the limit, around the edge of two windows; `SlidingWindowLogLimiter` is exact there,
    `SlidingWindowCounterLimiter` nearly so, `TokenBucketLimiter` smoother. Cost: one round trip, one short string per key
    (about 100 bytes), gone when its window ends. Complexity O(1).

    `start="first-hit"`: a window begins with the first request of its key, which spreads the ends of windows.
    `start="clock"`: windows begin with the period on the server's clock (UTC), for calendar quotas: per minute at :00,
    per day at midnight.

        limiter = FixedWindowLimiter(redis, "100/minute")
        result = await limiter.hit("user:1")

    Other arguments, verbs and errors: `Limiter`.
    """

    _algorithm = "fixed"

    def __init__(
        self,
        client: RedisClient,
        limit: Limit | str,
        *,
        start: WindowStart = "first-hit",
        **options: Unpack[LimiterOptions],
    ) -> None:
        if start not in ("first-hit", "clock"):
            raise ValueError(f'start is "first-hit" or "clock", got {start!r}')
        self.start: Final[WindowStart] = start
        super().__init__(client, limit, **options)

    def _check(self, limit: Limit) -> None:
        refuse_burst(limit)

    def _numbers(self, limit: Limit) -> Numbers:
        return Numbers("fixed", limit.amount, limit.period_us, int(self.start == "clock"))

    def _model(self, limit: Limit) -> LimiterModel:
        return FixedWindowModel(limit, aligned=self.start == "clock")


def refuse_burst(limit: Limit) -> None:
    """A burst would be ignored without a word: windows have none."""
    if limit.burst is not None:
        raise ValueError(f"a window has no burst, got {str(limit)!r}: leave it out, or use TokenBucketLimiter")
