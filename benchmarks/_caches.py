"""Our cache and its peers behind one call: `await get(key)` gives the value, loading it when it is not there.

Each is set up as its documentation shows, with a pool that does not run dry. `python -m benchmarks._caches <peer> <url>`
is one process of the cold-load question.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis

from aredis_patterns import Cache, NearCache, PipelinedRedis

Get = Callable[[str], Awaitable[Any]]
Load = Callable[[], Awaitable[dict[str, Any]]]

TTL = 3600
ROW: dict[str, Any] = {
    "id": 4711,
    "name": "Ada Lovelace",
    "email": "ada@example.org",
    "active": True,
    "roles": ["reader", "writer", "admin"],
    "addresses": [{"street": f"{number} Analytical Way", "city": "London", "zip": f"W{number}"} for number in range(5)],
    "biography": "x" * 540,
}


class Address(msgspec.Struct, frozen=True):
    street: str
    city: str
    zip: str


class User(msgspec.Struct, frozen=True):
    """The same row, typed and immutable."""

    id: int
    name: str
    email: str
    active: bool
    roles: tuple[str, ...]
    addresses: tuple[Address, ...]
    biography: str


async def ours(url: str, stack: AsyncExitStack, load: Load) -> Get:
    redis = await stack.enter_async_context(PipelinedRedis.from_url(url))
    cache: Cache[Any] = await stack.enter_async_context(Cache(redis, "bench", ttl=TTL))
    return lambda key: cache.get_or_load(key, load)


async def ours_typed(url: str, stack: AsyncExitStack, load: Load) -> Get:
    redis = await stack.enter_async_context(PipelinedRedis.from_url(url))
    cache = await stack.enter_async_context(Cache(redis, "typed", ttl=TTL, model=User))

    async def load_user() -> User:
        return msgspec.convert(await load(), User)

    return lambda key: cache.get_or_load(key, load_user)


async def ours_near(url: str, stack: AsyncExitStack, load: Load) -> Get:
    redis = await stack.enter_async_context(PipelinedRedis.from_url(url))
    near = NearCache(ttl_cap=600)
    cache = await stack.enter_async_context(Cache(redis, "near", ttl=TTL, model=User, near=near))

    async def load_user() -> User:
        return msgspec.convert(await load(), User)

    return lambda key: cache.get_or_load(key, load_user)


def pool(url: str) -> Any:
    return BlockingConnectionPool.from_url(url, max_connections=50, timeout=None)


async def by_hand(url: str, stack: AsyncExitStack, load: Load) -> Get:
    """The article's cache-aside."""
    redis = await stack.enter_async_context(Redis.from_pool(pool(url)))

    async def get(key: str) -> Any:
        stored = await redis.get(f"hand:{key}")
        if stored is not None:
            return json.loads(stored)
        value = await load()
        await redis.set(f"hand:{key}", json.dumps(value), ex=TTL)
        return value

    return get


async def cashews(url: str, stack: AsyncExitStack, load: Load, *, lock: bool = False) -> Get:
    import cashews as library

    cache = library.Cache()
    cache.setup(url, max_connections=50, wait_for_connection_timeout=60)
    stack.push_async_callback(cache.close)

    @cache(ttl=TTL, key="cashews:{key}", lock=lock)
    async def get(key: str) -> Any:
        return await load()

    return get


async def aiocache(url: str, stack: AsyncExitStack, load: Load) -> Get:
    from aiocache import RedisCache, cached_stampede
    from aiocache.serializers import JsonSerializer

    place = urlsplit(url)

    @cached_stampede(
        lease=5,
        ttl=TTL,
        key_builder=lambda function, key: f"aiocache:{key}",
        cache=RedisCache,
        serializer=JsonSerializer(),
        endpoint=place.hostname,
        port=place.port,
        pool_max_size=2000,  # it has no pool that waits
    )
    async def get(key: str) -> Any:
        return await load()

    stack.push_async_callback(get.cache.close)
    return get


async def fastapi_cache(url: str, stack: AsyncExitStack, load: Load) -> Get:
    from fastapi_cache import FastAPICache
    from fastapi_cache.backends.redis import RedisBackend
    from fastapi_cache.decorator import cache

    redis = await stack.enter_async_context(Redis.from_pool(pool(url)))
    FastAPICache.reset()
    FastAPICache.init(RedisBackend(redis), prefix="fastapi-cache")

    @cache(expire=TTL, key_builder=lambda function, namespace="", *, args, **_: f"fastapi-cache:{args[0]}")
    async def get(key: str) -> dict[str, Any]:
        return await load()

    return get


PEERS: dict[str, Callable[[str, AsyncExitStack, Load], Awaitable[Get]]] = {
    "cashews": cashews,
    "aiocache": aiocache,
    "fastapi-cache2": fastapi_cache,
    "GET + json by hand": by_hand,
}


async def cold(name: str, url: str, callers: int, seconds: float) -> None:
    """One of several processes that ask for the same cold key together. Prints how often its loader ran."""
    loads = 0

    async def load() -> dict[str, Any]:
        nonlocal loads
        loads += 1
        await asyncio.sleep(seconds)
        return ROW

    async with AsyncExitStack() as stack:
        # Locks are taken for hits as well, so cashews has one only where it matters.
        makers = {**PEERS, "ours": ours, "cashews": functools.partial(cashews, lock=True)}
        get = await makers[name](url, stack, load)
        seconds, wanted = 0.0, seconds
        await get("warm")  # connections, scripts, subscriptions
        seconds, loads = wanted, 0
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        await asyncio.gather(*(get("cold") for _ in range(callers)))
        print(json.dumps({"loads": loads}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(cold(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
