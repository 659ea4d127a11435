"""Many callers, several processes (as far as the server can tell), invalidations in between, and callers that go away."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.caching import MISSING, Cache
from aredis_patterns.exceptions import LoadFailed, LoadTimeout, WireClosed
from aredis_patterns.testing import FaultProxy, cancel_everywhere


async def until(condition: Any, within: float = 5.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.002)


async def waiting_for(cache: Cache[Any], key: str) -> None:
    """Until the server knows that somebody elsewhere waits for the lease of `key`."""
    lease = cache._keys.of(key).lease
    async with asyncio.timeout(5):
        while not any(field.startswith(b"w") for field in await cache._shared.commands.call("HKEYS", lease, key=lease)):
            await asyncio.sleep(0.005)


async def test_one_load_for_all_callers_of_all_processes(cache: Cache[Any], elsewhere: Cache[Any], source: Any) -> None:
    source.rows["k"] = "row"
    source.hold()
    callers = [
        asyncio.create_task(c.get_or_load("k", source.loader("k"))) for c in (cache, elsewhere) for _ in range(50)
    ]
    await source.begun.wait()
    await asyncio.sleep(0.05)
    source.release()
    assert await asyncio.gather(*callers) == ["row"] * 100
    assert source.loads == 1
    both = [cache.statistics(), elsewhere.statistics()]
    assert sum(each.loads for each in both) == 1
    assert max(each.waited for each in both) == 50


async def test_commands_of_a_cold_load_do_not_grow_with_its_length(redis_url: str, namespace: str, source: Any) -> None:
    """Three processes, 50 callers each: reads, one fill, nothing while they wait."""
    async with (
        FaultProxy(redis_url) as proxy,
        Redis.from_url(proxy.url) as one,
        Redis.from_url(proxy.url) as two,
        Redis.from_url(proxy.url) as three,
    ):
        caches: list[Cache[Any]] = [
            Cache(client, "c", ttl=60, namespace=namespace, deadline=5) for client in (one, two, three)
        ]
        for cache in caches:
            await cache.get_or_load("warm", source.loader("warm"))
        source.hold()
        async with proxy.count() as counted:
            callers = [
                asyncio.create_task(cache.get_or_load("k", source.loader("k"))) for cache in caches for _ in range(50)
            ]
            await until(lambda: source.loads == 2)
            await asyncio.sleep(0.3)
            source.release()
            await asyncio.gather(*callers)
        assert source.loads == 2
        assert counted.commands <= 12
        for cache in caches:
            await cache.aclose()


async def test_whoever_waits_is_woken_with_the_value(cache: Cache[Any], elsewhere: Cache[Any], source: Any) -> None:
    source.rows["k"] = "row"
    source.hold()
    leader = asyncio.create_task(cache.get_or_load("k", source.loader("k")))
    await source.begun.wait()
    waiter = asyncio.create_task(elsewhere.fetch("k", source.loader("k")))
    await waiting_for(cache, "k")
    source.release()
    async with asyncio.timeout(3):  # far less than the lease
        assert (await waiter).status == "waited"
    assert await leader == "row"


async def test_a_large_value_is_read_by_those_who_wait(cache: Cache[Any], elsewhere: Cache[Any], source: Any) -> None:
    source.rows["k"] = "x" * 100_000
    source.hold()
    leader = asyncio.create_task(cache.get_or_load("k", source.loader("k")))
    await source.begun.wait()
    waiter = asyncio.create_task(elsewhere.get_or_load("k", source.loader("k")))
    await waiting_for(cache, "k")
    source.release()
    assert await waiter == await leader == source.rows["k"]
    assert source.loads == 1


async def test_waiting_works_without_publish(redis_url: str, namespace: str, own_server: Any, source: Any) -> None:
    """A user that may neither subscribe nor publish: those who wait look again, with pauses."""
    async with Redis.from_url(own_server.url) as admin:
        await admin.acl_setuser(
            "quiet", enabled=True, nopass=True, keys=["*"], categories=["+@all"], reset_channels=True
        )
    url = own_server.url.replace("unix://", "unix://quiet:x@") if "unix://" in own_server.url else own_server.url
    async with (
        Redis.from_url(url, username="quiet", password="x") as one,
        Redis.from_url(url, username="quiet", password="x") as two,
    ):
        a: Cache[Any] = Cache(one, "c", ttl=60, namespace=namespace, deadline=5)
        b: Cache[Any] = Cache(two, "c", ttl=60, namespace=namespace, deadline=5)
        source.hold()
        leader = asyncio.create_task(a.get_or_load("k", source.loader("k")))
        await source.begun.wait()
        waiter = asyncio.create_task(b.get_or_load("k", source.loader("k")))
        await asyncio.sleep(0.1)
        source.release()
        await asyncio.gather(leader, waiter)
        assert source.loads == 1
        await a.aclose()
        await b.aclose()


async def test_a_cancelled_caller_takes_only_itself_away(cache: Cache[Any], source: Any) -> None:
    source.rows["k"] = "row"
    source.hold()
    callers = [asyncio.create_task(cache.get_or_load("k", source.loader("k"))) for _ in range(5)]
    await source.begun.wait()
    callers[0].cancel()
    callers[2].cancel()
    await asyncio.wait([callers[0], callers[2]])
    source.release()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [result for result in results if result != "row"] == [results[0], results[2]]
    assert all(isinstance(results[number], asyncio.CancelledError) for number in (0, 2))
    assert source.loads == 1


async def test_all_callers_cancelled_and_the_load_goes_on(cache: Cache[Any], source: Any) -> None:
    source.rows["k"] = "row"
    source.hold()
    callers = [asyncio.create_task(cache.get_or_load("k", source.loader("k"))) for _ in range(3)]
    await source.begun.wait()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    source.release()
    await until(lambda: cache.here().loads.loading == 0)
    assert await cache.get("k") == "row"


async def test_all_callers_cancelled_and_the_load_too(make_cache: Any, elsewhere: Cache[Any], source: Any) -> None:
    cache = make_cache(on_abandon="cancel")
    source.hold()
    callers = [asyncio.create_task(cache.get_or_load("k", source.loader("k"))) for _ in range(3)]
    await source.begun.wait()
    for caller in callers[:2]:
        caller.cancel()
    await asyncio.wait(callers[:2])
    assert source.running == 1
    callers[2].cancel()
    await asyncio.wait(callers)
    await until(lambda: source.running == 0)
    source.release()
    async with asyncio.timeout(3):  # the lease was given back at once
        await elsewhere.get_or_load("k", source.loader("k"))


async def test_cancelled_at_every_point(redis_url: str, namespace: str, source: Any) -> None:
    async with Redis.from_url(redis_url) as client, Redis.from_url(redis_url) as other:
        cache: Cache[Any] = Cache(client, "c", ttl=60, namespace=namespace, deadline=5, on_abandon="cancel")
        after: Cache[Any] = Cache(other, "c", ttl=60, namespace=namespace, deadline=5)
        source.rows["k"] = "row"

        async def load() -> Any:
            await cache.get_or_load("k", source.loader("k"), tags=["t"])
            async with cache.write("k") as write:
                await asyncio.sleep(0)
                write.set("new")
            await cache.get_or_load("k", source.loader("k"))
            await cache.invalidate("k")

        async def check() -> None:
            async with asyncio.timeout(4):  # neither a lease nor an open writer is left
                await until(lambda: cache.here().loads.loading == 0)
                assert (await after.fetch("k", source.loader("k"))).status in ("loaded", "hit")
            await after.delete("k")

        await load()
        await check()
        await cancel_everywhere(
            load, check=check, ignore_task=lambda task: "aredis-patterns" in task.get_name(), max_ticks=60
        )
        await cache.aclose()
        await after.aclose()


async def test_a_late_fill_is_refused_after_an_invalidation(
    cache: Cache[Any], elsewhere: Cache[Any], source: Any
) -> None:
    source.rows["k"] = "old"
    source.hold()
    caller = asyncio.create_task(cache.get_or_load("k", source.loader("k")))
    await source.begun.wait()
    source.rows["k"] = "new"
    await elsewhere.invalidate("k")
    source.release()
    assert await caller == "new"
    assert await elsewhere.get("k") == "new"
    assert cache.statistics().refused_fills == 1


@pytest.mark.parametrize("what", ["invalidate", "tag", "clear", "set", "write"])
async def test_a_caller_after_an_invalidation_never_gets_what_was_loaded_before(
    cache: Cache[Any], elsewhere: Cache[Any], source: Any, what: str
) -> None:
    """It does not join the flight that began before; nor does it when the invalidation came from elsewhere."""
    for invalidator in (cache, elsewhere):
        key = f"k{invalidator is cache}"
        source.rows[key] = "old"
        source.hold()
        first = asyncio.create_task(cache.get_or_load(key, source.loader(key), tags=["t"]))
        await source.begun.wait()
        source.rows[key] = "new"
        if what == "invalidate":
            await invalidator.invalidate(key)
        elif what == "tag":
            await invalidator.invalidate_tags("t")
        elif what == "clear":
            await invalidator.clear()
        elif what == "set":
            await invalidator.set(key, "new")
        else:
            async with invalidator.write(key) as write:
                write.set("new")
        second = asyncio.create_task(cache.get_or_load(key, source.loader(key), tags=["t"]))
        third = asyncio.create_task(elsewhere.get_or_load(key, source.loader(key), tags=["t"]))
        await asyncio.sleep(0.02)
        source.release()
        assert await second == await third == "new"
        assert await first in ("old", "new")
        assert await elsewhere.get_or_load(key, source.loader(key), tags=["t"]) == "new"


async def test_a_shared_read_that_was_sent_before_is_not_joined(redis_url: str, namespace: str, source: Any) -> None:
    """The reply is under way, somebody else invalidates, and a new caller here must not get that reply."""
    async with FaultProxy(redis_url) as proxy, Redis.from_url(proxy.url) as slow, Redis.from_url(redis_url) as other:
        cache: Cache[Any] = Cache(slow, "c", ttl=60, namespace=namespace, deadline=5)
        writer: Cache[Any] = Cache(other, "c", ttl=60, namespace=namespace, deadline=5)
        source.rows["k"] = "new"
        await writer.set("k", "old")
        assert await cache.get("k") == "old"
        held = proxy.hold_replies("MGET", times=1)
        before = asyncio.create_task(cache.get_or_load("k", source.loader("k")))
        await held.until_applied()
        await writer.invalidate("k")
        after = asyncio.create_task(cache.get_or_load("k", source.loader("k")))
        await asyncio.sleep(0.02)
        held.release()
        assert await before == "old"
        assert await after == "new"
        await cache.aclose()
        await writer.aclose()


async def test_a_lease_that_has_ended_cannot_fill(make_cache: Any, elsewhere: Cache[Any], source: Any) -> None:
    cache = make_cache(lease=0.05)
    cache.here().loads._leases.keep = lambda token, lease: None  # a process that sleeps does not prolong
    source.rows["k"] = "v1"
    source.hold()
    first = asyncio.create_task(cache.get_or_load("k", source.loader("k")))
    await source.begun.wait()
    source.rows["k"] = "v2"
    source.begun.clear()
    second = asyncio.create_task(elsewhere.get_or_load("k", source.loader("k")))
    await source.begun.wait()
    source.release()
    assert await second == "v2"
    assert await first == "v2"
    assert await elsewhere.get("k") == "v2"


async def test_a_long_load_keeps_its_lease(make_cache: Any, elsewhere: Cache[Any], source: Any) -> None:
    cache = make_cache(lease=0.1)
    source.hold()
    first = asyncio.create_task(cache.get_or_load("k", source.loader("k")))
    await source.begun.wait()
    second = asyncio.create_task(elsewhere.get_or_load("k", source.loader("k")))
    await asyncio.sleep(0.4)
    assert source.loads == 1
    source.release()
    await asyncio.gather(first, second)
    assert source.loads == 1


async def test_a_failing_loader_fails_everybody_once(cache: Cache[Any], elsewhere: Cache[Any], source: Any) -> None:
    source.error = KeyError("no such user")
    source.hold()
    here = [asyncio.create_task(cache.get_or_load("k", source.loader("k"))) for _ in range(5)]
    await source.begun.wait()
    there = [asyncio.create_task(elsewhere.get_or_load("k", source.loader("k"))) for _ in range(5)]
    await waiting_for(cache, "k")
    source.release()
    for result in await asyncio.gather(*here, return_exceptions=True):
        assert type(result) is KeyError
    for result in await asyncio.gather(*there, return_exceptions=True):
        assert isinstance(result, LoadFailed)
        assert (result.key, result.kind) == ("k", "KeyError")
    assert source.loads == 1
    source.error = None
    source.rows["k"] = "row"
    assert await elsewhere.get_or_load("k", source.loader("k")) == "row"


async def test_an_error_may_be_kept_for_a_moment(make_cache: Any, source: Any) -> None:
    cache = make_cache(error_ttl=0.3)
    source.error = ValueError("down")
    with pytest.raises(ValueError, match="down"):
        await cache.get_or_load("k", source.loader("k"))
    with pytest.raises(LoadFailed, match="down"):
        await cache.get_or_load("k", source.loader("k"))
    assert source.loads == 1
    source.error = None
    await asyncio.sleep(0.35)
    assert await cache.get_or_load("k", source.loader("k")) is None


async def test_a_loader_that_is_cancelled_from_within_is_a_failure(cache: Cache[Any]) -> None:
    async def load() -> Any:
        raise asyncio.CancelledError

    with pytest.raises(LoadFailed, match="within"):
        await cache.get_or_load("k", load)


async def test_the_hard_timeout_of_loads(make_cache: Any, source: Any) -> None:
    cache = make_cache(load_timeout=0.1)
    source.hold()
    with pytest.raises(LoadTimeout) as caught:
        await cache.get_or_load("k", source.loader("k"))
    assert (caught.value.key, caught.value.seconds, source.running) == ("k", 0.1, 0)


async def test_an_expired_value_is_given_at_once_and_renewed_once(
    make_cache: Any, other_client: Redis, source: Any
) -> None:
    options = {"ttl": 0.1, "stale_ttl": 60, "jitter": 0}
    caches = [make_cache(**options), make_cache(other_client, **options)]
    source.rows["k"] = "old"
    await caches[0].get_or_load("k", source.loader("k"))
    await asyncio.sleep(0.15)
    assert await caches[1].get("k") is MISSING, "expired is not there for those who cannot renew it"
    source.rows["k"] = "new"
    source.hold()
    got = await asyncio.gather(*(cache.fetch("k", source.loader("k")) for cache in caches for _ in range(50)))
    assert {(each.value, each.status) for each in got} == {("old", "stale")}
    assert all(each.ttl < 0 for each in got)
    await source.begun.wait()
    assert source.loads == 2
    source.release()
    await until(lambda: not any(cache.here().loads.loading for cache in caches))
    assert await caches[1].get_or_load("k", source.loader("k")) == "new"
    assert source.loads == 2


async def test_refresh_ahead_has_one_refresher(make_cache: Any, other_client: Redis, source: Any) -> None:
    options = {"ttl": 60, "refresh_at": 0.001, "jitter": 0}
    caches = [make_cache(**options), make_cache(other_client, **options)]
    await caches[0].get_or_load("k", source.loader("k"))
    await asyncio.sleep(0.08)
    source.hold()
    got = await asyncio.gather(*(cache.fetch("k", source.loader("k")) for cache in caches for _ in range(20)))
    assert {each.status for each in got} == {"hit"}
    await source.begun.wait()
    assert source.loads == 2
    source.release()


async def test_early_refresh_follows_its_formula(redis_client: Redis) -> None:
    """XFetch with delta 0.4 s, beta 1: 0.67 % of reads at 2 s left, 36.8 % at 0.4 s, 77.9 % at 0.1 s."""
    cache: Cache[Any] = Cache(redis_client, "c", ttl=60, early_refresh=1.0)
    draws = [cache._shared.policy.ahead(None, 0.4) for _ in range(40_000)]
    for left, share in ((2000, 0.0067), (400, 0.368), (100, 0.779)):
        assert sum(draw >= left for draw in draws) / len(draws) == pytest.approx(share, abs=0.012)


async def test_early_refresh_draws_once_per_question(make_cache: Any, source: Any, monkeypatch: Any) -> None:
    """A second draw on the way to the server would square the chance."""
    cache = make_cache(ttl=60, early_refresh=1.0)
    await cache.get_or_load("k", source.loader("k"))
    draws = iter([120_000, 0, 0, 0])
    monkeypatch.setattr(type(cache._shared.policy), "ahead", lambda policy, ttl, seconds: next(draws))
    await cache.get_or_load("k", source.loader("k"))
    async with asyncio.timeout(5):
        while source.loads < 2:
            await asyncio.sleep(0)


async def test_early_refresh_measures_loads(make_cache: Any, source: Any) -> None:
    cache = make_cache(ttl=60, early_refresh=1000.0)

    async def load() -> str:
        await asyncio.sleep(0.1)
        source.loads += 1
        return "value"

    await cache.get_or_load("k", load)
    assert cache.statistics().load_seconds >= 0.1
    async with asyncio.timeout(5):
        while source.loads < 2:
            await cache.get_or_load("k", load)
            await asyncio.sleep(0.01)


async def test_a_failing_renewal_leaves_the_old_value_and_holds_back_the_next(make_cache: Any, source: Any) -> None:
    cache = make_cache(ttl=0.05, stale_ttl=60, throttle=0.4, jitter=0)
    source.rows["k"] = "old"
    await cache.get_or_load("k", source.loader("k"))
    await asyncio.sleep(0.1)
    source.error = ConnectionError("database down")
    for _ in range(10):
        assert (await cache.fetch("k", source.loader("k"))).status == "stale"
        await asyncio.sleep(0.005)
    assert source.loads == 2
    await asyncio.sleep(0.45)
    assert await cache.get_or_load("k", source.loader("k")) == "old"
    await until(lambda: source.loads == 3)
    assert cache.statistics().load_failures >= 1


async def test_the_soft_timeout(make_cache: Any, source: Any) -> None:
    cache = make_cache(ttl=0.05, stale_ttl=60, soft_timeout=0.2, jitter=0)
    source.rows["k"] = "old"
    await cache.get_or_load("k", source.loader("k"))
    await asyncio.sleep(0.1)
    source.rows["k"] = "newer"
    assert await cache.get_or_load("k", source.loader("k")) == "newer", "in time: the new value"
    await asyncio.sleep(0.1)
    source.rows["k"] = "newest"
    source.hold()
    assert await cache.get_or_load("k", source.loader("k")) == "newer", "not in time: the old one"
    source.release()
    await until(lambda: cache.here().loads.loading == 0)
    assert (await cache.fetch("k", source.loader("k"))).value == "newest"


async def test_a_background_refresh_survives_the_garbage_collector(make_cache: Any, source: Any) -> None:
    cache = make_cache(ttl=0.05, stale_ttl=60, jitter=0)
    await cache.get_or_load("k", source.loader("k"))
    await asyncio.sleep(0.1)
    source.rows["k"] = "new"
    source.hold()
    await cache.get_or_load("k", source.loader("k"))
    await source.begun.wait()
    gc.collect()
    source.release()
    await until(lambda: cache.here().loads.loading == 0)
    assert await cache.get_or_load("k", source.loader("k")) == "new"


async def test_closing_ends_loads_and_gives_their_leases_back(
    make_cache: Any, elsewhere: Cache[Any], source: Any
) -> None:
    cache = make_cache()
    source.hold()
    caller = asyncio.create_task(cache.get_or_load("k", source.loader("k")))
    await source.begun.wait()
    await cache.aclose()
    with pytest.raises(WireClosed):
        await caller
    assert source.running == 0
    source.release()
    async with asyncio.timeout(3):
        await elsewhere.get_or_load("k", source.loader("k"))
    await cache.get_or_load("k", source.loader("k"))


async def test_loads_stand_in_line(make_cache: Any, redis_client: Redis, source: Any) -> None:
    cache = make_cache(max_concurrent_loads=3)
    source.hold()
    callers = [asyncio.create_task(cache.get_or_load(str(n), source.loader(str(n)))) for n in range(12)]
    await until(lambda: source.running == 3)
    await asyncio.sleep(0.05)
    source.release()
    await asyncio.gather(*callers)
    assert (source.loads, source.most) == (12, 3)


async def test_flush_under_traffic_reaches_no_caller(own_client: Redis, namespace: str, source: Any) -> None:
    cache: Cache[Any] = Cache(own_client, "c", ttl=60, namespace=namespace, deadline=5, max_concurrent_loads=2)
    stop = False

    async def reader(number: int) -> int:
        reads = 0
        while not stop:
            await cache.get_or_load(str(number % 10), source.loader(str(number % 10)))
            reads += 1
        return reads

    readers = [asyncio.create_task(reader(number)) for number in range(40)]
    for _ in range(5):
        await asyncio.sleep(0.05)
        await own_client.script_flush()
        await own_client.flushall()
    stop = True
    assert all(await asyncio.gather(*readers))
    assert source.most <= 2
    await cache.aclose()


async def test_refresh_loads_now_and_overtakes(cache: Cache[Any], elsewhere: Cache[Any], source: Any) -> None:
    source.rows["k"] = "old"
    await cache.get_or_load("k", source.loader("k"))
    source.rows["k"] = "new"
    assert await elsewhere.refresh("k", source.loader("k")) == "new"
    assert await cache.get("k") == "new"
    source.hold()
    slow = asyncio.create_task(cache.refresh("k", source.loader("k")))
    await source.begun.wait()
    source.rows["k"] = "newer"
    source.release()
    await elsewhere.refresh("k", source.loader("k"))
    await slow
    assert await cache.get("k") == "newer"


@pytest.mark.parametrize("tagged", [False, True])
async def test_readers_have_the_old_value_during_a_refresh(cache: Cache[Any], source: Any, tagged: bool) -> None:
    tags = ["t"] if tagged else []
    source.rows["k"] = "old"
    await cache.get_or_load("k", source.loader("k"), tags=tags)
    source.hold()
    source.rows["k"] = "new"
    refresh = asyncio.create_task(cache.refresh("k", source.loader("k"), tags=tags))
    await source.begun.wait()
    async with asyncio.timeout(5):
        assert await cache.get_or_load("k", source.loader("k"), tags=tags) == "old"
        assert (await cache.fetch("k", source.loader("k"), tags=tags)).value == "old"
    source.release()
    assert await refresh == "new"
    assert source.loads == 2


async def test_who_finds_nothing_waits_for_a_refresh(cache: Cache[Any], source: Any) -> None:
    source.hold()
    source.rows["k"] = "new"
    refresh = asyncio.create_task(cache.refresh("k", source.loader("k")))
    await source.begun.wait()
    readers = [asyncio.create_task(cache.get_or_load("k", source.loader("k"))) for _ in range(3)]
    await asyncio.sleep(0.02)
    source.release()
    assert await asyncio.gather(refresh, *readers) == ["new"] * 4
    assert source.loads == 1


async def test_many_load_once_and_in_one_batch(cache: Cache[Any], elsewhere: Cache[Any]) -> None:
    batches: list[list[str]] = []

    async def load(keys: list[str]) -> dict[str, Any]:
        batches.append(keys)
        await asyncio.sleep(0.05)
        return {key: key.upper() for key in keys if key != "z"}

    await cache.set("b", "B")
    got = await cache.get_or_load_many(["a", "b", "c", "z", "a"], load)
    assert got == {"a": "A", "b": "B", "c": "C", "z": None}
    assert batches == [["a", "c", "z"]]
    assert await elsewhere.get_or_load_many(["z", "c", "a"], load) == {"z": None, "c": "C", "a": "A"}
    assert len(batches) == 1


async def test_overlapping_batches_in_opposite_order_do_not_wait_for_each_other(
    cache: Cache[Any], elsewhere: Cache[Any]
) -> None:
    loaded: list[str] = []

    async def load(keys: list[str]) -> dict[str, str]:
        loaded.extend(keys)
        await asyncio.sleep(0.05)
        return {key: key for key in keys}

    keys = [str(number) for number in range(20)]
    async with asyncio.timeout(3):
        results = await asyncio.gather(
            *(c.get_or_load_many(order, load) for c in (cache, elsewhere) for order in (keys, keys[::-1]))
        )
    assert all(result == {key: key for key in keys} for result in results)
    assert sorted(loaded) == sorted(keys)


async def test_a_failing_batch_fails_its_callers(make_cache: Any, source: Any) -> None:
    cache = make_cache(max_concurrent_loads=1)

    async def load(keys: list[str]) -> dict[str, str]:
        raise ValueError("down")

    with pytest.raises(ValueError, match="down"):
        await cache.get_or_load_many(["a", "b"], load)
    await cache.get_or_load("a", source.loader("a"))


async def test_a_lost_reply_to_a_read_makes_the_same_caller_the_loader(
    redis_url: str, namespace: str, source: Any
) -> None:
    async with FaultProxy(redis_url) as proxy, Redis.from_url(proxy.url) as client:
        cache: Cache[Any] = Cache(client, "c", ttl=60, namespace=namespace, deadline=5)
        await cache.get_or_load("warm", source.loader("warm"), tags=["t"])
        for nth in (1, 2):  # the read, then the fill
            lost = proxy.drop_replies("EVALSHA", nth=nth, times=1)
            async with asyncio.timeout(3):
                assert (await cache.fetch(f"k{nth}", source.loader("k"))).status == "loaded"
            assert lost.applied == 1
            lost.remove()
        assert source.loads == 3
        assert await cache.get("k2") is None
        await cache.aclose()


async def test_an_expired_value_is_not_fresh_for_a_cache_with_other_options(make_cache: Any, source: Any) -> None:
    writer = make_cache(ttl=0.05, stale_ttl=60, jitter=0)
    reader = make_cache(ttl=60)
    source.rows["k"] = "old"
    await writer.get_or_load("k", source.loader("k"))
    assert (await reader.fetch("k", source.loader("k"))).status == "hit"
    await asyncio.sleep(0.1)
    source.rows["k"] = "new"
    await reader.get_or_load("k", source.loader("k"))
    await until(lambda: source.loads == 2)
    assert await reader.get("k") in (MISSING, "new")


async def test_callers_of_one_tick_share_only_what_nobody_can_change(make_cache: Any, source: Any) -> None:
    cache = make_cache()
    await cache.set("list", [[]])
    await cache.set("text", "x" * 100)
    lists = await asyncio.gather(*(cache.get_or_load("list", source.loader("list")) for _ in range(10)))
    assert len({id(each) for each in lists}) == 10
    texts = await asyncio.gather(*(cache.get_or_load("text", source.loader("text")) for _ in range(10)))
    assert set(texts) == {"x" * 100}


async def test_a_batch_that_works_for_nobody_is_cancelled(make_cache: Any) -> None:
    cache = make_cache(on_abandon="cancel")
    begun, ended = asyncio.Event(), asyncio.Event()

    async def load(keys: list[str]) -> dict[str, str]:
        begun.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()
        return {}

    caller = asyncio.create_task(cache.get_or_load_many(["a", "b"], load))
    await begun.wait()
    caller.cancel()
    async with asyncio.timeout(2):
        await ended.wait()
    with pytest.raises(ValueError, match="tags"):
        await cache.invalidate_tags(*(str(number) for number in range(1001)))
