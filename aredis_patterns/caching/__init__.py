"""Caching: one load per key in the whole fleet, and nothing that was loaded before an invalidation is ever handed out
after it."""

from aredis_patterns.caching._cache import Cache
from aredis_patterns.caching._decorator import CachedFunction
from aredis_patterns.caching._expiration import Expiration, ExpireWhen, TimedValue
from aredis_patterns.caching._near import NearCache
from aredis_patterns.caching._options import CacheOptions
from aredis_patterns.caching._result import MISSING, CacheResult, CacheStatistics, Loaded, Missing, RawResult
from aredis_patterns.caching._write import WriteBracket

__all__ = [
    "MISSING",
    "Cache",
    "CacheOptions",
    "CacheResult",
    "CacheStatistics",
    "CachedFunction",
    "Expiration",
    "ExpireWhen",
    "Loaded",
    "Missing",
    "NearCache",
    "RawResult",
    "TimedValue",
    "WriteBracket",
]
