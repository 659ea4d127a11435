"""`SlidingWindowCounterLimiter`: two counters stand for a window that slides."""

from __future__ import annotations

from aredis_patterns.ratelimit._fixed_window import refuse_burst
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._limiter import Limiter
from aredis_patterns.ratelimit._models import LimiterModel, SlidingWindowCounterModel
from aredis_patterns.ratelimit._scripts import Numbers

__all__ = ["SlidingWindowCounterLimiter"]


class SlidingWindowCounterLimiter(Limiter):
    """About `amount` units in any period, for the memory of one counter.

    Counts per window of the server's clock, and takes the window before with the share of it that is still within one
    period: as if its requests had come evenly. Guarantee: no window of the clock holds more than the limit, and where
    requests do come evenly, no other window does. Worst case in a trailing window: less than twice the limit, when all
    came in the last moment of one window. Cost: one round trip, one short string per key (about 100 bytes), gone two
    periods after the last request. Complexity O(1). `retry_after` is exact. Prefer `SlidingWindowLogLimiter` where the
    limit must never be passed, `TokenBucketLimiter` where a burst is welcome.

        limiter = SlidingWindowCounterLimiter(redis, "10000/hour")
        result = await limiter.hit("user:1")

    Arguments, verbs and errors: `Limiter`.
    """

    _algorithm = "counter"

    def _check(self, limit: Limit) -> None:
        refuse_burst(limit)

    def _numbers(self, limit: Limit) -> Numbers:
        return Numbers("counter", limit.amount, limit.period_us, 0)

    def _model(self, limit: Limit) -> LimiterModel:
        return SlidingWindowCounterModel(limit)
