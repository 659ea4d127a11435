"""Retention, funnels and stickiness: sets that a tracker puts together, counted in one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from aredis_patterns._core.calendar import Day, Period, Span, check_period
from aredis_patterns._core.checks import check_whole
from aredis_patterns.analytics._records import CohortRow, Funnel, FunnelStep, RetentionTable, Stickiness

if TYPE_CHECKING:
    from aredis_patterns.analytics._days import Days
    from aredis_patterns.analytics._expression import Expression

__all__ = ["Reports"]

MOST_CELLS = 10_000


class Reports:
    """The reports of `ActivityTracker`."""

    if TYPE_CHECKING:
        _days: Days

        async def count_many(self, expressions: Sequence[Expression]) -> list[int]: ...
        def day(self, at: Day | None = None, *, event: str = "active") -> Expression: ...
        def days(self, first: Day, last: Day, *, event: str = "active") -> Expression: ...
        def last(self, count: int, until: Day | None = None, *, event: str = "active") -> Expression: ...
        def period(self, period: Period, at: Day | None = None, *, event: str = "active") -> Expression: ...

    async def retention(
        self,
        *,
        cohort: str = "active",
        activity: str = "active",
        by: Period = "week",
        cohorts: int = 8,
        periods: int = 8,
        start: Day | None = None,
        within: Expression | None = None,
    ) -> RetentionTable:
        """Who did `cohort` in one period, and how many of them did `activity` in that period and in those after it.

        One row per cohort: `cohorts` periods from `start` on, by default those that end with the current one. Column 0 is
        the period of the cohort itself. Periods that have not begun are None, not 0. `within` looks only at users of that
        set. One round trip: one script per row, side by side; other callers are served between rows. Each row is a
        snapshot of its own.
        """
        check_period(by)
        check_whole(cohorts, "cohorts", 1)
        check_whole(periods, "periods", 1)
        if cohorts * periods > MOST_CELLS:
            raise ValueError(f"a table has at most {MOST_CELLS} cells, got {cohorts} x {periods}")
        calendar, today = self._days.calendar, self._days.today().day
        newest = today if start is None else calendar.date_of(start)
        rows = calendar.spans(by, newest, cohorts) if start is None else calendar.following(by, newest, cohorts)
        # Rows share their periods, so each is put together once.
        active = {
            span.first: self.period(by, span.first, event=activity)
            for span in calendar.following(by, rows[0].first, cohorts + periods - 1)
            if span.first <= today
        }
        table = await asyncio.gather(
            *(self._cohort(self.period(by, row.first, event=cohort), row, periods, active, within) for row in rows)
        )
        return RetentionTable(
            by=by,
            cohort=cohort,
            activity=activity,
            rows=tuple(
                CohortRow(row.name, counts[0], tuple(counts[1:]) + (None,) * (periods - len(counts) + 1))
                for row, counts in zip(rows, table, strict=True)
            ),
        )

    async def funnel(
        self,
        *steps: str | tuple[str, Expression],
        first: Day | None = None,
        last: Day | None = None,
        days: int = 1,
    ) -> Funnel:
        """How many users come through each step, of those who came through all before it. One round trip, one script.

        A step is an event, or a name with any set. An event counts on every day from `first` to `last`, or in the `days`
        days up to `last` (today). Bitmaps do not know the order within that time: who paid first and visited later counts
        as well. For a strict order make the sets of later steps later days.
        """
        if not steps:
            raise ValueError("a funnel needs a step at least")
        sets: list[Expression] = []
        names: list[str] = []
        for step in steps:
            name, found = (step, self._within(step, first, last, days)) if isinstance(step, str) else step
            names.append(name)
            sets.append(sets[-1] & found if sets else found)
        counts = await self.count_many(sets)
        before = [counts[0], *counts[:-1]]
        return Funnel(tuple(map(FunnelStep, names, counts, before, [counts[0]] * len(counts))))

    async def stickiness(self, at: Day | None = None, *, event: str = "active") -> Stickiness:
        """Daily, weekly (7 days) and monthly (30 days) actives up to that day (today), and their ratios. One round trip."""
        day = self._days.until(at, 1)[0]
        sets = [self.day(day, event=event), self.last(7, day, event=event), self.last(30, day, event=event)]
        return Stickiness(day, *await self.count_many(sets))

    async def daily(self, first: Day, last: Day, *, event: str = "active") -> dict[date, int]:
        """How many were active on each day, both ends included. One round trip."""
        newest, oldest = self._days.calendar.date_of(last), self._days.calendar.date_of(first)
        wanted = self._days.until(newest, check_whole((newest - oldest).days + 1, "the number of days", 1))
        counts = await self.count_many([self.day(day, event=event) for day in wanted])
        return dict(zip(wanted, counts, strict=True))

    async def _cohort(
        self, members: Expression, row: Span, periods: int, active: dict[date, Expression], within: Expression | None
    ) -> list[int]:
        if within is not None:
            members = members & within
        since = [first for first in active if first >= row.first][:periods]
        return await self.count_many([members, *(members & active[first] for first in since)])

    def _within(self, event: str, first: Day | None, last: Day | None, days: int) -> Expression:
        if first is not None:
            return self.days(first, self._days.today().day if last is None else last, event=event)
        return self.last(days, last, event=event)
