"""Batches: every index accounted for, whatever happens."""

from __future__ import annotations

import asyncio
import os
import random
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import DataError, ResponseError

from aredis_patterns import Batch, BatchFailed
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.pipelining import lane_of
from aredis_patterns.testing import FaultProxy, LocalCluster, assert_round_trips


async def test_a_thousand_commands_are_one_round_trip(lossy: Redis, fault_proxy: FaultProxy, namespace: str) -> None:
    await lane_of(lossy).call("PING")
    async with assert_round_trips(fault_proxy, 1):
        report = await Batch(lossy).run(("SET", f"{namespace}:{n}", n, "EX", 60) for n in range(1000))
    assert (report.done, report.complete) == (1000, True)


async def test_any_client_and_iterable(redis_url: str, client_options: dict[str, Any], namespace: str) -> None:
    async def commands() -> AsyncIterator[tuple[str, ...]]:
        for number in range(25):
            yield ("SET", f"{namespace}:{number}", str(number), "EX", "60")

    async with Redis.from_url(redis_url, **client_options) as client:
        settled: list[int] = []
        batch = Batch(client, max_commands=10, progress=settled.append)
        assert (await batch.run(commands())).done == 25
        assert (len(settled), settled[-1]) == (3, 25)
        assert settled == sorted(settled)
        keys = [f"{namespace}:{number}" for number in range(25)]
        assert await batch.results(("GET", key) for key in keys) == [str(number).encode() for number in range(25)]
        assert await batch.run([]) == await batch.run(iter(()))
        await lane_of(client).aclose()


async def test_ten_thousand_with_thirty_seven_bad_ones(redis_client: Redis, namespace: str) -> None:
    await redis_client.lpush(f"{namespace}:list", "x")
    bad = set(random.Random(7).sample(range(10_000), 37))

    def commands() -> Iterator[tuple[str, ...]]:
        for number in range(10_000):
            yield ("INCR", f"{namespace}:list") if number in bad else ("SETEX", f"{namespace}:{number}", "60", "v")

    report = await Batch(redis_client, on_error="collect").run(commands())
    assert set(report.failed) == bad
    assert all(isinstance(error, ResponseError) for error in report.failed.values())
    assert (report.done, report.unknown, report.unsent) == (9963, {}, [])
    with pytest.raises(BatchFailed) as failed:
        await Batch(redis_client, max_commands=100).run(commands())
    report = failed.value.report
    assert set(report.failed) == {number for number in bad if number < report.done + len(report.failed)}
    assert report.done + len(report.failed) <= min(bad) // 100 * 100 + 200


async def test_what_cannot_be_packed_or_batched_fails_alone(redis_client: Redis, namespace: str) -> None:
    key = f"{namespace}:n"
    commands: list[Any] = [
        ("INCR", key),
        ("SET", key, None),
        ("BLPOP", key, 0),
        ("SUBSCRIBE", "news"),
        ("SET", key, [1]),
        (),
        ("INCR", key),
        "GET a",
        None,
        7,
    ]
    report = await Batch(redis_client, on_error="collect").run(commands)
    assert (report.done, sorted(report.failed)) == (2, [1, 2, 3, 4, 5, 7, 8, 9])
    assert isinstance(report.failed[1], DataError)
    assert "cannot be part of a batch" in str(report.failed[2])
    assert "a sequence like" in str(report.failed[7])
    results = await Batch(redis_client, on_error="collect").results(commands)
    assert (results[0], results[6], isinstance(results[1], DataError)) == (3, 4, True)


