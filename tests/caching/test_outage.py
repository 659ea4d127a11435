"""Redis refuses, is silent, or is gone for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from aredis_patterns.caching import MISSING, Cache, NearCache
from aredis_patterns.exceptions import ServerUnavailable
from aredis_patterns.testing import FaultProxy


@pytest.fixture
async def proxied(fault_proxy: FaultProxy) -> AsyncGenerator[Redis, None]:
    async with Redis.from_url(fault_proxy.url) as client:
        yield client


def silence(proxy: FaultProxy, how: str) -> None:
    if how == "silent":
        proxy.black_hole()
    else:
        proxy.refuse_connections()
        proxy.kill_connections()


@pytest.mark.parametrize("how", ["silent", "refused"])
@pytest.mark.parametrize("warm", [True, False])
async def test_a_loaders_value_comes_in_its_time_and_a_quarter_of_a_second(
    fault_proxy: FaultProxy, proxied: Redis, namespace: str, source: Any, how: str, warm: bool
) -> None:
    cache: Cache[Any] = Cache(proxied, "c", ttl=60, namespace=namespace)
    if warm:
        await cache.get_or_load("warm", source.loader("warm"))
    source.rows["k"] = "row"
    silence(fault_proxy, how)
    began = time.monotonic()

    async def load() -> Any:
        await asyncio.sleep(0.1)
        return await source.loader("k")()

    results = await asyncio.gather(*(cache.fetch("k", load) for _ in range(50)))
    # A tenth for the loader, a quarter for Redis, and what a loaded machine adds.
    assert time.monotonic() - began < 0.1 + 0.25 + 1.5
    assert {(each.value, each.status) for each in results} == {("row", "uncached")}
    assert source.loads == 1 + warm
    for number in range(3):
        await cache.get_or_load(f"open{number}", source.loader("k"))
    assert cache._shared.breaker.open
    began = time.monotonic()
    for number in range(20):
        assert await cache.get_or_load(f"after{number}", source.loader("k")) == "row"
        assert await cache.get("k") is MISSING
    assert time.monotonic() - began < 2
    assert cache.statistics().redis_errors > 0
    fault_proxy.restore()
    async with asyncio.timeout(8):
        while (await cache.fetch("back", source.loader("k"))).status != "hit":
            await asyncio.sleep(0.05)
    await cache.aclose()


async def test_a_fill_that_is_not_answered_costs_its_caller_no_more_than_the_deadline(
    fault_proxy: FaultProxy, proxied: Redis, namespace: str, source: Any
) -> None:
    cache: Cache[Any] = Cache(proxied, "c", ttl=60, namespace=namespace)
    await cache.get_or_load("warm", source.loader("warm"))
    source.rows["k"] = "row"
    source.hold()
    caller = asyncio.create_task(cache.fetch("k", source.loader("k")))
    await source.begun.wait()
    fault_proxy.black_hole()
    began = time.monotonic()
    source.release()
    assert (await caller).status == "uncached"
    assert time.monotonic() - began < 0.25 + 1.5
    fault_proxy.restore()
    await cache.aclose()


@pytest.mark.parametrize("how", ["silent", "refused"])
async def test_invalidations_and_writes_raise(
    fault_proxy: FaultProxy, proxied: Redis, namespace: str, how: str
) -> None:
    cache: Cache[Any] = Cache(proxied, "c", ttl=60, namespace=namespace)
    await cache.set("k", "old")
    silence(fault_proxy, how)
    for verb in (
        lambda: cache.invalidate("k"),
        lambda: cache.delete("k"),
        lambda: cache.invalidate_tags("t"),
        lambda: cache.clear(),
        lambda: cache.set("k", "new"),
        lambda: cache.set_many({"k": 1, "l": 2}),
    ):
        with pytest.raises(RedisError):
            await verb()
    entered = False
    with pytest.raises(RedisError):
        async with cache.write("k"):
            entered = True
    assert not entered, "the source is not written when the cache cannot be told"
    fault_proxy.restore()
    await cache.aclose()


async def test_on_error_raise(fault_proxy: FaultProxy, proxied: Redis, namespace: str, source: Any) -> None:
    cache: Cache[Any] = Cache(proxied, "c", ttl=60, namespace=namespace, on_error="raise")
    silence(fault_proxy, "refused")
    for _ in range(4):
        with pytest.raises(RedisError):
            await cache.get_or_load("k", source.loader("k"))
        with pytest.raises(RedisError):
            await cache.get("k")
        with pytest.raises(RedisError):
            await cache.get_many(["k"])
    assert source.loads == 0
    fault_proxy.restore()
    await cache.aclose()


async def test_a_wrong_password_is_no_outage(redis_url: str, own_server: Any, namespace: str, source: Any) -> None:
    async with Redis.from_url(own_server.url, username="nobody", password="wrong") as client:
        cache: Cache[Any] = Cache(client, "c", ttl=60, namespace=namespace)
        with pytest.raises(RedisError):
            await cache.get_or_load("k", source.loader("k"))
        assert source.loads == 0
        await cache.aclose()


@pytest.mark.parametrize("what", ["key", "tag", "clear", "write"])
async def test_owed_invalidations_are_replayed_before_anything_is_trusted(
    fault_proxy: FaultProxy, redis_client: Redis, proxied: Redis, namespace: str, source: Any, what: str
) -> None:
    options = {"ttl": 60, "namespace": namespace, "replay_invalidations": 100, "near": NearCache(ttl_cap=30)}
    async with Cache[Any](proxied, "c", **options) as cache:
        other: Cache[Any] = Cache(redis_client, "c", ttl=60, namespace=namespace)
        source.rows["k"] = "old"
        await cache.get_or_load("k", source.loader("k"), tags=["t"])
        silence(fault_proxy, "refused")
        source.rows["k"] = "new"
        if what == "key":
            await cache.invalidate("k")
        elif what == "tag":
            await cache.invalidate_tags("t")
        elif what == "clear":
            await cache.clear()
        else:
            async with cache.write("k") as write:
                write.set("new")
            assert not write.committed
        assert cache.statistics().owed == 1
        assert await cache.get_or_load("k", source.loader("k"), tags=["t"]) == "new"
        fault_proxy.restore()
        assert await cache.get_or_load("k", source.loader("k"), tags=["t"]) == "new"
        async with asyncio.timeout(8):
            while cache.statistics().owed:
                await asyncio.sleep(0.02)
        assert await other.get("k") in (MISSING, "new")
        assert await cache.get_or_load("k", source.loader("k"), tags=["t"]) == "new"


async def test_too_much_owed_becomes_a_clear(
    fault_proxy: FaultProxy, redis_client: Redis, proxied: Redis, namespace: str
) -> None:
    cache: Cache[Any] = Cache(proxied, "c", ttl=60, namespace=namespace, replay_invalidations=3)
    other: Cache[Any] = Cache(redis_client, "c", ttl=60, namespace=namespace)
    await cache.set_many({str(number): number for number in range(10)})
    silence(fault_proxy, "refused")
    await cache.invalidate(*(str(number) for number in range(5)))
    assert cache.statistics().owed == 1
    fault_proxy.restore()
    await cache.aclose()
    assert await other.get_many([str(number) for number in range(10)]) == {}


async def test_closing_says_what_could_not_be_replayed(
    fault_proxy: FaultProxy, proxied: Redis, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache: Cache[Any] = Cache(proxied, "c", ttl=60, namespace=namespace, replay_invalidations=3)
    await cache.set("k", 1)
    silence(fault_proxy, "refused")
    await cache.invalidate("k")
    await cache.aclose()
    assert "could not replay" in caplog.text


async def test_a_dying_server_leaves_no_stale_value_behind_a_write(
    fault_proxy: FaultProxy, redis_client: Redis, proxied: Redis, namespace: str, source: Any
) -> None:
    cache: Cache[Any] = Cache(proxied, "c", ttl=60, namespace=namespace)
    other: Cache[Any] = Cache(redis_client, "c", ttl=60, namespace=namespace)
    source.rows["k"] = "old"
    await cache.get_or_load("k", source.loader("k"))
    async with cache.write("k", timeout=0.5) as write:
        source.rows["k"] = "new"
        write.set("new")
        silence(fault_proxy, "refused")
    assert not write.committed
    assert (await other.fetch("k", source.loader("k"))).status == "uncached"
    await asyncio.sleep(0.6)
    assert (await other.fetch("k", source.loader("k"))).status == "loaded"
    fault_proxy.restore()
    await cache.aclose()
    await other.aclose()


def test_the_breaker_opens_once_and_lets_one_try() -> None:
    from aredis_patterns.caching import _breaker

    breaker = _breaker.Breaker()
    assert breaker.may_ask() and not breaker.open
    for _ in range(50):
        breaker.failed()
    assert breaker.open and not breaker.may_ask()
    pauses = []
    for _ in range(6):
        breaker.until = time.monotonic() - 0.01
        assert breaker.may_ask() and not breaker.may_ask()
        pauses.append(breaker.until - time.monotonic())
        breaker.failed()
    assert pauses == [pytest.approx(pause, abs=0.2) for pause in (1, 2, 4, 5, 5, 5)]
    breaker.succeeded()
    assert breaker.may_ask() and not breaker.open
    assert "closed" in repr(breaker)
    assert _breaker.is_outage(ServerUnavailable("x"))
