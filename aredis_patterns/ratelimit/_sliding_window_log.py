"""`SlidingWindowLogLimiter`: every allowed request is remembered for one window."""

from __future__ import annotations

from aredis_patterns.ratelimit._fixed_window import refuse_burst
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._limiter import Limiter
from aredis_patterns.ratelimit._models import LimiterModel, SlidingWindowLogModel
from aredis_patterns.ratelimit._scripts import Numbers

__all__ = ["SlidingWindowLogLimiter"]


class SlidingWindowLogLimiter(Limiter):
    """At most `amount` units in any period whatever, to the microsecond.

    Guarantee: exact; the worst case in a trailing window is the limit. Refused requests are not remembered, so a client
    that keeps trying gets its first unit back as early as one that waits. Cost: one round trip; one entry per allowed
    request in the last period, whatever it cost (roughly 20 bytes each up to 128 requests, 100 bytes beyond), gone one
    period after the last. Complexity O(log n) in those entries. Weakness: that memory; above a few thousand requests
    per period and key prefer `SlidingWindowCounterLimiter`.

        limiter = SlidingWindowLogLimiter(redis, Limit.per_minute(30))
        result = await limiter.hit("user:1", cost=5)

    Arguments, verbs and errors: `Limiter`.
    """

    _algorithm = "log"

    def _check(self, limit: Limit) -> None:
        refuse_burst(limit)

    def _numbers(self, limit: Limit) -> Numbers:
        return Numbers("log", limit.amount, limit.period_us, 0)

    def _model(self, limit: Limit) -> LimiterModel:
        return SlidingWindowLogModel(limit)
