"""Both engines run every behavioural test of the lane."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from aredis_patterns.pipelining import PipelinedRedis

SLOW = "local x = 0 for i = 1, ARGV[1] do x = x + i end return 1"
"""A script that holds the server: 3e7 turns take some 200 ms. (TIME stands still inside a script, so it cannot be a clock.)"""


@pytest.fixture(params=[True, False], ids=["transport", "stream"])
def fast(request: pytest.FixtureRequest) -> bool:
    """The engine: our own protocol on the transport, or redis-py's public methods."""
    return bool(request.param)


@pytest.fixture
async def redis(redis_url: str, fast: bool) -> AsyncGenerator[PipelinedRedis, None]:
    """A pipelined client on the shared server."""
    async with PipelinedRedis.from_url(redis_url) as client:
        client.lane_options["fast"] = fast
        yield client
