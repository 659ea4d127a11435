"""Trackers and counters of one test."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.analytics import ActivityTracker, UniqueCounter


@pytest.fixture
def tracker(redis_client: Redis, namespace: str) -> ActivityTracker:
    return ActivityTracker(redis_client, "shop", retention=timedelta(days=400), namespace=namespace, deadline=10)


@pytest.fixture
def counter(redis_client: Redis, namespace: str) -> UniqueCounter:
    return UniqueCounter(redis_client, "site", retention=timedelta(days=40), namespace=namespace, deadline=10)


@pytest.fixture
def keys(redis_client: Redis, namespace: str) -> Callable[[], Any]:
    """`await keys()`: what is stored, and each key's TTL in ms."""

    async def found() -> dict[str, int]:
        names = [key async for key in redis_client.scan_iter(match=f"{namespace}*", count=1000)]
        return {name.decode().removeprefix(namespace): await redis_client.pttl(name) for name in names}

    return found
