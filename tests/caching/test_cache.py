"""The verbs of a cache, one caller at a time: values, times, conditions, keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import pydantic
import pytest
from redis.asyncio import Redis

from aredis_patterns.caching import MISSING, Cache, Loaded
from aredis_patterns.exceptions import EncodeError
from aredis_patterns.testing import FaultProxy, assert_round_trips, no_leaked_keys


@dataclass(frozen=True)
class User:
    name: str
    age: int


class Row(msgspec.Struct):
    name: str


class Model(pydantic.BaseModel):
    name: str


@pytest.mark.parametrize("value", [None, 0, 0.0, "", [], {}, False, {"a": [1, None]}, "text", -1])
async def test_falsy_values_and_none_are_values(cache: Cache[Any], source: Any, value: object) -> None:
    source.rows["k"] = value
    for _ in range(3):
        got = await cache.get_or_load("k", source.loader("k"))
        assert got == value and type(got) is type(value)
    assert source.loads == 1
    assert await cache.get("k") == value
    assert await cache.get("other") is MISSING
    assert not MISSING


@pytest.mark.parametrize("value", [User("Ada", 36), Row("Ada"), Model(name="Ada")])
async def test_models_come_back_as_what_they_are(make_cache: Any, value: Any) -> None:
    cache = make_cache(model=type(value))

    async def load() -> Any:
        return value

    for _ in range(2):
        assert await cache.get_or_load("k", load) == value
    assert await cache.get("k") == value

    async def nothing() -> Any:
        return None

    assert await cache.get_or_load("gone", nothing) is None
    assert await cache.get_or_load("gone", load) is None


async def test_the_first_caller_gets_what_all_others_get(cache: Cache[Any]) -> None:
    """A tuple becomes a list in JSON, for the caller that loaded it as well."""

    async def load() -> Any:
        return (1, 2)

    assert await cache.get_or_load("k", load) == [1, 2]
    assert await cache.get_or_load("k", load) == [1, 2]


async def test_callers_do_not_share_what_they_can_change(cache: Cache[Any], source: Any) -> None:
    source.rows["k"] = {"list": []}
    got = await asyncio.gather(*(cache.get_or_load("k", source.loader("k")) for _ in range(3)))
    got[0]["list"].append(1)
    assert got[1] == got[2] == await cache.get("k") == {"list": []}


async def test_json_is_readable_on_the_server(cache: Cache[Any], redis_client: Redis, where: Any) -> None:
    await cache.set("k", {"name": "Ada"})
    stored = await redis_client.get(where(cache, "k"))
    assert stored.endswith(b'\n{"name":"Ada"}')


async def test_what_something_else_has_written_is_read(cache: Cache[Any], redis_client: Redis, where: Any) -> None:
    await redis_client.set(where(cache, "k"), b'{"name":"Ada"}', px=60_000)
    assert await cache.get("k") == {"name": "Ada"}


async def test_a_hit_is_one_round_trip(fault_proxy: FaultProxy, namespace: str) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        for options in ({}, {"stale_ttl": 10, "refresh_at": 0.8}):
            cache: Cache[Any] = Cache(client, f"c{len(options)}", ttl=60, namespace=namespace, **options)

            async def load() -> str:
                return "value"

            await cache.get_or_load("k", load)
            await cache.get_or_load("t", load, tags=["a"])
            async with assert_round_trips(fault_proxy, 1):
                assert (await cache.fetch("t", load, tags=["a"])).status == "hit"
            async with assert_round_trips(fault_proxy, 1):
                assert (await cache.fetch("k", load)).status == "hit"
            async with assert_round_trips(fault_proxy, 1):
                assert await cache.get("k") == "value"
            await cache.aclose()


async def test_a_crowd_shares_one_command_and_a_lone_caller_needs_no_tick(
    fault_proxy: FaultProxy, namespace: str
) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        cache: Cache[Any] = Cache(client, "c", ttl=60, namespace=namespace, deadline=5, shards=3)

        async def load() -> str:
            return "value"

        keys = ["a", "b", "c", "d"]
        shards = len({cache._keys.of(key).shard for key in keys})
        for key in keys:
            await cache.get_or_load(key, load)
        before = cache.statistics()
        for most in (shards + 1, shards, shards):
            async with fault_proxy.count() as counted:
                await asyncio.gather(*(cache.get_or_load(key, load) for key in keys * 10))
            assert counted.commands <= most
        assert cache.statistics().hits == before.hits + 120
        assert cache.statistics().coalesced >= before.coalesced + 3 * 36 - 1
        for _ in range(2):
            async with fault_proxy.count() as counted:
                await cache.get_or_load("a", load)
            assert counted.commands == 1
        assert not cache.here().looks._crowded
        await cache.aclose()


async def test_a_miss_is_three_round_trips(fault_proxy: FaultProxy, namespace: str) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        cache: Cache[Any] = Cache(client, "c", ttl=60, namespace=namespace, deadline=5)

        async def load() -> str:
            return "value"

        await cache.get_or_load("warm", load)
        async with assert_round_trips(fault_proxy, 3):
            await cache.get_or_load("k", load)
        await cache.aclose()


async def test_nothing_stays_without_a_ttl(redis_client: Redis, namespace: str, source: Any) -> None:
    async with (
        no_leaked_keys(redis_client, namespace, allow_ttl=True),
        Cache[Any](redis_client, "c", ttl=60, namespace=namespace, deadline=5) as cache,
    ):
        await cache.get_or_load("k", source.loader("k"), tags=["t"])
        await cache.set("s", 1)
        async with cache.write("w") as w:
            w.set(2)
        await cache.invalidate("s", hold=5)
        await cache.invalidate_tags("t")
        await cache.clear()


async def test_no_ttl_means_no_expiry(make_cache: Any, redis_client: Redis, where: Any, source: Any) -> None:
    cache = make_cache(ttl=None)
    await cache.get_or_load("k", source.loader("k"))
    assert await redis_client.pttl(where(cache, "k")) == -1
    assert (await cache.fetch("k", source.loader("k"))).status == "hit"
    assert source.loads == 1


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), True, timedelta(days=4000), timedelta(0)])
def test_senseless_ttls_are_refused_before_anything_happens(redis_client: Redis, ttl: Any) -> None:
    with pytest.raises(ValueError, match="ttl"):
        Cache(redis_client, "c", ttl=ttl)


@pytest.mark.parametrize(
    "options",
    [
        {"refresh_at": 1.0},
        {"refresh_at": 0},
        {"early_refresh": 0},
        {"jitter": 1},
        {"jitter": -0.1},
        {"max_concurrent_loads": 0},
        {"on_error": "ignore"},
        {"on_abandon": "no"},
        {"shards": 0},
        {"ttl": None, "stale_ttl": 5},
        {"lease": 0},
        {"deadline": 0},
        {"negative_ttl": 0},
    ],
)
def test_senseless_options_are_refused(redis_client: Redis, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(reversed(options)))):
        Cache(redis_client, "c", **{"ttl": 60, **options})


async def test_a_part_of_a_second_is_kept(make_cache: Any, redis_client: Redis, where: Any) -> None:
    cache = make_cache(ttl=timedelta(milliseconds=250), jitter=0)
    await cache.set("k", 1)
    assert 0 < await redis_client.pttl(where(cache, "k")) <= 250


async def test_jitter_only_shortens(make_cache: Any, redis_client: Redis, where: Any) -> None:
    cache = make_cache(ttl=1000, jitter=0.5)
    await cache.set_many({str(number): number for number in range(50)})
    lives = [await redis_client.pttl(where(cache, str(number))) for number in range(50)]
    assert max(lives) <= 1_000_000
    assert min(lives) > 499_000
    assert len(set(lives)) > 25


async def test_none_may_have_a_ttl_of_its_own(make_cache: Any, redis_client: Redis, where: Any, source: Any) -> None:
    cache = make_cache(ttl=1000, negative_ttl=5, stale_ttl=100)
    await cache.get_or_load("k", source.loader("k"))
    assert 4000 < await redis_client.pttl(where(cache, "k")) <= 5000


async def test_conditions_of_set(cache: Cache[Any], redis_client: Redis, where: Any) -> None:
    assert not await cache.set("k", 1, xx=True)
    assert await cache.set("k", 1, nx=True, ttl=20)
    assert not await cache.set("k", 2, nx=True)
    assert await cache.set("k", 3, keep_ttl=True)
    assert 15_000 < await redis_client.pttl(where(cache, "k")) <= 20_000
    assert await cache.set("k", 4, xx=True)
    assert 50_000 < await redis_client.pttl(where(cache, "k")) <= 60_000
    assert await cache.get("k") == 4
    await cache.clear()
    assert not await cache.set("k", 5, xx=True), "what was cleared is not there"
    assert await cache.set("k", 5, nx=True)
    with pytest.raises(ValueError, match="exclude"):
        await cache.set("k", 1, nx=True, xx=True)


async def test_many(cache: Cache[Any]) -> None:
    await cache.set_many({"a": 1, "b": None, b"c": 3})
    assert await cache.get_many(["a", "b", b"c", "d"]) == {"a": 1, "b": None, b"c": 3}
    assert await cache.delete("a", "d") == 1
    assert await cache.get_many([]) == {}


async def test_a_value_that_cannot_be_written_changes_nothing(
    cache: Cache[Any], redis_client: Redis, namespace: str
) -> None:
    async def load() -> Any:
        return object()

    with pytest.raises(EncodeError):
        await cache.get_or_load("k", load)
    with pytest.raises(EncodeError):
        await cache.set_many({"a": 1, "b": object()})
    assert await cache.get_many(["a", "b", "k"]) == {}


@pytest.mark.parametrize(
    "key", ["a{b}c", "a:b:c", "with blanks", "x" * 10_000, "ü€𝄞", "%", "v", "epoch", b"\xff\x00", "a\nb", "#1 2 3"]
)
async def test_any_key_stays_its_own(cache: Cache[Any], key: str | bytes) -> None:
    await cache.set(key, "mine")
    for other in ("a", "b", "c", "epoch:x", "x" * 9_999):
        await cache.set(other, "other")
    assert await cache.get(key) == "mine"


@pytest.mark.parametrize("value", ["#1 2 3 t -\n{}", "n", "z", "\n", 'v{"a":1}', "e", "r"])
async def test_values_like_our_own_marks(cache: Cache[Any], value: str) -> None:
    await cache.set("k", value)
    assert await cache.get("k") == value


async def test_keys_are_str_or_bytes(cache: Cache[Any]) -> None:
    for wrong in (1, None, ("a",)):
        with pytest.raises(TypeError):
            await cache.get(wrong)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="empty"):
        await cache.get("")


async def test_two_caches_do_not_meet(make_cache: Any) -> None:
    caches = [make_cache(name=name) for name in ("a", "a:b", "1/a", "{a}")] + [make_cache(name="a", shards=3)]
    for number, cache in enumerate(caches):
        await cache.set("k", number)
    assert [await cache.get("k") for cache in caches] == [0, 1, 2, 3, 4]
    await caches[0].clear()
    assert [await cache.get("k") for cache in caches] == [MISSING, 1, 2, 3, 4]


async def test_what_cannot_be_read_is_loaded_anew(
    make_cache: Any, redis_client: Redis, where: Callable[[Cache[Any], str], str]
) -> None:
    cache = make_cache(model=User)

    async def load() -> User:
        return User("Ada", 36)

    for garbage in (b"\x80\x04garbage", b'{"name":"an older schema"}', b"#1 2", b"", b"#99999999999999999 0 0 t ?\n{}"):
        await redis_client.set(where(cache, "k"), garbage, px=60_000)
        assert await cache.get("k") is MISSING
        assert await cache.get_or_load("k", load) == User("Ada", 36)
        assert await cache.get("k") == User("Ada", 36)
    assert cache.statistics().unreadable > 0


async def test_compression_is_seen_only_on_the_server(make_cache: Any, redis_client: Redis, where: Any) -> None:
    cache = make_cache(compress_above=100)
    for value in ("x" * 10_000, "short"):
        await cache.set("k", value)
        assert await redis_client.strlen(where(cache, "k")) < 200
        assert await cache.get("k") == value


async def test_tags(cache: Cache[Any], elsewhere: Cache[Any], source: Any) -> None:
    for key, tags in (("a", ["red", "big one"]), ("b", ["red"]), ("c", ["!born"]), ("d", [])):
        await cache.get_or_load(key, source.loader(key), tags=tags)
    assert set(await elsewhere.get_many("abcd")) == set("abcd")
    await elsewhere.invalidate_tags("big one", "unknown")
    assert set(await cache.get_many("abcd")) == set("bcd")
    await cache.invalidate_tags("red")
    assert set(await elsewhere.get_many("abcd")) == set("cd")
    loads = source.loads
    for key, tags in (("a", ["red"]), ("b", ["red"]), ("c", ["!born"])):
        await cache.get_or_load(key, source.loader(key), tags=tags)
        assert await elsewhere.get(key) is None
    assert source.loads == loads + 2
    await elsewhere.clear()
    assert await cache.get_many("abcd") == {}
    with pytest.raises(TypeError):
        await cache.get_or_load("a", source.loader("a"), tags="red")


async def test_invalidating_a_tag_costs_the_same_for_any_number_of_entries(
    fault_proxy: FaultProxy, namespace: str
) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        cache: Cache[Any] = Cache(client, "c", ttl=60, namespace=namespace, deadline=5)
        for start in range(0, 10_000, 2_000):
            await cache.set_many({str(start + number): number for number in range(2_000)}, tags=["all"])
        await cache.invalidate_tags("none")
        async with assert_round_trips(fault_proxy, 1, commands=1):
            await cache.invalidate_tags("all")
        assert await cache.get("1") is MISSING and await cache.get("9999") is MISSING
        async with assert_round_trips(fault_proxy, 1, commands=1):
            await cache.clear()
        await cache.aclose()


async def test_a_lost_version_never_brings_back_what_was_invalidated(
    cache: Cache[Any], redis_client: Redis, source: Any
) -> None:
    keys = cache._keys.of("k")
    for lost in (keys.shard.epoch, keys.shard.tags):
        await cache.set("k", "old", tags=["t"])
        await cache.invalidate_tags("t")
        await redis_client.delete(lost)
        assert await cache.get("k") is MISSING
        await cache.get_or_load("other", source.loader("other"), tags=["t"])
        assert await cache.get("k") is MISSING
        await cache.clear()


async def test_tags_that_no_living_value_can_bear_are_forgotten(make_cache: Any, redis_client: Redis) -> None:
    cache = make_cache(ttl=1)
    await cache.set("k", 1, tags=["t"])
    keys = cache._keys.of("k")
    await redis_client.zadd(keys.shard.tags, {f"old{number}": 1_000_000 + number for number in range(100)})
    await cache.invalidate_tags("t")
    assert await redis_client.zcard(keys.shard.tags) == 2


async def test_versions_outlive_a_ttl_that_only_the_value_knows(
    cache: Cache[Any], redis_client: Redis, where: Any
) -> None:
    async def load() -> Loaded[str]:
        return Loaded("value", ttl=30 * 86_400)

    async def life(key: str) -> int:
        return int(await redis_client.pttl(key))

    shard = cache._keys.of("k").shard
    await cache.get_or_load("k", load)
    for version in (shard.epoch, shard.tags):
        assert await life(version) > await life(where(cache, "k")) > 28 * 86_400_000
    async with cache.write("k") as write:
        write.set("value", ttl=300 * 86_400)
    assert write.committed
    for version in (shard.epoch, shard.tags):
        assert await life(version) > await life(where(cache, "k")) > 280 * 86_400_000


async def test_a_loader_may_choose_ttl_and_tags(cache: Cache[Any], redis_client: Redis, where: Any) -> None:
    async def load() -> Any:
        return Loaded("value", ttl=5, tags=("late",))

    assert await cache.get_or_load("k", load) == "value"
    assert 4_000 < await redis_client.pttl(where(cache, "k")) <= 5_000
    await cache.invalidate_tags("late")
    assert await cache.get("k") is MISSING

    async def unwanted() -> Any:
        return Loaded("value", store=False)

    result = await cache.fetch("n", unwanted)
    assert (result.value, result.status) == ("value", "uncached")
    assert await cache.get("n") is MISSING


async def test_fetch_tells_the_story(make_cache: Any, source: Any) -> None:
    cache = make_cache(ttl=100, jitter=0)
    first = await cache.fetch("k", source.loader("k"))
    again = await cache.fetch("k", source.loader("k"))
    assert (first.status, again.status) == ("loaded", "hit")
    assert 0 <= again.age < 10 and 90 < again.ttl <= 100
    assert "c" in repr(cache) and "1 loads" in repr(cache)


async def test_any_client_and_any_loop(redis_url: str, namespace: str, client_options: dict[str, Any]) -> None:
    async with (
        Redis.from_url(redis_url, **client_options) as client,
        Cache[Any](client, "c", ttl=60, namespace=namespace, deadline=5) as cache,
    ):
        await cache.set("k", "ü")
        assert await cache.get("k") == "ü"
        await cache.invalidate_tags("t")


def test_one_cache_in_two_event_loops(redis_url: str, namespace: str) -> None:
    client = Redis.from_url(redis_url)
    cache: Cache[Any] = Cache(client, "c", ttl=60, namespace=namespace, deadline=5)

    async def use() -> Any:
        async def load() -> str:
            return "value"

        try:
            return await cache.get_or_load("k", load)
        finally:
            await cache.aclose()
            await client.aclose()

    assert asyncio.run(use()) == asyncio.run(use()) == "value"
