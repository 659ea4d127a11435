"""Trackers, counters and indexes on a real Cluster of three nodes; and in a second event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster

from aredis_patterns import ActivityTracker, IdIndex, Leaderboard, PipelinedRedisCluster, Recorder, UniqueCounter
from aredis_patterns.testing import LocalCluster

TODAY = datetime.now(UTC).date()


@pytest.fixture(params=[PipelinedRedisCluster, RedisCluster], ids=["pipelined", "stock"])
async def cluster(request: pytest.FixtureRequest, redis_cluster: LocalCluster) -> AsyncGenerator[Any, None]:
    async with request.param.from_url(redis_cluster.url) as client:
        yield client
        await client.flushall(target_nodes="primaries")


async def test_every_verb(cluster: Any) -> None:
    for number in range(4):  # several names, so that they lie on several nodes
        tracker = ActivityTracker(cluster, f"t{number}", retention=timedelta(days=90), deadline=10)
        await tracker.mark_many(range(50))
        await tracker.mark_many(range(25, 75), TODAY - timedelta(days=1))
        await tracker.set_flag("staff", 30)
        both = tracker.day() & tracker.day(TODAY - timedelta(days=1)) - tracker.flag("staff")
        assert await both.count() == 24
        assert [user async for user in both] == [user for user in range(25, 50) if user != 30]
        table = await tracker.retention(by="day", cohorts=2, periods=2)
        assert [row.counts for row in table.rows] == [(50, 25), (50, None)]
        assert [step.count for step in (await tracker.funnel("active", "pay")).steps] == [50, 0]

        counter = UniqueCounter(cluster, f"c{number}", retention=timedelta(days=9), deadline=10)
        async with Recorder() as recorder:
            for page in ("home", "about"):
                recorder.track_visitor(counter, page, page)
                recorder.track_visitor(counter, page, "ada", at=TODAY - timedelta(days=2))
        assert await counter.get_weekly_uniques("home") == 2
        assert await counter.rolling("home", "about", days=7) == 3
        assert await counter.merge("home", "about", into="all", days=3) == [1, 0, 2]

        index = IdIndex(cluster, f"i{number}", reversible=True, deadline=10)
        assert await index.ids_of(["a", "b", "a"]) == [0, 1, 0]
        assert await index.names([1, 2]) == ["b", None]


def test_a_second_event_loop(redis_url: str, namespace: str) -> None:
    """Objects are made outside of any loop and used in two, one after the other."""
    client = Redis.from_url(redis_url)
    tracker = ActivityTracker(client, "t", retention=3600, namespace=namespace, deadline=10)
    board = Leaderboard(client, "b", ttl=60, namespace=namespace, deadline=10)
    recorder = Recorder()

    async def use() -> tuple[int, float | None]:
        recorder.mark_active(tracker, 1)
        await recorder.flush()
        await board.increment_score("ada")
        found = (await tracker.count_active(), await board.get_score("ada"))
        await tracker._commands.aclose()
        await client.aclose()
        return found

    assert asyncio.run(use()) == (1, 1)
    assert asyncio.run(use()) == (1, 2)