async def test_a_lost_connection_is_unknown_and_nothing_is_sent_again(
    lossy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    await lane_of(lossy).call("PING")
    lost = fault_proxy.drop_replies("INCR", nth=150, times=1)
    keys = [f"{namespace}:{number}" for number in range(400)]
    report = await Batch(lossy, max_commands=100, on_error="collect").run(("INCR", key) for key in keys)
    await lost.until_applied()
    values = await redis_client.mget(keys)
    assert all(value in (b"1", None) for value in values)
    done = [at for at in range(400) if at not in report.unknown]
    assert all(values[at] == b"1" for at in done)
    assert report.done == len(done)
    assert 149 in report.unknown
    assert len(report.unknown) <= 200


async def test_a_server_that_goes_away_leaves_the_rest_unsent(own_server: EmbeddedServer) -> None:
    async with Redis.from_url(own_server.url) as client:
        taken = 0

        async def commands() -> AsyncIterator[tuple[str, str]]:
            nonlocal taken
            for number in range(10_000):
                taken += 1
                if number == 250:
                    await own_server.kill()
                yield ("INCR", f"k{number}")

        report = await Batch(client, max_commands=100, on_error="collect").run(commands())
        assert report.done + len(report.unknown) + len(report.unsent) == taken < 1000
        assert report.unsent
        assert "unsent" in str(report)
        with pytest.raises(BatchFailed):
            report.raise_if_incomplete()
        await lane_of(client).aclose()


async def test_an_error_of_the_iterable_ends_the_batch_after_what_is_under_way(
    redis_client: Redis, namespace: str
) -> None:
    def commands() -> Iterator[tuple[str, ...]]:
        for _ in range(25):
            yield ("INCR", f"{namespace}:n")
        raise LookupError("no more rows")

    with pytest.raises(LookupError) as raised:
        await Batch(redis_client, max_commands=10).run(commands())
    assert await redis_client.get(f"{namespace}:n") == b"20"
    assert raised.value.__notes__ == ["The batch until then: 20 done, 0 failed, 0 unknown, 0 unsent."]


async def test_large_values_end_a_chunk_whatever_their_type(redis_client: Redis, namespace: str) -> None:
    for value in ("x" * 1000, b"x" * 1000, bytearray(1000), memoryview(b"x" * 1000)):
        settled: list[int] = []
        batch = Batch(redis_client, max_bytes=5000, progress=settled.append)
        await batch.run([("SETEX", f"{namespace}:k", 60, value)] * 20)  # type: ignore[list-item]
        assert len(settled) == 4


@pytest.mark.timeout(600)
async def test_memory_stays_flat(redis_client: Redis, namespace: str) -> None:
    async def peak(count: int) -> int:
        tracemalloc.start()
        await Batch(redis_client).run(("SETEX", f"{namespace}:{n % 100}", 60, "v" * 50) for n in range(count))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = await peak(4_000), await peak(1_000_000 if os.environ.get("AREDIS_PATTERNS_LONG") else 40_000)
    assert many < few * 1.5


async def test_order_per_key_holds(redis_client: Redis, namespace: str) -> None:
    key = f"{namespace}:list"
    await Batch(redis_client, max_commands=7).run(("RPUSH", key, number) for number in range(100))
    assert [int(each) for each in await redis_client.lrange(key, 0, -1)] == list(range(100))
    await redis_client.delete(key)


async def test_a_cancelled_batch_leaves_no_task(redis_client: Redis, namespace: str) -> None:
    started = asyncio.Event()

    async def endless() -> AsyncIterator[tuple[str, str, int, str]]:
        while True:
            started.set()
            yield ("SETEX", f"{namespace}:k", 60, "v")
            await asyncio.sleep(0)

    await lane_of(redis_client).call("PING")  # the lane's own tasks are not what this is about
    before = asyncio.all_tasks()
    task = asyncio.create_task(Batch(redis_client, max_commands=5).run(endless()))
    await started.wait()
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() - before == set()
    assert await redis_client.ping()


async def test_on_a_cluster_each_command_goes_to_its_node(redis_cluster: LocalCluster) -> None:
    cluster = RedisCluster.from_url(redis_cluster.url)  # knows no node yet
    try:
        report = await Batch(cluster, max_commands=100).run(("SETEX", f"batch:{n}", 60, n) for n in range(300))
        assert report.done == 300
        values = await Batch(cluster).results(("GET", f"batch:{n}") for n in range(300))
        assert values == [str(n).encode() for n in range(300)]
    finally:
        await lane_of(cluster).aclose()
        await cluster.aclose()


async def test_a_callback_that_raises_ends_it_after_every_node_has_answered(redis_cluster: LocalCluster) -> None:
    cluster = RedisCluster.from_url(redis_cluster.url)
    try:
        await lane_of(cluster).call("PING")
        before = asyncio.all_tasks()

        def refuse(index: int, reply: Any) -> None:
            raise LookupError(index)

        with pytest.raises(LookupError):
            await Batch(cluster).run([("SETEX", f"batch:{n}", 60, n) for n in range(30)], on_reply=refuse)
        assert not [task for task in asyncio.all_tasks() - before if "send_group" in repr(task)]
    finally:
        await lane_of(cluster).aclose()
        await cluster.aclose()


async def test_a_cluster_that_is_not_there_leaves_everything_unsent() -> None:
    cluster = RedisCluster(host="127.0.0.1", port=1)
    report = await Batch(cluster, on_error="collect").run([("GET", "a"), ("GET", "b")])
    assert report.unsent == [0, 1]
    await cluster.aclose()


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="max_commands"):
        Batch(Redis(), max_commands=0)
    with pytest.raises(ValueError, match="on_error"):
        Batch(Redis(), on_error="ignore")  # type: ignore[arg-type]
