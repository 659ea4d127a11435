"""KeyScan and hot_keys: counts, rate, idle times, lost connections, and which method was used."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import PermissionDenied
from aredis_patterns.monitoring import KeyScan, ScanProgress, hot_keys
from aredis_patterns.testing import FaultProxy


async def fill(client: Redis, number: int, prefix: str = "user") -> None:
    for start in range(0, number, 5000):
        await client.mset({f"{prefix}:{at}": "x" * 10 for at in range(start, min(number, start + 5000))})


async def knows_no_touch(client: Redis) -> bool:
    """7.2 and later."""
    try:
        await client.execute_command("CLIENT", "NO-TOUCH", "OFF")
    except ResponseError:
        return False
    return True


async def test_every_key_is_counted_by_shape_and_type(own_client: Redis) -> None:
    await fill(own_client, 3000)
    await own_client.set("big", b"x" * 100_000, ex=100)
    await own_client.rpush("list:1", *range(5000))
    await own_client.zadd("{board}:z", {str(n): n for n in range(500)})
    report = await KeyScan(own_client, rate=1e6).run()
    assert (report.keys, report.complete, report.without_ttl, report.vanished) == (3003, True, 3002, 0)
    assert {group.name: group.keys for group in report.groups} == {"user:*": 3000, "big": 1, "list:*": 1, "{*}:z": 1}
    assert {group.name: group.keys for group in report.types} == {"string": 3001, "list": 1, "zset": 1}
    first = report.biggest[0]
    quiet = await knows_no_touch(own_client)
    assert (first.key, first.type, first.elements) == (b"big", "string", 100_000 if quiet else None)
    assert first.ttl is not None
    assert 0 < first.ttl <= 100
    assert {key.key: key.elements for key in report.biggest}[b"list:1"] == (5000 if quiet else None)
    assert report.bytes == sum(group.bytes for group in report.groups) == sum(group.bytes for group in report.types)


async def test_the_rate_is_kept(own_client: Redis) -> None:
    await fill(own_client, 50_000)
    progress: list[ScanProgress] = []
    began = time.monotonic()
    report = await KeyScan(own_client, rate=40_000, top=0, progress=progress.append).run()
    elapsed = time.monotonic() - began
    assert report.keys >= 50_000
    assert elapsed >= (50_000 - 1_000) / 40_000
    assert [each.keys for each in progress] == sorted(each.keys for each in progress)
    assert progress[-1].total == 50_000


@pytest.mark.parametrize("binary", [None, "/usr/bin/redis-server"])
async def test_idle_times_stay_as_they_are(binary: str | None) -> None:
    """Redis 7.0 has no CLIENT NO-TOUCH: there the elements of big keys are not asked for."""
    try:
        server = await EmbeddedServer(binary=binary).__aenter__()
    except OSError:
        pytest.skip("no redis-server on this machine")
    try:
        async with Redis.from_url(server.url) as client:
            await client.rpush("l", *range(100))
            await client.set("s", "x")
            # An idle time of a second or more, without waiting for it: RESTORE sets it.
            for key in ("l", "s"):
                dump = await client.dump(key)
                await client.restore(key, 0, dump, replace=True, idletime=1000)
            report = await KeyScan(client).run()
            assert report.keys == 2
            for key in ("l", "s"):
                assert await client.object("IDLETIME", key) >= 1000
            asked = await knows_no_touch(client)
            assert {key.elements for key in report.biggest} == ({100, 1} if asked else {None})
    finally:
        await server.aclose()


async def test_match_type_groups_and_an_early_end(own_client: Redis) -> None:
    await fill(own_client, 1000)
    await fill(own_client, 1000, "cart")
    await own_client.sadd("user:set", "a")
    scan = KeyScan(own_client, match="user:*", kind="string", group=r"^(\w+):", rate=1e6)
    report = await scan.run()
    assert (report.keys, [group.name for group in report.groups]) == (1000, ["user"])
    some = await KeyScan(own_client, max_keys=300, rate=1e6).run()
    assert (some.keys, some.complete) == (300, False)
    capped = await KeyScan(own_client, group=lambda key: key, max_groups=10, rate=1e6).run()
    assert len(capped.groups) == 11
    assert capped.groups[0].name == "(other)"


async def test_a_lost_connection_is_replaced_and_nothing_is_counted_twice(
    own_server: EmbeddedServer, own_client: Redis
) -> None:
    await fill(own_client, 3000)
    async with FaultProxy(own_server.url) as proxy, Redis.from_url(proxy.url) as client:
        lost = proxy.drop_replies("PTTL", nth=700, times=2)
        report = await KeyScan(client, rate=1e6).run()
    assert lost.applied >= 1
    assert (report.keys, report.complete) == (3000, True)


async def test_other_callers_keep_their_connection(own_client: Redis) -> None:
    await fill(own_client, 2000)
    await KeyScan(own_client, rate=1e6).run()
    assert all("T" not in each["flags"] for each in await own_client.client_list())


async def test_no_permission_says_which(own_server: EmbeddedServer, own_client: Redis) -> None:
    await fill(own_client, 10)
    await own_client.acl_setuser("app", enabled=True, nopass=True, keys="*", commands=["+@all", "-memory"])
    async with Redis.from_url(own_server.url, username="app", password="x") as client:
        with pytest.raises(PermissionDenied, match="MEMORY"):
            await KeyScan(client).run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"rate": float("inf")}, "rate"),
        ({"samples": -1}, "samples"),
        ({"max_groups": 0}, "max_groups"),
        ({"top": -1}, "top"),
        ({"max_keys": 0}, "max_keys"),
    ],
)
def test_nonsense_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KeyScan(Redis(), **options)  # type: ignore[arg-type]


# hot keys --------------------------------------------------------------------------------------------------------------


async def test_hot_keys_by_listening(own_server: EmbeddedServer, own_client: Redis) -> None:
    async with Redis.from_url(own_server.url) as client:
        running = asyncio.create_task(hot_keys(client, duration=0.5, limit=2))
        async with asyncio.timeout(10):
            while not any("O" in each["flags"] for each in await own_client.client_list()):
                await asyncio.sleep(0.01)
        for number in range(60):
            await own_client.get("hot")
            if number % 3 == 0:
                await own_client.mget("warm", "hot")
                await own_client.get(f"cold:{number}")
        found = await running
    assert found.method == "monitor"
    assert [(key.key, key.weight) for key in found.keys] == [(b"hot", 80), (b"warm", 20)]
    assert found.sampled >= 100


async def test_hot_keys_by_access_counters(own_client: Redis) -> None:
    await own_client.config_set("maxmemory-policy", "allkeys-lfu")
    await own_client.config_set("lfu-log-factor", 0)
    await fill(own_client, 1000)
    for _ in range(50):
        await own_client.get("user:7")
    found = await hot_keys(own_client, duration=1, limit=3)
    assert (found.method, found.sampled, len(found.keys)) == ("lfu", 1000, 3)
    assert found.keys[0].key == b"user:7"
    before = await own_client.object("FREQ", "user:8")
    await hot_keys(own_client, duration=1)
    assert await own_client.object("FREQ", "user:8") == before


async def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        await hot_keys(Redis(), limit=0)
