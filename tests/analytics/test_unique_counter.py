"""Unique visitors: within the stated error, merged once, never out of date."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import Estimate, PipelinedRedis, UniqueCounter, WindowClosed, WrongKeyType
from aredis_patterns.testing import FaultProxy, assert_round_trips

TODAY = datetime.now(UTC).date()


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


async def test_the_recipe_of_the_article(counter: UniqueCounter) -> None:
    for day in range(9):
        for visitor in range(10):
            await counter.track_visitor("home", day + visitor, at=ago(day))
    for _ in range(3):
        await counter.track_visitor("home", "ada")
    assert await counter.get_unique_visitors("home") == 11
    assert await counter.get_unique_visitors("home", day=ago(1)) == 10
    assert await counter.get_weekly_uniques("home") == 17
    assert await counter.rolling("home", days=2) == 12
    assert await counter.rolling("home", days=2, until=ago(7)) == 11
    assert await counter.get_unique_visitors("nobody was here") == 0


async def test_estimates_are_within_the_stated_error(counter: UniqueCounter) -> None:
    """Four standard errors: one test in 16,000 would be beyond."""
    await counter.track_visitors("home", range(50_000))
    found = await counter.get_unique_visitors("home")
    assert abs(found - 50_000) < 4 * 0.0081 * 50_000
    assert found.low < found < found.high
    assert isinstance(found, int) and found + 1 == int(found) + 1
    assert repr(Estimate(1000)) == "<Estimate 1000, 95 % between 984 and 1016>"
    assert f"{found}" == str(int(found))


async def test_closed_days_are_merged_once(counter: UniqueCounter, keys: Any, redis_client: Redis) -> None:
    for day in range(7):
        await counter.track_visitors("home", range(day * 10, day * 10 + 20), at=ago(day))
    before = set(await keys())
    assert await counter.get_weekly_uniques("home") == 80
    (union,) = set(await keys()) - before
    ends = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC) + timedelta(days=1)
    assert (await keys())[union] <= (ends - datetime.now(UTC)).total_seconds() * 1000 + 1000
    await counter.track_visitor("home", "new today")
    assert await counter.get_weekly_uniques("home") == 81
    assert set(await keys()) - before == {union}


async def test_a_late_visitor_is_counted_although_the_days_were_merged(counter: UniqueCounter, keys: Any) -> None:
    for day in range(5):
        await counter.track_visitor("home", f"v{day}", at=ago(day))
    assert await counter.rolling("home", days=5) == 5
    assert await counter.rolling("home", days=2) == 2
    await counter.track_visitor("home", "late", at=ago(3))
    assert len([key for key in await keys() if ":u:" in key]) == 1, "only the union with that day is dropped"
    assert await counter.rolling("home", days=5) == 6
    assert await counter.rolling("home", days=2) == 2


async def test_asking_creates_nothing_and_everything_expires(counter: UniqueCounter, keys: Any) -> None:
    await counter.get_weekly_uniques("home")
    await counter.get_unique_visitors("home", "about")
    assert await keys() == {}
    await counter.track_visitor("home", 1)
    await counter.track_visitor("home", 1, at=ago(2))
    await counter.get_weekly_uniques("home")
    found = await keys()
    assert found
    assert all(0 < ttl <= 41 * 86_400_000 for ttl in found.values())


async def test_pages_together_and_merged(counter: UniqueCounter) -> None:
    await counter.track_visitors("blog/1", range(10))
    await counter.track_visitors("blog/2", range(5, 20))
    await counter.track_visitors("blog/2", range(100, 103), at=ago(1))
    assert await counter.get_unique_visitors("blog/1", "blog/2") == 20
    assert await counter.rolling("blog/1", "blog/2", days=7) == 23
    for _ in range(2):
        assert await counter.merge("blog/1", "blog/2", into="blog", days=2) == [3, 20]
    assert await counter.get_weekly_uniques("blog") == 23
    await counter.track_visitor("blog/1", "late", at=ago(1))
    await counter.merge("blog/1", into="blog", days=2)
    assert await counter.get_weekly_uniques("blog") == 24, "the union of closed days was dropped"


async def test_each_verb_is_one_round_trip(fault_proxy: FaultProxy, namespace: str) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        counter = UniqueCounter(client, "site", retention=timedelta(days=40), namespace=namespace, deadline=10)
        for call in (
            lambda: counter.track_visitor("home", 1),
            lambda: counter.track_visitors("home", range(3000)),
            lambda: counter.track_visitor("home", 1, at=ago(3)),
            lambda: counter.get_unique_visitors("home"),
            lambda: counter.get_weekly_uniques("home"),
            lambda: counter.rolling("home", days=30),
            lambda: counter.merge("home", into="all", days=7),
        ):
            await call()
            async with assert_round_trips(fault_proxy, 1):
                await call()


async def test_a_lost_reply_is_no_error(fault_proxy: FaultProxy, namespace: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        counter = UniqueCounter(client, "site", retention=60, namespace=namespace, deadline=10)
        await counter.track_visitor("home", 1)
        fault_proxy.drop_replies("EVALSHA", times=1)
        await counter.track_visitor("home", 2)
        assert await counter.get_unique_visitors("home") == 2


async def test_concurrent_tracking_and_asking(counter: UniqueCounter) -> None:
    await asyncio.gather(*(counter.track_visitor("home", n % 100, at=ago(n % 3)) for n in range(300)))
    answers = await asyncio.gather(*(counter.rolling("home", days=3) for _ in range(50)))
    assert len(set(answers)) == 1
    assert abs(answers[0] - 100) <= 4


async def test_the_servers_clock_decides_which_day_it_is(counter: UniqueCounter) -> None:
    counter._days.clock.offset_ms = 5 * 86_400_000
    await counter.track_visitor("home", 1)
    counter._days.clock.offset_ms = -5 * 86_400_000
    counter._days._today = None
    assert await counter.get_weekly_uniques("home") == 1


async def test_a_bitmap_is_no_counter(counter: UniqueCounter, redis_client: Redis) -> None:
    key = counter._keys.day("home", TODAY)
    await redis_client.setbit(key, 7, 1)
    await redis_client.expire(key, 60)
    for call in (
        counter.get_unique_visitors("home"),
        counter.track_visitor("home", 1),
        counter.get_weekly_uniques("home"),
        counter.merge("home", into="all"),
    ):
        with pytest.raises(WrongKeyType) as caught:
            await call
        assert key in caught.value.keys


@pytest.mark.parametrize("visitor", [True, None, "", b"", 1.5])
async def test_visitors_that_are_none_are_refused_before_any_io(visitor: Any) -> None:
    counter = UniqueCounter(Redis(port=1), "site", retention=60)
    with pytest.raises(ValueError, match="visitor"):
        await counter.track_visitor("home", visitor)


async def test_what_makes_no_sense_is_refused_before_any_io() -> None:
    counter = UniqueCounter(Redis(port=1), "site", retention=timedelta(days=7))
    with pytest.raises(ValueError, match="1 to 8"):
        await counter.rolling("home", days=9)
    with pytest.raises(ValueError, match="naive"):
        await counter.track_visitor("home", 1, at=datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="future"):
        await counter.track_visitor("home", 1, at=date(2126, 1, 1))
    with pytest.raises(ValueError, match="page"):
        await counter.get_unique_visitors()
    for retention in (0, -1, float("nan"), timedelta(days=5000)):
        with pytest.raises(ValueError, match="retention"):
            UniqueCounter(Redis(port=1), "site", retention=retention)
    with pytest.raises(TypeError):
        UniqueCounter(Redis(port=1), "site")  # type: ignore[call-arg]


async def test_a_day_that_is_no_longer_kept_is_refused(redis_client: Redis, namespace: str, keys: Any) -> None:
    counter = UniqueCounter(redis_client, "site", retention=60, namespace=namespace, deadline=10)
    with pytest.raises(WindowClosed):
        await counter.track_visitor("home", 1, at=ago(10))
    with pytest.raises(WindowClosed):
        await counter.merge("home", into="all", until=ago(10))
    assert await keys() == {}


async def test_memory_as_stated(counter: UniqueCounter, redis_client: Redis) -> None:
    key = counter._keys.day("home", TODAY)
    for visitors, most in ((1, 300), (100, 1000), (1000, 4500), (20_000, 17_000)):
        await counter.track_visitors("home", range(visitors))
        assert await redis_client.memory_usage(key) < most
