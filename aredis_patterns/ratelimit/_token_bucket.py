"""`TokenBucketLimiter`: a bucket of tokens that refills all the time."""

from __future__ import annotations

from aredis_patterns.ratelimit._flow import check_flow, flow_of
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._limiter import Limiter
from aredis_patterns.ratelimit._models import LimiterModel
from aredis_patterns.ratelimit._models_flow import TokenBucketModel
from aredis_patterns.ratelimit._scripts import Numbers

__all__ = ["TokenBucketLimiter"]


class TokenBucketLimiter(Limiter):
    """A bucket of `burst` tokens (without one: `amount`) into which `amount` tokens flow per period, evenly.

    Guarantee: in any time t at most burst + amount * t / period units pass; with the burst left at `amount`, that is
    twice the limit in the worst trailing window, so choose a burst to bound it. Nothing is rounded: neither rate nor
    wait. Cost: one round trip, one short string per key (about 100 bytes), gone when the bucket is full again.
    Complexity O(1). When the limit changes the tokens stay: a lower burst cuts them off, a higher one fills with time.
    Prefer `SlidingWindowLogLimiter` where no period may ever see more than the limit.

        limiter = TokenBucketLimiter(redis, "100/minute burst 20")
        result = await limiter.hit("user:1", cost=3)

    A bucket that would take more than ten years to fill is a ValueError. Other arguments, verbs and errors: `Limiter`.
    """

    _algorithm = "bucket"
    _any_period = True

    def _check(self, limit: Limit) -> None:
        check_flow(limit)

    def _numbers(self, limit: Limit) -> Numbers:
        return Numbers("bucket", limit.capacity, *flow_of(limit))

    def _model(self, limit: Limit) -> LimiterModel:
        return TokenBucketModel(limit)
