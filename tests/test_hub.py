"""`Patterns`: who made it closes it; every URL that it takes; the errors that a user meets."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from aredis_patterns import (
    Patterns,
    PipelinedRedis,
    ReadOnlyServer,
    ScriptsDenied,
    ServerOutOfMemory,
    ServerTooOld,
    WrongPassword,
)
from aredis_patterns.embedded import EmbeddedServer


async def test_embedded() -> None:
    async with Patterns.from_url("embedded://", namespace="app") as p:
        assert await p.ping() < 1
        assert (await p.server_name()).startswith("Valkey")
        assert isinstance(p.client, PipelinedRedis)
        assert await p.rate_limiter("1/hour").hit("u")
        assert [key async for key in p.client.scan_iter()] == [b"ap:x"] or await p.client.dbsize() == 1
        assert all(key.startswith(b"app:") for key in await p.client.keys())
    with pytest.raises(RuntimeError, match="async with"):
        _ = p.client


async def test_a_client_of_the_users_is_not_closed(redis_url: str, namespace: str) -> None:
    async with Redis.from_url(redis_url) as client:
        async with Patterns(client, namespace=namespace) as p:
            assert await p.rate_limiter("1/hour", algorithm="fixed_window", deadline=5).hit("u")
            assert p.statistics().open
        assert not p.statistics().open
        assert await client.ping()
        assert p.client is client


@pytest.mark.parametrize("url", ["http://x", "localhost:6379", ""])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="unknown scheme"):
        Patterns.from_url(url)


def test_an_empty_namespace_is_refused() -> None:
    with pytest.raises(ValueError, match="namespace"):
        Patterns(Redis(), namespace="")


async def test_wrong_password(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.config_set("requirepass", "right")
    async with Patterns.from_url(own_server.url, password="hunter-7") as p:
        with pytest.raises(WrongPassword) as caught:
            await p.ping()
        assert "hunter" not in str(caught.value)


async def test_a_replica_says_so(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.replicaof("127.0.0.1", 1)
    async with Patterns.from_url(own_server.url) as p:
        with pytest.raises(ReadOnlyServer, match="replica|primary"):
            await p.rate_limiter("1/hour", deadline=5).hit("u")


async def test_a_full_server_says_so(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.config_set("maxmemory", 1)
    async with Patterns.from_url(own_server.url) as p:
        with pytest.raises(ServerOutOfMemory, match="maxmemory"):
            await p.rate_limiter("1/hour", deadline=5).hit("u")


async def test_scripts_that_are_switched_off() -> None:
    async with (
        EmbeddedServer(config={"rename-command": ["EVALSHA ''", "SCRIPT ''"]}) as server,
        Patterns.from_url(server.url) as p,
    ):
        with pytest.raises(ScriptsDenied, match="EVALSHA"):
            await p.rate_limiter("1/hour", deadline=5).hit("u")


async def test_a_server_that_is_too_old(own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Patterns.from_url(own_server.url) as p:
        await p.client.ping()
        monkeypatch.setattr("aredis_patterns.hub._info", lambda _: {"redis_version": "6.2.14"})
        with pytest.raises(ServerTooOld, match=r"6\.2\.14.*7\.0"):
            await p.ping()
