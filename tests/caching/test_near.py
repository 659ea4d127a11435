"""The near cache: dropped when the server says so, bypassed when it does not, never older than its cap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster

from aredis_patterns.caching import MISSING, Cache, NearCache
from aredis_patterns.testing import FaultProxy, assert_round_trips


@dataclass(frozen=True)
class Frozen:
    name: str


async def eventually(condition: Callable[[], Awaitable[bool]], within: float = 2.0) -> float:
    """Seconds until the condition holds."""
    began = time.monotonic()
    async with asyncio.timeout(within):
        while not await condition():
            await asyncio.sleep(0.001)
    return time.monotonic() - began


@pytest.fixture
async def near(redis_client: Redis, namespace: str) -> AsyncGenerator[Cache[Any], None]:
    options = NearCache(ttl_cap=30, heartbeat=0.2)
    async with Cache[Any](redis_client, "c", ttl=60, namespace=namespace, deadline=5, near=options) as cache:
        assert cache.here().near.live
        yield cache


def copies(cache: Cache[Any]) -> int:
    return len(cache.here().near)


async def warm(cache: Cache[Any], key: str = "k", value: object = "old") -> None:
    """A value that is in the near cache."""
    await cache.set(key, value)

    async def is_near() -> bool:
        assert await cache.get(key) == value
        return copies(cache) > 0

    await eventually(is_near)
    await asyncio.sleep(0.02)  # our own write comes back as a message, too
    await eventually(is_near)


async def test_near_hits_cost_nothing(fault_proxy: FaultProxy, namespace: str) -> None:
    async with (
        Redis.from_url(fault_proxy.url) as client,
        Cache[Any](client, "c", ttl=60, namespace=namespace, deadline=5, near=NearCache(heartbeat=30)) as cache,
    ):
        await warm(cache)

        async def load() -> str:
            raise AssertionError

        async with assert_round_trips(fault_proxy, 0, commands=0):
            for _ in range(10):
                assert await cache.get("k") == "old"
                assert await cache.get_or_load("k", load) == "old"
                assert (await cache.fetch("k", load)).status == "near"
        assert cache.statistics().near_hits >= 30


@pytest.mark.parametrize(
    "how", ["SET", "DEL", "EXPIRE", "PEXPIRE", "FLUSHDB", "put", "invalidate", "tag", "clear", "write"]
)
async def test_what_changes_elsewhere_is_dropped_at_once(
    own_client: Redis, namespace: str, how: str, own_server: Any
) -> None:
    """Foreign commands, expiry, a flush, and the verbs of another process."""
    async with (
        Cache[Any](own_client, "c", ttl=60, namespace=namespace, deadline=5, near=NearCache(ttl_cap=30)) as cache,
        Redis.from_url(own_server.url) as other,
        Cache[Any](other, "c", ttl=60, namespace=namespace, deadline=5) as elsewhere,
    ):
        await cache.set("k", "old", tags=["t"])
        await warm(cache, "k2")
        if how == "tag":
            await cache.set("k", "old", tags=["t"])
        else:
            await warm(cache)

        async def near_now() -> bool:
            assert await cache.get("k") == "old"
            return cache._from_near(cache.here(), cache._keys.of("k")) is not None

        await eventually(near_now)
        key = cache._keys.of("k").value
        expected: object = MISSING
        if how == "SET":
            await other.set(key, b'"new"')
            expected = "new"
        elif how == "DEL":
            await other.delete(key)
        elif how in ("EXPIRE", "PEXPIRE"):
            await other.pexpire(key, 60 if how == "PEXPIRE" else 1)
        elif how == "FLUSHDB":
            await other.flushdb()
        elif how == "put":
            await elsewhere.set("k", "new")
            expected = "new"
        elif how == "invalidate":
            await elsewhere.invalidate("k")
        elif how == "tag":
            await elsewhere.invalidate_tags("t")
        elif how == "clear":
            await elsewhere.clear()
        else:
            async with elsewhere.write("k") as write:
                write.set("new")
            expected = "new"

        async def changed() -> bool:
            return await cache.get("k") == expected

        assert await eventually(changed) < 1.5


async def test_what_is_written_here_is_seen_here_at_once(near: Cache[Any]) -> None:
    await warm(near)
    await near.set("k", "new")
    assert await near.get("k") == "new"
    await near.invalidate("k")
    assert await near.get("k") is MISSING


async def test_a_fill_that_races_a_foreign_write_keeps_nothing_old(redis_url: str, namespace: str) -> None:
    """The read was answered before the write, and its reply arrives after the message about the write."""
    async with FaultProxy(redis_url) as proxy, Redis.from_url(proxy.url) as client, Redis.from_url(redis_url) as other:
        options = NearCache(ttl_cap=30)
        async with Cache[Any](client, "c", ttl=60, namespace=namespace, near=options, deadline=5) as cache:
            await cache.set("k", "old")
            await asyncio.sleep(0.05)
            held = proxy.hold_replies("MGET", times=1)
            reading = asyncio.create_task(cache.get("k"))
            await held.until_applied()
            await other.set(cache._keys.of("k").value, b'"new"')
            await asyncio.sleep(0.05)
            held.release()
            assert await reading == "old"
            assert await cache.get("k") == "new"


async def test_without_its_connection_every_read_goes_to_redis(
    own_client: Redis, own_server: Any, namespace: str
) -> None:
    options = NearCache(ttl_cap=30, heartbeat=0.2)
    async with Cache[Any](own_client, "c", ttl=60, namespace=namespace, deadline=5, near=options) as cache:
        await warm(cache)
        table = cache.here().near
        async with Redis.from_url(own_server.url) as other:
            tracking = [row["id"] for row in await other.client_list() if "t" in row["flags"]]
            assert len(tracking) == 1
            await other.client_kill_filter(_id=tracking[0])
            await other.set(cache._keys.of("k").value, b'"new"')
        async with asyncio.timeout(1):
            while table.live:
                await asyncio.sleep(0.001)
        assert len(table) == 0
        assert await cache.get("k") == "new"

        async def live_again() -> bool:
            return table.live

        await eventually(live_again)
        await warm(cache, value="newer")


async def test_a_silent_connection_is_noticed_and_the_cap_holds_until_then(redis_url: str, namespace: str) -> None:
    """Half-open: nothing arrives any more, and nobody says so."""
    async with FaultProxy(redis_url) as proxy, Redis.from_url(proxy.url) as client, Redis.from_url(redis_url) as other:
        options = NearCache(ttl_cap=0.3, heartbeat=0.5)
        async with Cache[Any](client, "c", ttl=60, namespace=namespace, deadline=5, near=options) as cache:
            await warm(cache)
            swallowed = proxy.swallow_commands("PING", times=1)
            await swallowed.until_applied()
            await other.set(cache._keys.of("k").value, b'"new"')
            began = time.monotonic()

            async def fresh() -> bool:
                return await cache.get("k") == "new"

            await eventually(fresh)
            assert time.monotonic() - began < 2.0

            async def doubted() -> bool:
                return not cache.here().near.live

            await eventually(doubted)


async def test_bounds(redis_client: Redis, namespace: str) -> None:
    options = NearCache(max_entries=10, max_bytes=3_000, ttl_cap=30)
    async with Cache[Any](redis_client, "c", ttl=60, namespace=namespace, deadline=5, near=options) as cache:
        table = cache.here().near
        await cache.set_many({str(number): number for number in range(30)})
        await cache.set("big", "x" * 5_000)
        await asyncio.sleep(0.05)
        for number in range(30):
            await cache.get(str(number))
        assert len(table) <= 10 and table.bytes <= 3_000
        assert await cache.get("big") == "x" * 5_000
        assert table.get(cache._keys.of("big").value) is None
        assert table.get(cache._keys.of("29").value) is not None


async def test_only_what_nobody_can_change_is_shared(redis_client: Redis, namespace: str) -> None:
    async with (
        Cache[Any](redis_client, "plain", ttl=60, namespace=namespace, deadline=5, near=NearCache(ttl_cap=30)) as plain,
        Cache(
            redis_client, "m", ttl=60, namespace=namespace, deadline=5, model=Frozen, near=NearCache(ttl_cap=30)
        ) as frozen,
    ):
        await warm(plain, value={"list": [1]})
        first = await plain.get("k")
        first["list"].append(2)
        assert await plain.get("k") == {"list": [1]}
        await warm(frozen, value=Frozen("Ada"))
        await frozen.get("k")
        assert await frozen.get("k") is await frozen.get("k")


async def test_with_a_resp2_client_and_text(redis_url: str, namespace: str, client_options: dict[str, Any]) -> None:
    async with (
        Redis.from_url(redis_url, **client_options) as client,
        Cache[Any](client, "c", ttl=60, namespace=namespace, deadline=5, near=NearCache()) as cache,
    ):
        assert cache.here().near.live
        await warm(cache)


def test_not_for_clusters() -> None:
    with pytest.raises(ValueError, match="Cluster"):
        Cache(RedisCluster(host="localhost"), "c", ttl=1, near=NearCache())


@pytest.mark.parametrize("options", [{"max_entries": 0}, {"max_bytes": 0}, {"ttl_cap": 0}, {"heartbeat": -1}])
def test_senseless_bounds_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        NearCache(**options)


def test_on_uvloop(redis_url: str, namespace: str) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def use() -> None:
        async with (
            Redis.from_url(redis_url) as client,
            Cache[Any](client, "c", ttl=60, namespace=namespace, deadline=5, near=NearCache()) as cache,
        ):
            assert cache.here().near.live
            await warm(cache)
            await cache.invalidate("k")
            assert await cache.get("k") is MISSING

    uvloop.run(use())
