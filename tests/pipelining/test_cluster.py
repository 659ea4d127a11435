"""Cluster lanes on a real three-node Cluster: routing, moving slots, lost nodes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.crc import key_slot
from redis.exceptions import ConnectionError, ResponseError

from aredis_patterns.exceptions import ServerUnavailable
from aredis_patterns.pipelining import PipelinedRedisCluster, inbox_of, lane_of, listener_of
from aredis_patterns.testing import LocalCluster

SLOTS = 16384


@pytest.fixture
async def cluster(redis_cluster: LocalCluster) -> AsyncGenerator[PipelinedRedisCluster, None]:
    async with PipelinedRedisCluster.from_url(redis_cluster.url) as client:
        yield client
        await client.flushall(target_nodes="primaries")


async def test_keys_ride_on_the_lane_of_their_node(cluster: PipelinedRedisCluster) -> None:
    keys = [f"key:{number}" for number in range(300)]
    await asyncio.gather(*(cluster.set(key, key) for key in keys))
    assert await asyncio.gather(*(cluster.get(key) for key in keys)) == [key.encode() for key in keys]
    statistics = cluster.statistics()
    assert statistics.commands >= 600
    assert statistics.mean_batch > 5


async def test_scripts_go_to_the_node_of_their_keys(cluster: PipelinedRedisCluster) -> None:
    keys = [f"n:{number}" for number in range(50)]
    text = "return redis.call('INCR', KEYS[1])"
    assert await asyncio.gather(*(cluster.eval(text, 1, key) for key in keys)) == [1] * 50


async def test_patterns_work_on_a_stock_cluster_client(redis_cluster: LocalCluster) -> None:
    async with RedisCluster.from_url(redis_cluster.url) as stock:
        commands = lane_of(stock)
        keys = [f"stock:{number}" for number in range(60)]
        assert await asyncio.gather(*(commands.call("INCR", key, key=key) for key in keys)) == [1] * 60
        replies = await commands.batch([("SET", "{a}1", 1), ("INCR", "{a}1"), ("HGET", "{a}1", "f")], key="{a}1")
        assert replies[:2] == [b"OK", 2]
        assert isinstance(replies[2], ResponseError)
        await commands.aclose()
        await stock.flushall(target_nodes="primaries")


async def test_every_increment_counts_once_while_slots_move(
    redis_cluster: LocalCluster, cluster: PipelinedRedisCluster
) -> None:
    key = "moving"
    slot = key_slot(key.encode())
    home = redis_cluster.owner(slot)
    away = (home + 1) % 3
    done = asyncio.Event()
    counts = [0] * 8

    async def count(number: int) -> None:
        while not done.is_set():
            await cluster.incr(key)
            counts[number] += 1

    async def move() -> None:
        for _ in range(3):
            await redis_cluster.move(slot, home, away)
            await redis_cluster.move(slot, away, home)
        done.set()

    await asyncio.gather(move(), *(count(number) for number in range(8)))
    assert int(await cluster.get(key)) == sum(counts) > 0


async def test_ask_is_followed_while_a_slot_is_half_way(
    redis_cluster: LocalCluster, cluster: PipelinedRedisCluster
) -> None:
    key = "asking"
    slot = key_slot(key.encode())
    home = redis_cluster.owner(slot)
    away = (home + 1) % 3
    await cluster.set(key, 0)
    await redis_cluster.move(slot, home, away, stop_half_way=True)
    try:
        answers = await asyncio.gather(*(cluster.incr(key) for _ in range(50)))
        assert sorted(answers) == list(range(1, 51))
    finally:
        await redis_cluster.move(slot, home, away)
        await redis_cluster.move(slot, away, home)
    assert await cluster.get(key) == b"50"


async def test_what_spans_slots_takes_the_stock_path(cluster: PipelinedRedisCluster) -> None:
    await cluster.mset_nonatomic({"a": 1, "b": 2, "c": 3})
    assert await cluster.mget_nonatomic("a", "b", "c") == [b"1", b"2", b"3"]
    assert await cluster.delete("a", "b", "c") == 3


async def test_a_killed_connection_is_replaced(redis_cluster: LocalCluster, cluster: PipelinedRedisCluster) -> None:
    keys = [f"kill:{number}" for number in range(20)]
    await asyncio.gather(*(cluster.incr(key) for key in keys))
    for server in redis_cluster.servers:
        async with Redis.from_url(server.url) as client:
            await client.client_kill_filter(_type="normal", skipme=True)
    answers = await asyncio.gather(*(cluster.incr(key) for key in keys), return_exceptions=True)
    assert all(answer == 2 or isinstance(answer, ConnectionError) for answer in answers)
    assert await cluster.incr("kill:other") == 1


async def test_a_cluster_that_is_not_there_answers_soon() -> None:
    cluster = PipelinedRedisCluster(host="127.0.0.1", port=1)
    start = time.monotonic()
    with pytest.raises(ServerUnavailable):
        await cluster.get("a")
    with pytest.raises(ServerUnavailable):
        await lane_of(cluster).call("GET", "a", key="a", deadline=0.2)
    assert time.monotonic() - start < 3
    await cluster.aclose()


async def test_shard_channels_are_heard_on_their_nodes_and_follow_their_slots(
    redis_cluster: LocalCluster, cluster: PipelinedRedisCluster
) -> None:
    listener = listener_of(cluster)
    heard: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()
    gaps: asyncio.Queue[int] = asyncio.Queue()
    names = [f"shard:{number}" for number in range(12)]
    for number, name in enumerate(names):
        await listener.subscribe(
            name,
            lambda data, channel, pattern: heard.put_nowait((data, channel)),
            kind="shard",
            on_gap=lambda number=number: gaps.put_nowait(number),
        )
    assert listener.statistics().connections == 3
    moved = names[5]
    slot = key_slot(moved.encode())
    home = redis_cluster.owner(slot)
    away = (home + 1) % 3
    await redis_cluster.move(slot, home, away)
    try:
        assert await asyncio.wait_for(gaps.get(), 10) == 5
        for number, name in enumerate(names):
            await lane_of(cluster).call("SPUBLISH", name, number, key=name)
        told = [await asyncio.wait_for(heard.get(), 10) for _ in names]
        assert sorted(told, key=lambda each: int(each[0])) == [
            (str(number).encode(), name.encode()) for number, name in enumerate(names)
        ]
    finally:
        await redis_cluster.move(slot, away, home)


async def test_an_inbox_hears_what_any_node_publishes(
    redis_cluster: LocalCluster, cluster: PipelinedRedisCluster
) -> None:
    inbox = inbox_of(cluster, "test")
    await inbox.open()
    woken: asyncio.Queue[bytes | None] = asyncio.Queue()
    inbox.expect("me", woken.put_nowait)
    script = "return redis.call('PUBLISH', ARGV[1], 'me' .. string.char(10) .. KEYS[1])"
    keys = [f"{{{number}}}" for number in range(6)]
    for key in keys:
        await lane_of(cluster).call("EVAL", script, 1, key, inbox.channel, key=key)
    assert {await asyncio.wait_for(woken.get(), 10) for _ in keys} == {key.encode() for key in keys}


async def test_what_a_lost_node_carried_is_heard_elsewhere_again() -> None:
    with LocalCluster() as own:
        async with PipelinedRedisCluster.from_url(own.url) as client:
            listener = listener_of(client)
            gaps: asyncio.Queue[None] = asyncio.Queue()
            subscription = await listener.subscribe(
                "news", lambda data, channel, pattern: None, on_gap=lambda: gaps.put_nowait(None)
            )
            where = [server for server in own.servers if f":{server.port}" in repr(listener.plain_node)]
            where[0].kill()
            await asyncio.wait_for(gaps.get(), 20)
            assert subscription.live
