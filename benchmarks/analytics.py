"""What do counting and reports cost against the recipes? Run: python -m benchmarks.analytics [--quick] [--check]

Ours against hand-written redis-py (the code of the well-known article made asynchronous) and bitmapist, which is synchronous
and is therefore asked by one caller only. It asks for a redis-py below 6, but runs with ours:
    pip install --no-deps bitmapist mako markupsafe python-dateutil six
The retention table has 20 x 20 weeks and 50,000 users.
"""

from __future__ import annotations

import random
import sys
import time
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis

from aredis_patterns import ActivityTracker, UniqueCounter
from benchmarks._report import Contest, Outcome, Target, main

USERS = 50_000
WEEKS = 20
MARK, ALL_DAYS, WEEKLY, TABLE = "mark active", "active on 7 days", "weekly uniques", "retention 20 x 20"
TODAY = datetime.now(UTC).date()
DAYS = [TODAY - timedelta(days=number) for number in range(7)]


class Recipe:
    """The article, with await."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self.numbers = count()
        self.wrong = self.asked = 0
        self.expected = 0

    async def mark(self, _: int) -> Any:
        await self.redis.setbit(f"marked:{TODAY}", next(self.numbers) % USERS, 1)

    async def all_days(self, _: int) -> int:
        keys = [f"active:{day}" for day in DAYS]
        await self.redis.bitop("AND", "temp:active_intersection", *keys)
        found: int = await self.redis.bitcount("temp:active_intersection")
        await self.redis.delete("temp:active_intersection")
        self.asked += 1
        self.wrong += found != self.expected
        return found

    async def weekly(self, _: int) -> Any:
        return await self.redis.pfcount(*(f"visitors:home:{day}" for day in DAYS))


class Ours:
    """The same questions."""

    def __init__(self, tracker: ActivityTracker, counter: UniqueCounter) -> None:
        self.tracker, self.counter = tracker, counter
        self.numbers = count()

    async def mark(self, _: int) -> Any:
        await self.tracker.mark_active(next(self.numbers) % USERS, event="marked")

    async def all_days(self, _: int) -> int:
        return await self.tracker.active_all_days(DAYS)

    async def weekly(self, _: int) -> Any:
        return await self.counter.get_weekly_uniques("home")


def bits(users: set[int]) -> bytes:
    raw = bytearray(USERS // 8 + 1)
    for user in users:
        raw[user // 8] |= 128 >> user % 8
    return bytes(raw)


def story() -> dict[tuple[str, date], set[int]]:
    """Each user signs up once and comes back now and then."""
    rng = random.Random(20)
    found: dict[tuple[str, date], set[int]] = {}
    for user in range(USERS):
        joined = rng.randrange(2 * WEEKS - 1)
        found.setdefault(("signup", TODAY - timedelta(weeks=joined)), set()).add(user)
        for _ in range(3):
            found.setdefault(("active", TODAY - timedelta(weeks=rng.randrange(joined + 1))), set()).add(user)
    return found


async def seed(client: Redis, tracker: ActivityTracker, counter: UniqueCounter, recipe: Recipe) -> None:
    rng = random.Random(7)
    week: list[set[int]] = []
    for day in DAYS:
        week.append(set(rng.sample(range(USERS), USERS * 9 // 10)))
        await client.set(f"active:{day}", bits(week[-1]))
        for event in ("active", "signup"):
            await client.delete(*tracker.day(day, event=event).leaves())
        visitors = rng.sample(range(USERS), 5000)
        await client.pfadd(f"visitors:home:{day}", *visitors)
        await counter.track_visitors("home", visitors, at=day)
    recipe.expected = len(set.intersection(*week))
    for day, users in zip(DAYS, week, strict=True):
        (key,) = tracker.day(day).leaves()
        await client.set(key, bits(users), ex=3600)


def bitmapist_table(url: str, users: dict[tuple[str, date], set[int]]) -> tuple[Any, int]:
    """A call that makes the table with bitmapist, and the number of commands that it sends."""
    import bitmapist
    from bitmapist import cohort

    parts = urlsplit(url)
    bitmapist.setup_redis("default", parts.hostname or "localhost", parts.port or 6379)
    redis: Any = bitmapist.get_redis("default")
    weeks: dict[tuple[str, date], set[int]] = {}
    for (event, day), ids in users.items():
        weeks.setdefault((event, day - timedelta(days=day.weekday())), set()).update(ids)
    for (event, monday), ids in weeks.items():
        redis.set(bitmapist.WeekEvents.from_date(event, monday).redis_key, bits(ids))

    def table() -> Any:
        return cohort.get_dates_data(
            "signup", "active", time_group="weeks", as_percent=False, num_results=WEEKS, num_of_rows=WEEKS - 1
        )

    before = redis.info("stats")["total_commands_processed"]
    table()
    return table, redis.info("stats")["total_commands_processed"] - before - 1


async def run(url: str, stack: AsyncExitStack, contest: Contest) -> Outcome:
    client, stock = [await stack.enter_async_context(Redis.from_url(url)) for _ in range(2)]
    tracker = ActivityTracker(client, "shop", retention=timedelta(days=400), namespace="bench", deadline=10)
    report = ActivityTracker(client, "report", retention=timedelta(days=400), namespace="bench", deadline=10)
    counter = UniqueCounter(client, "site", retention=timedelta(days=40), namespace="bench", deadline=10)
    ours, recipe = Ours(tracker, counter), Recipe(stock)
    await seed(client, tracker, counter, recipe)
    assert await ours.all_days(0) == recipe.expected
    users = story()
    for (event, day), ids in users.items():
        await client.set(*report.day(day, event=event).leaves(), bits(ids), ex=3600)

    async def our_table(_: int) -> Any:
        return await report.retention(cohort="signup", cohorts=WEEKS, periods=WEEKS)

    contest.add(MARK, "ours", ours.mark, callers=(1, 100))
    contest.add(MARK, "stock", recipe.mark, callers=(1, 100))
    contest.add(ALL_DAYS, "ours", ours.all_days, callers=(1, 100))
    contest.add(ALL_DAYS, "stock", recipe.all_days, callers=(1, 100))
    contest.add(WEEKLY, "ours", ours.weekly, callers=(1, 100))
    contest.add(WEEKLY, "stock", recipe.weekly, callers=(1, 100))
    contest.add(TABLE, "ours", our_table, callers=(1,))
    figures: dict[str, Any] = {}
    try:
        theirs, figures["commands of bitmapist per table"] = bitmapist_table(url, users)
    except ImportError:
        contest.console.print("bitmapist is not installed, see --help")
    else:
        mine = [[row.size, *(n for n in row.counts if n is not None)] for row in (await our_table(0)).rows]
        found = [[row[1], *(n for n in row[2:] if n != "")] for row in theirs()]
        figures["both tables are equal"] = mine == [[int(n) for n in row] for row in found]

        async def their_table(_: int) -> Any:
            return theirs()

        contest.add(TABLE, "bitmapist", their_table, callers=(1,))
    began = time.monotonic()
    await contest.measure()
    figures["wrong answers of the article's active_all_days"] = f"{recipe.wrong} of {recipe.asked}"
    figures["seconds"] = round(time.monotonic() - began)
    (key,) = report.day(TODAY - timedelta(weeks=1)).leaves()
    targets = [
        Target(f"{workload}, 100 callers, vs the article", contest.ratio(workload, 100, "ours", "stock"), least=least)
        for workload, least in ((MARK, 1), (ALL_DAYS, 1), (WEEKLY, 1))  # correct, and not slower
    ]
    targets += [
        Target(f"{TABLE}, vs bitmapist", contest.ratio(TABLE, 1, "ours", "bitmapist"), least=1),
        Target("bytes per user and day", await client.memory_usage(key) / USERS, most=0.2),
    ]
    return Outcome(targets, figures)


if __name__ == "__main__":
    sys.exit(main("analytics", __doc__, run, libraries=("redis", "hiredis", "bitmapist")))
