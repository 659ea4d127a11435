"""Caches on a real Cluster of three nodes: one slot, and several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.crc import key_slot

from aredis_patterns import MISSING, Cache, Expiration, PipelinedRedisCluster
from aredis_patterns.testing import LocalCluster


@pytest.fixture
async def cluster(redis_cluster: LocalCluster) -> AsyncGenerator[PipelinedRedisCluster, None]:
    async with PipelinedRedisCluster.from_url(redis_cluster.url) as client:
        yield client
        await client.flushall(target_nodes="primaries")


@pytest.mark.parametrize("shards", [1, 7])
async def test_every_verb(
    cluster: PipelinedRedisCluster, redis_cluster: LocalCluster, shards: int, source: Any
) -> None:
    keys = [str(number) for number in range(40)]
    async with (
        PipelinedRedisCluster.from_url(redis_cluster.url) as other,
        Cache[Any](cluster, "c", ttl=60, shards=shards, deadline=10) as cache,
        Cache[Any](other, "c", ttl=60, shards=shards, deadline=10) as elsewhere,
    ):
        slots = {key_slot(cache._keys.of(key).value.encode()) for key in keys}
        assert (len(slots) == 1) is (shards == 1)

        async def load(missing: list[str]) -> dict[str, str]:
            return {key: key for key in missing}

        assert await cache.get_or_load_many(keys, load, tags=["all"]) == {key: key for key in keys}
        assert await elsewhere.get_many(keys) == {key: key for key in keys}
        await elsewhere.invalidate_tags("all")
        assert await cache.get_many(keys) == {}
        await cache.set_many(dict.fromkeys(keys, "x"))
        assert await elsewhere.delete(*keys) == 40
        await cache.set_many(dict.fromkeys(keys, "x"))
        await elsewhere.clear()
        assert await cache.get("3") is MISSING
        async with cache.write("3") as write:
            write.set("new")
        assert write.committed and await elsewhere.get("3") == "new"
        source.rows["cold"] = "row"
        source.hold()
        callers = [
            asyncio.create_task(each.get_or_load("cold", source.loader("cold"))) for each in (cache, elsewhere) * 10
        ]
        await source.begun.wait()
        await asyncio.sleep(0.05)
        source.release()
        assert await asyncio.gather(*callers) == ["row"] * 20
        assert source.loads == 1


async def test_ttl_helpers(cluster: PipelinedRedisCluster) -> None:
    expiration = Expiration(cluster, deadline=10)
    keys = [f"k{number}" for number in range(20)]
    for key in keys:
        await expiration.set_with_ttl(key, 1, 100)
    assert all(await expiration.expire_many(dict.fromkeys(keys, 50), when="sooner"))
    assert set((await expiration.persist_many(keys)).values()) == {True}
    assert set((await expiration.ttl_many(keys)).values()) == {None}
