"""Rate limiting: how much of what may happen in how long, decided by the server in one round trip."""

from aredis_patterns.ratelimit._concurrency import ConcurrencyLimiter
from aredis_patterns.ratelimit._fixed_window import FixedWindowLimiter
from aredis_patterns.ratelimit._gcra import GCRALimiter
from aredis_patterns.ratelimit._leaky_bucket import LeakyBucketLimiter
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._limiter import Limiter
from aredis_patterns.ratelimit._multi import MultiLimiter
from aredis_patterns.ratelimit._outcomes import LimiterOptions, LimiterStatistics
from aredis_patterns.ratelimit._reservation import Reservation
from aredis_patterns.ratelimit._result import RateLimitResult
from aredis_patterns.ratelimit._sliding_window_counter import SlidingWindowCounterLimiter
from aredis_patterns.ratelimit._sliding_window_log import SlidingWindowLogLimiter
from aredis_patterns.ratelimit._token_bucket import TokenBucketLimiter

__all__ = [
    "ConcurrencyLimiter",
    "FixedWindowLimiter",
    "GCRALimiter",
    "LeakyBucketLimiter",
    "Limit",
    "Limiter",
    "LimiterOptions",
    "LimiterStatistics",
    "MultiLimiter",
    "RateLimitResult",
    "Reservation",
    "SlidingWindowCounterLimiter",
    "SlidingWindowLogLimiter",
    "TokenBucketLimiter",
]
