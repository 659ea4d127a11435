"""`GCRALimiter`: the generic cell rate algorithm."""

from __future__ import annotations

from aredis_patterns.ratelimit._flow import check_flow, flow_of
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._limiter import Limiter
from aredis_patterns.ratelimit._models import LimiterModel
from aredis_patterns.ratelimit._models_flow import GCRAModel
from aredis_patterns.ratelimit._scripts import Numbers

__all__ = ["GCRALimiter"]


class GCRALimiter(Limiter):
    """One time per key says everything: when all that was taken will have been paid back.

    Decides as `TokenBucketLimiter` does, to the microsecond; it keeps the theoretical arrival time instead of a level
    (ITU-T I.371). Guarantee: in any time t at most burst + amount * t / period units pass; with the burst left at
    `amount`, twice the limit in the worst trailing window. A fresh key has nothing to store, and neither has one that
    is paid back. Cost: one round trip, one short string per key (about 100 bytes), gone when the burst is whole again.
    Complexity O(1). Prefer `TokenBucketLimiter` when limits change often: a level keeps debts across any change.

        limiter = GCRALimiter(redis, "10/second burst 5")
        result = await limiter.hit("user:1")

    A burst that would take more than ten years is a ValueError. Other arguments, verbs and errors: `Limiter`.
    """

    _algorithm = "gcra"
    _any_period = True

    def _check(self, limit: Limit) -> None:
        check_flow(limit)

    def _numbers(self, limit: Limit) -> Numbers:
        return Numbers("backlog", limit.capacity, *flow_of(limit))

    def _model(self, limit: Limit) -> LimiterModel:
        return GCRAModel(limit)
