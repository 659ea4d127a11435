"""Activity against plain Python sets, and what is refused."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from aredis_patterns import ActivityTracker, Expression, WindowClosed, WrongKeyType
from aredis_patterns.analytics._days import CHUNK, Days, When, in_chunks
from aredis_patterns.analytics._expression import compile_counts
from aredis_patterns.analytics._models import ActivityModel
from aredis_patterns.analytics._scripts import Status
from aredis_patterns.testing import FaultProxy, assert_round_trips, cancel_everywhere

TODAY = datetime.now(UTC).date()
IDS = st.sets(st.one_of(st.integers(0, 40), st.sampled_from([7, 8, 63, 64, 1000, 70_001])), max_size=12)
TREES: st.SearchStrategy[Any] = st.recursive(
    st.integers(0, 3),
    lambda inner: st.tuples(st.sampled_from("&|-^"), inner, inner),
    max_leaves=8,
)
SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def build(tree: Any, leaves: list[Any]) -> Any:
    """The tree over expressions, or over sets: both have the four operators."""
    if isinstance(tree, int):
        return leaves[tree]
    operator, left, right = tree
    a, b = build(left, leaves), build(right, leaves)
    return {"&": lambda: a & b, "|": lambda: a | b, "-": lambda: a - b, "^": lambda: a ^ b}[operator]()


@SETTINGS
@given(sets=st.lists(IDS, min_size=4, max_size=4), trees=st.lists(TREES, min_size=1, max_size=4))
async def test_expressions_and_sets_agree(
    redis_client: Redis, namespace: str, sets: list[set[int]], trees: list[Any]
) -> None:
    """Days, a flag, empty ones; several results from one program."""
    tracker = ActivityTracker(redis_client, "t", retention=86_400 * 30, namespace=namespace, deadline=10)
    await redis_client.unlink(*(key for leaf in _leaves(tracker) for key in leaf.leaves()))
    for number, ids in enumerate(sets[:3]):
        await tracker.mark_many(ids, TODAY - timedelta(days=number))
    await tracker.set_flag("f", *sets[3])
    leaves = _leaves(tracker)
    expressions = [build(tree, leaves) for tree in trees]
    expected = [build(tree, sets) for tree in trees]
    assert await tracker.count_many(expressions) == [len(each) for each in expected]
    for expression, ids in zip(expressions, expected, strict=True):
        assert await expression.count() == len(ids)
        assert [user async for user in expression.ids(chunk=16)] == sorted(ids)
        assert await expression.contains(7) is (7 in ids)


def _leaves(tracker: ActivityTracker) -> list[Expression]:
    return [*(tracker.day(TODAY - timedelta(days=number)) for number in range(3)), tracker.flag("f")]


async def test_the_recipe_of_the_article(tracker: ActivityTracker) -> None:
    yesterday = TODAY - timedelta(days=1)
    await tracker.mark_active(1)
    await tracker.mark_active(2)
    await tracker.mark_active(2, yesterday)
    await tracker.mark_active(3, yesterday.isoformat())
    assert await tracker.was_active(2) and not await tracker.was_active(3)
    assert await tracker.was_active(3, yesterday)
    assert await tracker.count_active() == await tracker.count_active(yesterday) == 2
    assert await tracker.active_all_days([TODAY, yesterday]) == 1
    assert await tracker.active_any_day([TODAY, yesterday]) == 3


async def test_two_hundred_mixed_questions_at_once_are_exact_and_leave_nothing(
    tracker: ActivityTracker, keys: Any, redis_client: Redis
) -> None:
    """The shared temporary key of the recipe gives wrong numbers to two concurrent callers."""
    days = [TODAY - timedelta(days=number) for number in range(6)]
    model = ActivityModel()
    rng = random.Random(8)
    for day in days:
        ids = rng.sample(range(2000), 700)
        await tracker.mark_many(ids, day)
        for user in ids:
            model.mark(user, day)
    before = await keys()

    async def ask(number: int) -> None:
        chosen = random.Random(number).sample(days, 2 + number % 4)
        sets = [model.active([day]) for day in chosen]
        if number % 3 == 0:
            assert await tracker.active_all_days(chosen) == len(set.intersection(*sets))
        elif number % 3 == 1:
            assert await tracker.active_any_day(chosen) == len(set.union(*sets))
        else:
            a, b = (tracker.day(day) for day in chosen[:2])
            assert await tracker.count_many([a - b, a ^ b, a]) == [
                len(sets[0] - sets[1]),
                len(sets[0] ^ sets[1]),
                len(sets[0]),
            ]

    await asyncio.gather(*(ask(number) for number in range(200)))
    after = await keys()
    assert after.keys() == before.keys(), "no key left"
    assert all(ttl > 0 for ttl in after.values()), "none without TTL"


async def test_reads_create_nothing(tracker: ActivityTracker, keys: Any) -> None:
    assert await tracker.was_active(5) is False
    assert await tracker.count_active() == 0
    assert await (tracker.day() & tracker.flag("none")).count() == 0
    assert [user async for user in tracker.day() - tracker.flag("none")] == []
    await tracker.unmark(5)
    await tracker.set_flag("none", 5, value=False)
    assert await keys() == {}


async def test_marking_again_and_unmarking(tracker: ActivityTracker) -> None:
    for _ in range(2):
        await tracker.mark_active(5)
    assert await tracker.count_active() == 1
    for _ in range(2):
        await tracker.unmark(5)
    assert await tracker.count_active() == await tracker.week().count() == 0
    await tracker.mark_active(5)
    assert await tracker.week().count() == await tracker.month().count() == 1, "derived, so never out of step"


async def test_who_is_inactive_is_not_counted_to_the_end_of_the_byte(tracker: ActivityTracker) -> None:
    """NOT of {2} has seven bits; users minus actives has what it has."""
    await tracker.set_flag("users", 0, 1, 2)
    await tracker.mark_active(2)
    assert [user async for user in tracker.flag("users") - tracker.day()] == [0, 1]
    await tracker.mark_active(5000)
    assert await (tracker.day() - tracker.flag("users")).count() == 1, "the longer one loses nothing"


@pytest.mark.parametrize("user_id", [-1, 2**27, 2**32, True, 1.0, 1.5, "1", None, b"1", math.nan])
async def test_ids_that_are_none_are_refused_before_any_io(user_id: Any) -> None:
    tracker = ActivityTracker(Redis(port=1), "t", retention=60)
    for call in (
        tracker.mark_active(user_id),
        tracker.was_active(user_id),
        tracker.unmark(user_id),
        tracker.mark_many([1, user_id]),
        tracker.set_flag("f", user_id),
        tracker.day().contains(user_id),
    ):
        with pytest.raises(ValueError, match="an id is a whole number, 0 to 134217727"):
            await call


async def test_a_larger_bound_is_asked_for(redis_client: Redis, namespace: str) -> None:
    tracker = ActivityTracker(redis_client, "t", retention=60, max_id=10, namespace=namespace, deadline=10)
    await tracker.mark_active(10)
    with pytest.raises(ValueError, match="0 to 10"):
        await tracker.mark_active(11)
    with pytest.raises(ValueError, match="max_id"):
        ActivityTracker(redis_client, "t", retention=60, max_id=2**32)


async def test_naive_datetimes_and_days_to_come_are_refused() -> None:
    tracker = ActivityTracker(Redis(port=1), "t", retention=60)
    with pytest.raises(ValueError, match="naive"):
        await tracker.mark_active(1, datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="naive"):
        tracker.day(datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="future"):
        await tracker.mark_active(1, date(2126, 1, 1))
    with pytest.raises(ValueError, match="Invalid isoformat"):
        tracker.day("yesterday")
    with pytest.raises(ValueError, match="at least"):
        await tracker.active_all_days([])
    with pytest.raises(TypeError):
        _ = tracker.day() & {1, 2}  # type: ignore[operator]
    with pytest.raises(ValueError, match="one tracker"):
        _ = tracker.day() & ActivityTracker(Redis(port=1), "t", retention=60).day()


@pytest.mark.parametrize(
    ("tz", "moment", "expected"),
    [
        ("UTC", datetime(2026, 3, 28, 23, 30, tzinfo=UTC), date(2026, 3, 28)),
        ("Europe/Berlin", datetime(2026, 3, 28, 23, 30, tzinfo=UTC), date(2026, 3, 29)),
        ("Europe/Berlin", datetime(2026, 3, 29, 22, 30, tzinfo=UTC), date(2026, 3, 30)),
        ("America/New_York", datetime(2026, 11, 1, 4, 30, tzinfo=UTC), date(2026, 11, 1)),
        ("Pacific/Kiritimati", datetime(2026, 11, 1, 10, 30, tzinfo=UTC), date(2026, 11, 2)),
    ],
)
async def test_days_begin_where_the_time_zone_says(
    redis_client: Redis, namespace: str, tz: str, moment: datetime, expected: date
) -> None:
    tracker = ActivityTracker(
        redis_client, "t", retention=timedelta(days=3000), tz=tz, namespace=namespace, deadline=10
    )
    await tracker.mark_active(1, moment)
    assert await tracker.was_active(1, expected)
    assert [key async for key in redis_client.scan_iter(match=f"{namespace}*{expected}")]


async def test_a_day_expires_some_time_after_its_end(redis_client: Redis, namespace: str) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    tracker = ActivityTracker(redis_client, "t", retention=3600, tz=berlin, namespace=namespace, deadline=10)
    await tracker.mark_active(1)
    (key,) = [key async for key in redis_client.scan_iter(match=f"{namespace}*")]
    tomorrow = datetime.now(berlin).date() + timedelta(days=1)
    midnight = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=berlin)
    assert await redis_client.pexpiretime(key) == (midnight.timestamp() + 3600) * 1000


async def test_a_day_that_is_no_longer_kept_is_refused(redis_client: Redis, namespace: str, keys: Any) -> None:
    tracker = ActivityTracker(redis_client, "t", retention=3600, namespace=namespace, deadline=10)
    with pytest.raises(WindowClosed, match="no longer kept"):
        await tracker.mark_active(1, date(2020, 1, 1))
    assert await keys() == {}


async def test_a_day_before_1970_is_no_longer_kept(redis_client: Redis, namespace: str, keys: Any) -> None:
    tracker = ActivityTracker(redis_client, "t", retention=3600, namespace=namespace, deadline=10)
    with pytest.raises(WindowClosed):
        await tracker.mark_active(1, "1969-07-20")
    assert await keys() == {}


async def test_midnight_between_two_scripts_counts_nobody_twice() -> None:
    days = Days("t", "UTC", 3600)
    today = days.today()
    sent: list[tuple[int, date]] = []

    async def send(chunk: Sequence[int], when: When) -> Status:
        sent.append((chunk[0], when.day))
        return Status(1, today.closes) if chunk[0] and when.day == today.day else Status(0, 0)

    await in_chunks(days, range(3 * CHUNK), None, send)
    tomorrow = today.day + timedelta(days=1)
    first, second, third = 0, CHUNK, 2 * CHUNK
    assert sent == [*((n, today.day) for n in (first, second, third)), (second, tomorrow), (third, tomorrow)]


async def test_sets_of_another_tracker_are_refused(
    tracker: ActivityTracker, redis_client: Redis, namespace: str
) -> None:
    other = ActivityTracker(redis_client, "other", retention=3600, namespace=namespace)
    for expression in (other.day(), other.week()):
        with pytest.raises(ValueError, match="another tracker"):
            await tracker.count_many([expression])


async def test_members_of_an_enum_are_ids(tracker: ActivityTracker) -> None:
    class User(IntEnum):
        ADA = 5

    await tracker.mark_active(User.ADA)
    assert await tracker.was_active(5)
    assert await tracker.was_active(User.ADA)


async def test_the_servers_clock_decides_which_day_it_is(tracker: ActivityTracker) -> None:
    tracker._days.clock.offset_ms = -5 * 86_400_000
    await tracker.mark_active(1)
    assert await tracker.was_active(1, TODAY) or await tracker.was_active(1, TODAY + timedelta(days=1))


async def test_each_verb_is_one_round_trip(fault_proxy: FaultProxy, namespace: str) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        tracker = ActivityTracker(client, "t", retention=timedelta(days=400), namespace=namespace, deadline=10)
        calls = [
            lambda: tracker.mark_active(1),
            lambda: tracker.mark_many(range(2500)),
            lambda: tracker.was_active(1),
            lambda: tracker.count_active(),
            lambda: tracker.active_all_days([TODAY, TODAY - timedelta(days=1)]),
            lambda: tracker.active_any_day([TODAY, TODAY - timedelta(days=1)]),
            lambda: ((tracker.week() & tracker.month()) - tracker.flag("x")).count(),
            lambda: tracker.retention(cohorts=4, periods=4),
            lambda: tracker.funnel("visit", "signup", "pay", days=7),
            lambda: tracker.stickiness(),
            lambda: tracker.daily(TODAY - timedelta(days=30), TODAY),
        ]
        for call in calls:
            await call()
            async with assert_round_trips(fault_proxy, 1):
                await call()


async def test_a_lost_reply_is_no_error(fault_proxy: FaultProxy, namespace: str) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        tracker = ActivityTracker(client, "t", retention=60, namespace=namespace, deadline=10)
        await tracker.mark_active(1)
        fault_proxy.drop_replies("EVALSHA", times=1)
        await tracker.mark_active(2)
        fault_proxy.drop_replies("EVALSHA", times=1)
        assert await (tracker.day() | tracker.flag("x")).count() == 2


async def test_cancelled_anywhere_nothing_is_left(tracker: ActivityTracker, keys: Any) -> None:
    await tracker.mark_many(range(100))
    await tracker.mark_many(range(50), TODAY - timedelta(days=1))
    await (tracker.day() ^ tracker.flag("x")).count()

    async def critical() -> None:
        assert await (tracker.week() & tracker.day()).count() == 100
        assert [user async for user in tracker.day().ids(chunk=4)] == list(range(100))

    async def check() -> None:
        assert not [key for key in await keys() if "scratch" in key]

    await cancel_everywhere(critical, check=check)


async def test_a_wrong_key_is_named_and_nothing_is_left(
    tracker: ActivityTracker, redis_client: Redis, keys: Any
) -> None:
    (key,) = tracker.day(TODAY).leaves()
    await redis_client.sadd(key, "x")
    await redis_client.expire(key, 60)
    await tracker.mark_active(1, TODAY - timedelta(days=1))
    for call in (
        tracker.mark_active(1, TODAY),
        tracker.count_active(TODAY),
        tracker.was_active(1, TODAY),
        (tracker.day(TODAY - timedelta(days=1)) & tracker.day(TODAY)).count(),
        tracker.day(TODAY).ids().__anext__(),
    ):
        with pytest.raises(WrongKeyType) as caught:
            await call
        assert key in caught.value.keys
    assert not [name for name in await keys() if "scratch" in name]


async def test_ten_million_ids_are_read_in_flat_memory(tracker: ActivityTracker, redis_client: Redis) -> None:
    """1.25 MB of bits, of which a few thousand are set; each chunk is 64 KiB."""
    import tracemalloc

    wanted = sorted(random.Random(3).sample(range(10_000_000), 3000))
    raw = bytearray(10_000_000 // 8)
    for user in wanted:
        raw[user // 8] |= 128 >> user % 8
    (key,) = tracker.day(TODAY).leaves()
    await redis_client.set(key, bytes(raw), ex=600)
    tracemalloc.start()
    found = 0
    async for user in tracker.day(TODAY).ids(chunk=65_536):
        assert user == wanted[found]
        found += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == 3000
    assert peak < 1_000_000
    assert [user async for user in tracker.day(TODAY).ids(start=wanted[-2])] == wanted[-2:]


def test_what_is_shared_is_computed_once_and_registers_are_used_again() -> None:
    tracker = ActivityTracker(Redis(port=1), "t", retention=60)
    a, b, c = (tracker.day(date(2026, 11, number)) for number in (1, 2, 3))
    cohort = a | b
    program = compile_counts((cohort, cohort & c, cohort & a, (cohort & c) - a))
    assert program.sets == [key for leaf in (a, b, c) for key in leaf.leaves()]
    assert program.steps.count('"OR"') == 1
    assert program.steps.count('"AND"') == 3
    assert program.scratch <= 3
    assert compile_counts((a & b & c,)).steps == '[["AND",4,1,2,3],["COUNT",4]]'
    assert repr((a & b) - tracker.flag("staff")) == "((active 2026-11-01 & active 2026-11-02) - flag staff)"
