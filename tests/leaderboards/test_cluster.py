"""Boards on a real Cluster of three nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from redis.asyncio import RedisCluster
from redis.crc import key_slot

from aredis_patterns import Leaderboard, PipelinedRedisCluster, Trending
from aredis_patterns.testing import LocalCluster


@pytest.fixture
async def cluster(redis_cluster: LocalCluster) -> AsyncGenerator[PipelinedRedisCluster, None]:
    async with PipelinedRedisCluster.from_url(redis_cluster.url) as client:
        yield client
        await client.flushall(target_nodes="primaries")


async def test_every_verb(cluster: PipelinedRedisCluster) -> None:
    for number in range(6):  # several names, so that they lie on several nodes
        board = Leaderboard(
            cluster,
            f"b{number}",
            deadline=10,
            ties="first",
            ranking="dense",
            data=True,
            max_size=3,
            windows=["all", "day", "week"],
            tz="UTC",
        )
        for score, member in enumerate(["a", "b", "c", "d"]):
            await board.add_score(member, score, data={"n": score})
        assert [entry.member for entry in await board.get_top()] == ["d", "c", "b"]
        assert (await board.increment_score("b", 10)).rank == 1
        assert await board.window("day").get_ranks(["b", "d"]) == {"b": 1, "d": 2}
        assert [entry.member for entry in await board.get_around_user("d", 1)] == ["b", "d", "c"]
        assert await board.remove("b") >= 3
        assert await board.trim(1) >= 3
        await board.clear()
        assert await board.size() == 0


async def test_merging_needs_a_common_group(cluster: PipelinedRedisCluster) -> None:
    boards = [Leaderboard(cluster, f"b{number}", group="game", deadline=10) for number in range(3)]
    for number, board in enumerate(boards[:2]):
        await board.add_score("ada", number + 1)
    assert await boards[2].merge(boards[:2], ttl=60) == 1
    assert await boards[2].get_score("ada") == 3
    alone = Leaderboard(cluster, "alone", deadline=10)
    with pytest.raises(ValueError, match="group="):
        await boards[2].merge([alone], ttl=60)


async def test_increments_count_once_while_the_slot_moves(
    redis_cluster: LocalCluster, cluster: PipelinedRedisCluster
) -> None:
    board = Leaderboard(cluster, "moving", deadline=20)
    await board.add_score("ada", 0)
    slot = key_slot(board._keys[0].encode())
    home = redis_cluster.owner(slot)
    away = (home + 1) % 3
    done = asyncio.Event()
    count = 0

    async def write() -> None:
        nonlocal count
        while not done.is_set():
            await board.increment_score("ada")
            count += 1

    async def move() -> None:
        await redis_cluster.move(slot, home, away)
        await redis_cluster.move(slot, away, home)
        done.set()

    await asyncio.gather(move(), *(write() for _ in range(8)))
    assert await board.get_score("ada") == count > 0


async def test_a_watch_hears_writes_on_any_node(cluster: PipelinedRedisCluster, redis_cluster: LocalCluster) -> None:
    async with RedisCluster.from_url(redis_cluster.url) as stock, asyncio.timeout(30):
        for number in range(4):
            board = Leaderboard(cluster, f"live{number}", live=True, deadline=10)
            writer = Leaderboard(stock, f"live{number}", live=True, deadline=10)
            await board.add_score("ada", 1)
            async with aclosing(board.watch("ada")) as changes:
                await anext(changes)
                await writer.add_score("bob", 2)
                assert (await anext(changes)).rank == 2
        await writer._rules.commands.aclose()


async def test_trending(cluster: PipelinedRedisCluster) -> None:
    trending = Trending(cluster, "t", half_life=3600, deadline=10)
    await asyncio.gather(*(trending.hit("a") for _ in range(20)), trending.hit("b"))
    assert [entry.member for entry in await trending.get_top()] == ["a", "b"]
