"""What the whole suite shares.

`redis_server`, `redis_url`, `redis_client`, `namespace` and `fault_proxy` come from our own plugin
(`aredis_patterns.testing.plugin`); here is what only our tests need.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.embedded import EmbeddedServer


@pytest.fixture
async def own_server() -> AsyncGenerator[EmbeddedServer, None]:
    """A server of this test alone, for tests that kill, pause, reconfigure or empty it."""
    async with EmbeddedServer(config={"enable-debug-command": "yes"}) as server:
        yield server


@pytest.fixture
async def own_client(own_server: EmbeddedServer) -> AsyncGenerator[Redis, None]:
    """A stock client of `own_server`."""
    async with Redis.from_url(own_server.url) as client:
        yield client


@pytest.fixture(
    params=[
        pytest.param({"protocol": protocol, "decode_responses": decode}, id=f"resp{protocol}-{kind}")
        for protocol in (2, 3)
        for decode, kind in ((False, "bytes"), (True, "text"))
    ]
)
def client_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Keyword arguments for a client, in turn: RESP2 and RESP3, bytes and text."""
    return dict(request.param)
