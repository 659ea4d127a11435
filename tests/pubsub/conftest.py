"""Clients of every kind, and a subscriber whose reading can be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.pipelining import lane_of
from aredis_patterns.testing import FaultProxy

PATIENCE = 10.0
"""Seconds until a test that waits for something fails."""


@pytest.fixture
async def client(redis_url: str, client_options: dict[str, Any]) -> AsyncGenerator[Redis, None]:
    """RESP2 and RESP3, bytes and text."""
    async with Redis.from_url(redis_url, **client_options) as client:
        yield client
        await lane_of(client).aclose()


@pytest.fixture
async def through_proxy(fault_proxy: FaultProxy) -> AsyncGenerator[Redis, None]:
    """A client whose network can be broken, and that notices silence quickly."""
    async with Redis.from_url(fault_proxy.url) as client:
        client.listener_options = {"heartbeat": 0.1}  # type: ignore[attr-defined]
        yield client
        await lane_of(client).aclose()


async def take(subscription: Any, count: int, *, within: float = PATIENCE) -> list[Any]:
    """The next so many items."""
    async with asyncio.timeout(within):
        return [await anext(subscription) for _ in range(count)]


async def until(condition: Any, *, within: float = PATIENCE) -> None:
    """Wait until something is true that nobody announces."""
    async with asyncio.timeout(within):
        while not (await answer if asyncio.iscoroutine(answer := condition()) else answer):
            await asyncio.sleep(0.005)
