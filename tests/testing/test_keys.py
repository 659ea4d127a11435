"""`no_leaked_keys` finds what was left, and only that."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from aredis_patterns.testing import no_leaked_keys


@pytest.fixture
async def client(redis_url: str, client_options: dict[str, Any]) -> AsyncGenerator[Any, None]:
    async with Redis.from_url(redis_url, **client_options) as client:
        yield client


async def test_nothing_left(client: Any, namespace: str) -> None:
    await client.set(f"{namespace}:before", 1)
    await client.set(f"other{namespace}", 1, px=5_000)
    async with no_leaked_keys(client, namespace):
        await client.set(f"{namespace}:a", 1)
        await client.set(f"{namespace}:before", 2)
        await client.delete(f"{namespace}:a")


async def leave(client: Any, namespace: str, *keys: str, ex: int | None = None, allow_ttl: bool = False) -> None:
    async with no_leaked_keys(client, namespace, allow_ttl=allow_ttl):
        await client.set(f"{namespace}<ttl>", 1, ex=100)
        for key in keys:
            await client.set(f"{namespace}{key}", 1, ex=ex)


async def test_keys_left(client: Any, namespace: str) -> None:
    with pytest.raises(AssertionError, match=r"(?s)keys left behind.*:a \(no TTL\).*<ttl> \([0-9.]+ s to live\)"):
        await leave(client, namespace, ":a")


async def test_keys_that_expire_may_be_allowed(client: Any, namespace: str) -> None:
    await leave(client, namespace, allow_ttl=True)
    with pytest.raises(AssertionError, match="without a TTL") as failure:
        await leave(client, namespace, ":a", allow_ttl=True)
    assert "<ttl>" not in str(failure.value)


async def test_a_namespace_is_not_a_pattern(client: Any, namespace: str) -> None:
    strange = f"{namespace}[a]*"
    async with no_leaked_keys(client, strange):
        await client.set(f"{namespace}a", 1)
    with pytest.raises(AssertionError):
        await leave(client, strange)


async def test_an_error_of_the_block_goes_first(client: Any, namespace: str) -> None:
    with pytest.raises(ResponseError, match="invalid expire"):
        await leave(client, namespace, ":a", ex=-1)
