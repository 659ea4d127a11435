"""Rate limiting: how much of what may happen in how long, decided by the server in one round trip."""

from aredis_patterns.ratelimit._fixed_window import FixedWindowLimiter
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._limiter import Limiter, LimiterStatistics
from aredis_patterns.ratelimit._result import RateLimitResult
from aredis_patterns.ratelimit._sliding_window_log import SlidingWindowLogLimiter
from aredis_patterns.ratelimit._token_bucket import TokenBucketLimiter

__all__ = [
    "FixedWindowLimiter",
    "Limit",
    "Limiter",
    "LimiterStatistics",
    "RateLimitResult",
    "SlidingWindowLogLimiter",
    "TokenBucketLimiter",
]
