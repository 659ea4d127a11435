"""`ActivityTracker`: who was active when, one bit per user and day."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from datetime import tzinfo
from typing import Any, Final, TypedDict

from aredis_patterns._core.calendar import Day, Period, check_period
from aredis_patterns._core.checks import check_whole
from aredis_patterns._core.durations import to_seconds
from aredis_patterns.analytics._days import CHUNK, Days, When, in_chunks
from aredis_patterns.analytics._expression import Expression, Leaf, compile_counts, intersection_of, union_of
from aredis_patterns.analytics._keys import ActivityKeys
from aredis_patterns.analytics._reports import Reports
from aredis_patterns.analytics._scripts import Status, evaluate_sets, mark_active, of_the_right_type
from aredis_patterns.pipelining import lane_of
from aredis_patterns.types import Command, RedisClient, Seconds

__all__ = ["ActivityTracker", "TrackerOptions"]

LARGEST_ID: Final = 2**32 - 1


class TrackerOptions(TypedDict, total=False):
    """The keyword arguments of `ActivityTracker`, for type checkers. What they mean is said there."""

    max_id: int
    tz: tzinfo | str
    namespace: str
    deadline: Seconds


class ActivityTracker(Reports):
    """Exact counts of who did what on which day: daily actives, retention, funnels, any combination of sets.

    Guarantee: exact, and marking is idempotent, so it may be sent again and is, after a lost reply. Counting runs in one
    script on the server, which nobody else can interfere with and which leaves no key behind. One round trip per verb.

    Memory: one bit per id up to the largest one that was marked, per event and day: 125 KB for a million users. That is
    why ids are bounded: one mark of id 2^32-1 would allocate 512 MB. Ids should be dense; `IdIndex` makes them so.

    Args:
        client: any `redis.asyncio` client. It is never closed here.
        name: names the tracker; all that it keeps shares a slot of a Cluster.
        retention: how long a day is kept after its end. Flags have no end: they are data about users, not about days.
        max_id: the largest id that is taken. 2^27 - 1 by default, 16 MiB per event and day at most; raise it knowingly.
        tz: in which time zone days begin. The server's clock decides which day it is.
        deadline: seconds until a silent server raises ReplyTimeout. Counting takes about 0.1 ms per MB of bitmaps.

        tracker = ActivityTracker(redis, "shop", retention=timedelta(days=90))
        await tracker.mark_active(42)
        await tracker.count_active()
        await (tracker.week() - tracker.flag("staff")).count()
    """

    def __init__(
        self,
        client: RedisClient,
        name: str,
        *,
        retention: Seconds,
        max_id: int = 2**27 - 1,
        tz: tzinfo | str = "UTC",
        namespace: str = "ap",
        deadline: Seconds = 2.0,
    ) -> None:
        self.name: Final = name
        self.max_id: Final = check_whole(max_id, "max_id", 0, LARGEST_ID)
        self._keys: Final = ActivityKeys(namespace, name)
        self._days = Days(name, tz, retention)
        self._commands: Final = lane_of(client)
        self._deadline: Final = to_seconds(deadline, "deadline")

    # marking ----------------------------------------------------------------------------------------------------------

    async def mark_active(self, user_id: int, at: Day | None = None, *, event: str = "active") -> None:
        """Remember that a user did this today, or on the day `at`. One round trip, O(1).

        Raises ValueError for ids that are negative, fractional, bool, text or above `max_id`, and for naive datetimes, before
        any I/O; WindowClosed when that day is no longer kept.
        """
        await self._mark([self.check_id(user_id)], at, event, 1)

    async def mark_many(self, user_ids: Iterable[int], at: Day | None = None, *, event: str = "active") -> None:
        """The same for many users: one round trip, in scripts of 1,000."""
        await self._mark([self.check_id(user_id) for user_id in user_ids], at, event, 1)

    async def unmark(self, user_id: int, at: Day | None = None, *, event: str = "active") -> None:
        """Forget that a user did this on that day. One round trip; creates no key."""
        await self._mark([self.check_id(user_id)], at, event, 0)

    async def set_flag(self, flag: str, *user_ids: int, value: bool = True) -> None:
        """Give users a flag that has no day ("staff", "paying"), or take it away. One round trip."""
        ids = [self.check_id(user_id) for user_id in user_ids]
        key = self._keys.flag(flag)
        await asyncio.gather(
            *(
                mark_active(
                    self._commands,
                    day=key,
                    value=int(value),
                    opens=0,
                    closes=0,
                    expires=0,
                    ids=ids[at : at + CHUNK],
                    deadline=self._deadline,
                )
                for at in range(0, len(ids), CHUNK)
            )
        )

    # asking -----------------------------------------------------------------------------------------------------------

    async def was_active(self, user_id: int, at: Day | None = None, *, event: str = "active") -> bool:
        """Whether a user did this on that day (today). False for a day that nobody has marked. One round trip, O(1)."""
        return bool((await self.read([("GETBIT", self._key(at, event), self.check_id(user_id))]))[0])

    async def count_active(self, at: Day | None = None, *, event: str = "active") -> int:
        """How many did this on that day (today). One round trip."""
        return await self.day(at, event=event).count()

    async def active_all_days(self, days: Iterable[Day], *, event: str = "active") -> int:
        """How many did this on every one of these days. One round trip."""
        return await intersection_of([self.day(day, event=event) for day in days]).count()

    async def active_any_day(self, days: Iterable[Day], *, event: str = "active") -> int:
        """How many did this on one of these days at least. One round trip."""
        return await union_of([self.day(day, event=event) for day in days]).count()

    async def count_many(self, expressions: Sequence[Expression]) -> list[int]:
        """Count several sets in one round trip; what they share is computed once."""
        for expression in expressions:
            if expression.tracker is not self:
                raise ValueError(f"{expression!r} is a set of another tracker")
        if all(isinstance(expression, Leaf) for expression in expressions):
            return await self.read([("BITCOUNT", key) for expression in expressions for key in expression.leaves()])
        program = compile_counts(tuple(expressions))
        scratch = [self._keys.scratch(number) for number in range(1, program.scratch + 1)]
        return await evaluate_sets(
            self._commands,
            registers=[*program.sets, *scratch],
            sets=len(program.sets),
            program=program.steps,
            deadline=self._deadline,
        )

    # sets -------------------------------------------------------------------------------------------------------------

    def day(self, at: Day | None = None, *, event: str = "active") -> Expression:
        """Who did this on that day (today). No I/O."""
        day = self._days.today().day if at is None else self._days.calendar.date_of(at)
        return Leaf(self, self._keys.day(event, day), f"{event} {day}")

    def days(self, first: Day, last: Day, *, event: str = "active") -> Expression:
        """Who did this between two days, both included. No I/O."""
        newest = self._days.calendar.date_of(last)
        count = (newest - self._days.calendar.date_of(first)).days + 1
        if count < 1:
            raise ValueError(f"the first day must not be after the last, got {first!r} and {last!r}")
        return union_of([self.day(day, event=event) for day in self._days.until(newest, count)])

    def last(self, count: int, until: Day | None = None, *, event: str = "active") -> Expression:
        """Who did this in `count` days, of which `until` (today) is the last. No I/O."""
        check_whole(count, "count", 1)
        return union_of([self.day(day, event=event) for day in self._days.until(until, count)])

    def week(self, at: Day | None = None, *, event: str = "active") -> Expression:
        """Who did this in the ISO week with that day (today). No I/O."""
        return self.period("week", at, event=event)

    def month(self, at: Day | None = None, *, event: str = "active") -> Expression:
        """Who did this in the month with that day (today). No I/O."""
        return self.period("month", at, event=event)

    def period(self, period: Period, at: Day | None = None, *, event: str = "active") -> Expression:
        """Who did this in the day, week or month with that day (today). No I/O."""
        check_period(period)
        day = self._days.today().day if at is None else self._days.calendar.date_of(at)
        return union_of([self.day(each, event=event) for each in self._days.calendar.span(period, day).days()])

    def flag(self, flag: str) -> Expression:
        """Who has a flag. No I/O."""
        return Leaf(self, self._keys.flag(flag), f"flag {flag}")

    # inside -----------------------------------------------------------------------------------------------------------

    def check_id(self, user_id: object) -> int:
        """The id; ValueError for anything that is not an int from 0 to `max_id`."""
        return check_whole(user_id, "an id", 0, self.max_id)

    async def read(self, commands: Sequence[Command]) -> list[Any]:
        """Read-only commands on keys of this tracker, in one round trip; the first error is raised."""
        keys = [str(command[1]) for command in commands]
        if not keys:
            return []
        replies = await self._commands.batch(commands, key=keys[0], deadline=self._deadline)
        for key, reply in zip(keys, replies, strict=True):
            if isinstance(reply, BaseException):
                await of_the_right_type(_raise(reply), key)
        return replies

    async def _mark(self, ids: list[int], at: Day | None, event: str, value: int) -> None:
        await in_chunks(self._days, ids, at, lambda chunk, when: self._send(chunk, when, event, value))

    def _send(self, ids: Sequence[int], when: When, event: str, value: int) -> Coroutine[Any, Any, Status]:
        return mark_active(
            self._commands,
            day=self._keys.day(event, when.day),
            value=value,
            opens=when.opens,
            closes=when.closes,
            expires=when.expires,
            ids=ids,
            deadline=self._deadline,
        )

    def _key(self, at: Day | None, event: str) -> str:
        return self._keys.day(event, self._days.today().day if at is None else self._days.calendar.date_of(at))

    def __repr__(self) -> str:
        return (
            f"<ActivityTracker {self.name!r}, ids to {self.max_id}, kept {self._days.retention_ms / 86_400_000:g} days>"
        )


async def _raise(error: BaseException) -> None:
    raise error
