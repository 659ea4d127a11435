"""A tour of the analytics. Never run; mypy and pyright must accept it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import assert_type
from uuid import UUID

from redis.asyncio import Redis, RedisCluster

from aredis_patterns import (
    ActivityTracker,
    Estimate,
    Expression,
    Funnel,
    IdIndex,
    Patterns,
    Recorder,
    RetentionTable,
    Stickiness,
    UniqueCounter,
)


async def activity(client: Redis) -> None:
    tracker = ActivityTracker(client, "shop", retention=timedelta(days=90), tz="Europe/Berlin")
    await tracker.mark_active(1, date(2026, 11, 25), event="signup")
    assert_type(await tracker.was_active(1), bool)
    assert_type(await tracker.active_all_days(["2026-11-24", date(2026, 11, 25)]), int)
    regulars = (tracker.day() & tracker.week()) - tracker.flag("staff") ^ tracker.last(30)
    assert_type(regulars, Expression)
    assert_type(await regulars.count(), int)
    async for user in regulars:
        assert_type(user, int)
    assert_type(await tracker.retention(by="week", cohorts=8), RetentionTable)
    assert_type(await tracker.funnel("visit", ("pay", tracker.day(event="pay"))), Funnel)
    assert_type(await tracker.stickiness(), Stickiness)


async def visitors(cluster: RedisCluster) -> None:
    counter = UniqueCounter(cluster, "site", retention=timedelta(days=40))
    await counter.track_visitor("home", "ada")
    assert_type(await counter.get_weekly_uniques("home"), Estimate)


async def ids(client: Redis) -> None:
    index = IdIndex(client, "users", names=UUID, reversible=True)
    assert_type(index, IdIndex[UUID])
    assert_type(await index.id_of(UUID(int=1)), int)
    assert_type(await index.names([1]), list[UUID | None])


async def hub(p: Patterns) -> None:
    tracker = p.activity("shop", retention=3600)
    assert_type(tracker, ActivityTracker)
    async with Recorder() as recorder:
        assert_type(recorder.mark_active(tracker, 1), bool)
    assert_type(p.unique_counter("site", retention=3600), UniqueCounter)
    assert_type(p.id_index("users", reversible=True), IdIndex[str])
