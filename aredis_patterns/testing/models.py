"""The reference models of the families, for tests that need neither a server nor a clock."""

from __future__ import annotations

from aredis_patterns.ratelimit._models import (
    FixedWindowModel,
    LimiterModel,
    SlidingWindowCounterModel,
    SlidingWindowLogModel,
)
from aredis_patterns.ratelimit._models_flow import (
    ConcurrencyModel,
    GCRAModel,
    LeakyBucketModel,
    LeakyQueueModel,
    TokenBucketModel,
)

__all__ = [
    "ConcurrencyModel",
    "FixedWindowModel",
    "GCRAModel",
    "LeakyBucketModel",
    "LeakyQueueModel",
    "LimiterModel",
    "SlidingWindowCounterModel",
    "SlidingWindowLogModel",
    "TokenBucketModel",
]
