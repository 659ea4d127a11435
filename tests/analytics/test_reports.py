"""Retention, funnels and stickiness equal what plain sets say; and how they look."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest
from redis.asyncio import Redis

from aredis_patterns import ActivityTracker
from aredis_patterns.analytics import CohortRow, RetentionTable
from aredis_patterns.analytics._models import ActivityModel
from aredis_patterns.testing import FaultProxy, no_leaked_keys

MONDAY = date(2026, 1, 5)
TODAY = datetime.now(UTC).date()


async def _seed(client: Redis, tracker: ActivityTracker, model: ActivityModel) -> None:
    """Bitmaps made here: 50,000 users are faster written than marked."""
    for (event, day), users in model.days.items():
        raw = bytearray(max(users) // 8 + 1)
        for user in users:
            raw[user // 8] |= 128 >> user % 8
        (key,) = tracker.day(day, event=event).leaves()
        await client.set(key, bytes(raw), ex=600)


async def test_twenty_by_twenty_weeks_of_fifty_thousand_users(fault_proxy: FaultProxy, namespace: str) -> None:
    """In one round trip, where a count per cell takes 440."""
    weeks = 39
    first = TODAY - timedelta(days=TODAY.weekday() + 7 * (weeks - 1))
    rng = random.Random(20)
    model = ActivityModel()
    for user in range(50_000):
        joined = rng.randrange(weeks * 7 - 6)
        model.mark(user, first + timedelta(days=joined), "signup")
        for _ in range(rng.randrange(4)):
            model.mark(user, first + timedelta(days=rng.randrange(joined, weeks * 7)))
    periods = [[first + timedelta(days=7 * week + day) for day in range(7)] for week in range(weeks)]
    expected = model.retention("signup", "active", periods, 20)[:20]
    async with Redis.from_url(fault_proxy.url) as client:
        tracker = ActivityTracker(client, "big", retention=timedelta(days=400), namespace=namespace, deadline=20)
        await _seed(client, tracker, model)
        await (tracker.day() | tracker.flag("x")).count()  # the server gets to know the script
        async with no_leaked_keys(client, namespace), fault_proxy.count() as counted:
            table = await tracker.retention(cohort="signup", cohorts=20, periods=20, start=first)
        assert counted.round_trips <= 2
        assert counted.round_trips == 1
    assert [[row.size, *row.counts] for row in table.rows] == expected
    assert table.rows[0].period == f"{first.isocalendar().year}-W{first.isocalendar().week:02d}"


@pytest.mark.parametrize("by", ["day", "week", "month"])
async def test_small_tables_of_any_period(tracker: ActivityTracker, redis_client: Redis, by: Any) -> None:
    rng = random.Random(5)
    model = ActivityModel()
    for user in range(60):
        for _ in range(6):
            model.mark(user, TODAY - timedelta(days=rng.randrange(120)), rng.choice(["active", "signup"]))
    await _seed(redis_client, tracker, model)
    spans = tracker._days.calendar.spans(by, TODAY, 4)
    expected = model.retention("signup", "active", [span.days() for span in spans], 3)
    table = await tracker.retention(cohort="signup", by=by, cohorts=4, periods=3)
    assert [[row.size, *row.counts] for row in table.rows] == [[*row, *[None] * (4 - len(row))] for row in expected], (
        "what has not begun is None"
    )
    even_users = range(0, 60, 2)
    await tracker.set_flag("even", *even_users)
    even = await tracker.retention(cohort="signup", by=by, cohorts=4, periods=3, within=tracker.flag("even"))
    halves = [model.active(span.days(), "signup") & set(even_users) for span in spans]
    assert [row.size for row in even.rows] == [len(half) for half in halves]


async def test_a_funnel_is_prefix_intersections(tracker: ActivityTracker, redis_client: Redis) -> None:
    rng = random.Random(6)
    model = ActivityModel()
    for user in range(300):
        for event, chance in (("visit", 0.9), ("signup", 0.5), ("pay", 0.3)):
            if rng.random() < chance:
                model.mark(user, TODAY - timedelta(days=rng.randrange(7)), event)
    await _seed(redis_client, tracker, model)
    days = [TODAY - timedelta(days=number) for number in range(7)]
    funnel = await tracker.funnel("visit", "signup", "pay", days=7)
    assert [step.count for step in funnel.steps] == model.funnel(["visit", "signup", "pay"], days)
    assert funnel == await tracker.funnel("visit", "signup", "pay", first=days[-1])
    own = await tracker.funnel("visit", ("paid on the last day", tracker.day(TODAY, event="pay")), days=7)
    assert own.steps[1].count == len(model.active(days, "visit") & model.active([TODAY], "pay"))
    assert funnel.steps[1].of_previous == pytest.approx(100 * funnel.steps[1].count / funnel.steps[0].count)
    nothing = await tracker.funnel("unknown", "visit")
    assert nothing.steps[1].of_first is None
    with pytest.raises(ValueError, match="step"):
        await tracker.funnel()


async def test_stickiness(tracker: ActivityTracker) -> None:
    for number in range(40):
        await tracker.mark_many(range(10 + number), TODAY - timedelta(days=number))
    found = await tracker.stickiness()
    assert (found.dau, found.wau, found.mau) == (10, 16, 39)
    assert found.dau_mau == pytest.approx(10 / 39)
    assert "0.2564" in str(found)
    past = await tracker.stickiness(TODAY - timedelta(days=39))
    assert (past.dau, past.wau, past.mau) == (49, 49, 49)
    none = await tracker.stickiness(TODAY - timedelta(days=300))
    assert (none.dau_mau, none.dau_wau, none.wau_mau) == (None, None, None)
    daily = await tracker.daily(TODAY - timedelta(days=2), TODAY)
    assert list(daily.values()) == [12, 11, 10]


def test_a_table_prints_and_exports() -> None:
    table = RetentionTable(
        "week", "signup", "active", (CohortRow("2026-W01", 200, (100, 50)), CohortRow("2026-W02", 0, (0, None)))
    )
    assert str(table).splitlines() == [
        "week      size   +0  +1",
        "--------  ----  ---  --",
        "2026-W01   200  100  50",
        "2026-W02     0    0",
    ]
    assert table.to_csv().splitlines() == ["week,size,+0,+1", "2026-W01,200,100,50", "2026-W02,0,0,"]
    assert table.to_dicts()[1] == {"week": "2026-W02", "size": 0, "+0": 0, "+1": None}
    assert table.percent() == [(50.0, 25.0), (None, None)]


def test_a_heat_map_is_a_picture_and_a_table() -> None:
    table = RetentionTable("week", "a", "b", (CohortRow("<2026-W01 & co>", 200, (200, 50, None)),))
    picture = ElementTree.fromstring(table.to_svg())
    cells = picture.findall("{http://www.w3.org/2000/svg}rect")
    assert [cell.get("fill") for cell in cells] == ["#08519c", "#bbd0e6"]
    assert "25%" in table.to_svg()
    html = ElementTree.fromstring(table.to_html())
    assert [cell.text for cell in html.iter("td")] == ["200", "100%", "25%", None]
    assert "<script" not in table.to_html() and "&lt;2026-W01 &amp; co&gt;" in table.to_html()


@pytest.mark.parametrize(
    "options", [{"by": "year"}, {"cohorts": 0}, {"periods": True}, {"cohorts": 200, "periods": 200}]
)
async def test_tables_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="got"):
        await ActivityTracker(Redis(port=1), "t", retention=60).retention(**options)
