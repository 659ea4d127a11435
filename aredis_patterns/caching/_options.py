"""The options of a cache as a type, for those who hand them on."""

from __future__ import annotations

from typing import Any, TypedDict

from aredis_patterns._core.codecs import Codec
from aredis_patterns.caching._near import NearCache
from aredis_patterns.caching._policy import OnAbandon, OnError
from aredis_patterns.types import Seconds

__all__ = ["CacheOptions"]


class CacheOptions(TypedDict, total=False):
    """What `Cache` takes besides client, name, ttl and model; the meaning is that of `Cache`."""

    codec: Codec[Any] | None
    stale_ttl: Seconds
    refresh_at: float | None
    early_refresh: float | None
    negative_ttl: Seconds | None
    jitter: float
    load_timeout: Seconds | None
    soft_timeout: Seconds
    throttle: Seconds
    error_ttl: Seconds
    lease: Seconds
    deadline: Seconds
    on_error: OnError
    on_abandon: OnAbandon
    max_concurrent_loads: int | None
    near: NearCache | None
    compress_above: int | None
    replay_invalidations: int
    shards: int
    namespace: str
