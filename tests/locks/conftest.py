"""What the tests of locks share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import PipelinedRedis
from aredis_patterns.locks import Lock

Make = Callable[..., Lock]


@pytest.fixture
async def client(redis_url: str) -> AsyncGenerator[PipelinedRedis, None]:
    """A pipelined client on the shared server."""
    async with PipelinedRedis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
async def other(redis_url: str) -> AsyncGenerator[PipelinedRedis, None]:
    """Another process, as far as locks can tell: connections and inbox of its own."""
    async with PipelinedRedis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture(params=[False, True], ids=["unfair", "fair"])
def fair(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def until(condition: Callable[[], Any], *, within: float = 5.0) -> None:
    """Wait until a condition (or an awaitable one) is true."""
    async with asyncio.timeout(within):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.002)


async def wait_until_queued(redis: Redis, lock: Lock, count: int = 1) -> None:
    """Until so many stand in the queue of the server."""

    async def queued() -> bool:
        return int(await redis.zcard(lock.keys.queue)) >= count

    await until(queued)


@pytest.fixture(name="until")
def _until() -> Any:
    return until


@pytest.fixture
def queued() -> Any:
    return wait_until_queued
