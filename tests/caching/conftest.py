"""Caches on a real server, loaders that count, and a second client that plays another process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.caching import Cache

MakeCache = Callable[..., Cache[Any]]


class Source:
    """What a cache stands before: rows, a counter, and loads that can be held."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.loads = 0
        self.running = 0
        self.most = 0
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    def hold(self) -> None:
        """Loads that have read their row wait for `release`."""
        self.gate.clear()
        self.begun.clear()

    def release(self) -> None:
        self.gate.set()

    def loader(self, key: str) -> Callable[[], Any]:
        async def load() -> Any:
            self.loads += 1
            self.running += 1
            self.most = max(self.most, self.running)
            row = self.rows.get(key)
            self.begun.set()
            try:
                await self.gate.wait()
                if self.error is not None:
                    raise self.error
                return row
            finally:
                self.running -= 1

        return load


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def other_client(redis_url: str) -> AsyncGenerator[Redis, None]:
    """What another process would have: its own lane, its own inbox."""
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def make_cache(redis_client: Redis, namespace: str) -> AsyncGenerator[MakeCache, None]:
    """Caches named "c" that are closed after the test. `client=` for another process."""
    made: list[Cache[Any]] = []

    def make(client: Redis | None = None, name: str = "c", **options: Any) -> Cache[Any]:
        options.setdefault("ttl", 60)
        options.setdefault("deadline", 5)  # a busy machine is no outage
        cache: Cache[Any] = Cache(client or redis_client, name, namespace=namespace, **options)
        made.append(cache)
        return cache

    yield make
    for cache in made:
        await cache.aclose()


@pytest.fixture
def cache(make_cache: MakeCache) -> Cache[Any]:
    return make_cache()


@pytest.fixture
def elsewhere(make_cache: MakeCache, other_client: Redis) -> Cache[Any]:
    """The same cache in another process, as far as the server can tell."""
    return make_cache(other_client)


def value_key(cache: Cache[Any], key: str) -> str:
    """Where the value of `key` is."""
    return cache._keys.of(key).value


@pytest.fixture
def where() -> Callable[[Cache[Any], str], str]:
    return value_key
