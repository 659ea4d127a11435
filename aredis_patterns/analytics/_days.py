"""Which day something counts for, and how long that day is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import date, timedelta, tzinfo
from typing import Any, Final, NamedTuple, TypeVar

from aredis_patterns._core.calendar import Calendar, Day, ServerClock, Span
from aredis_patterns._core.durations import to_milliseconds
from aredis_patterns.analytics._scripts import Status
from aredis_patterns.exceptions import WindowClosed
from aredis_patterns.types import Seconds

__all__ = ["CHUNK", "Days", "When", "in_chunks"]

CHUNK: Final = 1000
"""Ids or visitors in one script."""

T = TypeVar("T")


class When(NamedTuple):
    """A day as the scripts take it. `opens` and `closes` are 0 when the caller has named the day."""

    day: date
    opens: int
    closes: int
    expires: int


class Days:
    """The days of one counter or tracker. No I/O."""

    def __init__(self, name: str, tz: tzinfo | str, retention: Seconds) -> None:
        self.name: Final = name
        self.calendar: Final = Calendar(tz)
        self.clock: Final = ServerClock()
        self.retention_ms: Final = to_milliseconds(retention, "retention")
        self._today: When | None = None

    def today(self) -> When:
        """Today on the server, as far as we know; the script checks it."""
        now, known = self.clock.now_ms(), self._today
        if known is None or not known.opens <= now < known.closes:
            span = self.span(self.calendar.date_at(now))
            known = self._today = When(span.first, span.start_ms, span.end_ms, span.end_ms + self.retention_ms)
        return known

    def when(self, at: Day | None) -> When:
        """The day `at`, or today. ValueError for a naive datetime, and for a day that is yet to come."""
        if at is None:
            return self.today()
        day = self.calendar.date_of(at)
        if day > self.today().day + timedelta(days=1):  # one day of grace: the server's clock may be before ours
            raise ValueError(f"a day must not be in the future, got {at!r}")
        # Never below 1: a day before 1970 is over, not kept for ever.
        return When(day, 0, 0, max(1, self.span(day).end_ms + self.retention_ms))

    def learn(self, server_ms: float) -> None:
        """The server's clock disagrees."""
        self.clock.learn(server_ms)
        self._today = None

    def closed(self, day: date) -> WindowClosed:
        """The error for a day that is no longer kept."""
        return WindowClosed(self.name, f"{day} is no longer kept")

    def span(self, day: date) -> Span:
        """The day as a span of real time."""
        return self.calendar.span("day", day)

    def until(self, last: Day | None, days: int) -> list[date]:
        """So many days in a row, oldest first, of which `last` (or today) is the newest."""
        newest = self.today().day if last is None else self.calendar.date_of(last)
        return [newest - timedelta(days=n) for n in range(days - 1, -1, -1)]


async def in_chunks(
    days: Days, items: Sequence[T], at: Day | None, send: Callable[[Sequence[T], When], Coroutine[Any, Any, Status]]
) -> None:
    """Write all of them for the day `at`, or for today; WindowClosed when that day is no longer kept.

    Midnight may strike between two scripts, and the clocks may differ: then only those that were refused go again, so
    nobody counts for two days.
    """
    when = days.when(at)
    chunks = [items[n : n + CHUNK] for n in range(0, len(items), CHUNK)]
    for _ in range(3):
        if len(chunks) == 1:  # nearly always: no task is needed for one script
            replies = [await send(chunks[0], when)]
        else:
            replies = await asyncio.gather(*(send(chunk, when) for chunk in chunks))
        if any(reply.status == 2 for reply in replies):
            break
        turned = [reply.number for reply in replies if reply.status == 1]
        if not turned:
            return
        chunks = [chunk for chunk, reply in zip(chunks, replies, strict=True) if reply.status == 1]
        days.learn(turned[-1])
        when = days.today()
    raise days.closed(when.day)
