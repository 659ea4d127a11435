"""Clients of this family: through the proxy, and two balances."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from redis.asyncio import Redis

from aredis_patterns.pipelining import lane_of
from aredis_patterns.testing import FaultProxy


@pytest.fixture
async def lossy(fault_proxy: FaultProxy) -> AsyncGenerator[Redis, None]:
    """A stock client through the proxy of this test."""
    async with Redis.from_url(fault_proxy.url, socket_timeout=5) as client:
        yield client
        await lane_of(client).aclose()


@pytest.fixture
def alice(namespace: str) -> str:
    return f"{namespace}:{{bank}}:alice"


@pytest.fixture
def bob(namespace: str) -> str:
    return f"{namespace}:{{bank}}:bob"
