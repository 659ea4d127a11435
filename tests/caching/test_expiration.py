"""TTL helpers: conditions, batches, and answers that are no magic numbers."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.caching import MISSING, Expiration


@pytest.fixture
def expiration(redis_client: Redis) -> Expiration:
    return Expiration(redis_client)


async def test_missing_and_endless_are_no_numbers(expiration: Expiration, redis_client: Redis, namespace: str) -> None:
    key = f"{namespace}:k"
    assert await expiration.ttl(key) is MISSING
    assert await expiration.expires_at(key) is MISSING
    assert await expiration.get_with_ttl(key) is MISSING
    assert not await expiration.expire(key, 10)
    assert not await expiration.persist(key)
    assert not await expiration.touch(key)
    await redis_client.set(key, "value")
    assert await expiration.ttl(key) is None
    assert await expiration.expires_at(key) is None
    assert await expiration.get_with_ttl(key) == (b"value", None)
    assert await expiration.touch(key)
    assert not await expiration.persist(key)


async def test_set_and_expire(expiration: Expiration, namespace: str) -> None:
    key = f"{namespace}:k"
    assert not await expiration.set_with_ttl(key, "v", 10, xx=True)
    assert await expiration.set_with_ttl(key, "v", 0.25, nx=True)
    left = await expiration.ttl(key)
    assert isinstance(left, float) and 0 < left <= 0.25
    assert not await expiration.set_with_ttl(key, "v", 10, nx=True)
    assert await expiration.set_with_ttl(key, "v", timedelta(seconds=10), xx=True)
    found = await expiration.get_with_ttl(key)
    assert found is not MISSING and found.value == b"v" and 9 < found.ttl <= 10
    assert await expiration.persist(key)
    assert await expiration.ttl(key) is None


async def test_conditions(expiration: Expiration, redis_client: Redis, namespace: str) -> None:
    key = f"{namespace}:k"
    await redis_client.set(key, 1)
    done = [
        await expiration.expire(key, ttl, when=when)  # type: ignore[arg-type]
        for ttl, when in (
            (10, "has-ttl"),
            (10, "later"),
            (10, "no-ttl"),
            (20, "no-ttl"),
            (5, "later"),
            (20, "later"),
            (30, "sooner"),
            (15, "sooner"),
            (25, "has-ttl"),
        )
    ]
    assert done == [False, False, True, False, False, True, False, True, True]
    with pytest.raises(ValueError, match="when is one of"):
        await expiration.expire(key, 1, when="NX")  # type: ignore[arg-type]


async def test_moments(expiration: Expiration, redis_client: Redis, namespace: str) -> None:
    key = f"{namespace}:k"
    await redis_client.set(key, 1)
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=5)
    assert await expiration.expire_at(key, moment)
    assert await expiration.expires_at(key) == moment
    assert not await expiration.expire_at(key, time.time() + 3600, when="sooner")
    assert await expiration.expire_at(key, time.time() - 1)
    assert await expiration.ttl(key) is MISSING
    for wrong in (datetime.now(), 0, -1, float("nan"), time.time() * 1000):
        with pytest.raises(ValueError, match="moment"):
            await expiration.expire_at(key, wrong)


async def test_many(expiration: Expiration, redis_client: Redis, namespace: str) -> None:
    a, b, c = (f"{namespace}:{name}" for name in "abc")
    await redis_client.mset({a: 1, b: 2})
    assert await expiration.expire_many({a: 10, c: 10}) == {a: True, c: False}
    ttls = await expiration.ttl_many([a, b, c])
    assert ttls[b] is None and ttls[c] is MISSING and 9 < ttls[a] <= 10  # type: ignore[operator]
    assert await expiration.persist_many([a, b, c]) == {a: True, b: False, c: False}


@pytest.mark.parametrize("ttl", [0, -1, float("inf"), None, "10"])
async def test_senseless_ttls_are_refused(expiration: Expiration, ttl: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        await expiration.expire("k", ttl)


async def test_text_clients(redis_url: str, namespace: str, client_options: dict[str, Any]) -> None:
    async with Redis.from_url(redis_url, **client_options) as client:
        expiration = Expiration(client)
        await expiration.set_with_ttl(f"{namespace}:k", "ü", 10)
        found = await expiration.get_with_ttl(f"{namespace}:k")
        assert found is not MISSING and found.value == "ü".encode()
