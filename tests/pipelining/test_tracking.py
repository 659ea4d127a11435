"""What the server says about changed keys, and when it may be trusted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.pipelining import Tracking
from aredis_patterns.testing import FaultProxy


class Heard:
    """What was told, in order."""

    def __init__(self) -> None:
        self.keys: list[list[bytes] | None] = []
        self.live: list[bool] = []

    def tracking(self, client: Redis, *prefixes: str, heartbeat: float = 0.2) -> Tracking:
        def changed(keys: Any) -> None:
            self.keys.append(None if keys is None else list(keys))

        return Tracking(client, prefixes, changed, self.live.append, heartbeat=heartbeat)


async def until(condition: Callable[[], object], within: float = 3.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture
def heard() -> Heard:
    return Heard()


async def test_changes_below_the_prefixes_are_told(
    redis_url: str, redis_client: Redis, namespace: str, heard: Heard, client_options: dict[str, Any]
) -> None:
    async with Redis.from_url(redis_url, **client_options) as client:
        tracking = heard.tracking(client, f"{namespace}:a:", f"{namespace}:b")
        assert await tracking.confirmed(3) and tracking.live and "live" in repr(tracking)
        await redis_client.set(f"{namespace}:a:1", 1, px=30)
        await redis_client.set(f"{namespace}:c", 1)
        await redis_client.set(f"{namespace}:b", 1)
        await until(lambda: [f"{namespace}:b".encode()] in heard.keys)
        assert [f"{namespace}:a:1".encode()] in heard.keys
        assert [f"{namespace}:c".encode()] not in heard.keys
        before = len(heard.keys)
        await until(lambda: len(heard.keys) > before)
        assert heard.keys[-1] == [f"{namespace}:a:1".encode()], "it has expired"
        await tracking.close()
        assert heard.live == [True, False]


async def test_a_flush_is_told_as_everything(own_client: Redis, heard: Heard) -> None:
    tracking = heard.tracking(own_client, "x:")
    assert await tracking.confirmed(3)
    await own_client.flushdb()
    await until(lambda: None in heard.keys)
    await tracking.close()


async def test_a_lost_or_silent_connection_is_doubted_at_once_and_confirmed_again(redis_url: str, heard: Heard) -> None:
    async with FaultProxy(redis_url) as proxy, Redis.from_url(proxy.url) as client:
        tracking = heard.tracking(client, "x:")
        assert await tracking.confirmed(3)
        proxy.kill_connections()
        await until(lambda: not tracking.live)
        assert await tracking.confirmed(3)
        silent = proxy.swallow_commands("PING", times=1)
        await silent.until_applied()
        await until(lambda: not tracking.live)
        assert await tracking.confirmed(5)
        assert heard.live == [True, False, True, False, True]
        await tracking.close()


async def test_a_server_that_is_not_there_is_tried_again(redis_url: str, heard: Heard) -> None:
    async with FaultProxy(redis_url) as proxy, Redis.from_url(proxy.url) as client:
        proxy.refuse_connections()
        tracking = heard.tracking(client, "x:")
        assert not await tracking.confirmed(0.3)
        assert "not live" in repr(tracking)
        proxy.restore()
        assert await tracking.confirmed(5)
        await tracking.close()
