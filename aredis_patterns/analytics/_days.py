"""Which day something counts for, and how long that day is kept."""

from __future__ import annotations

from datetime import date, timedelta, tzinfo
from typing import Final, NamedTuple

from aredis_patterns._core.calendar import Calendar, Day, ServerClock, Span
from aredis_patterns._core.durations import to_milliseconds
from aredis_patterns.exceptions import WindowClosed
from aredis_patterns.types import Seconds

__all__ = ["Days", "When"]


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
        return When(day, 0, 0, self.span(day).end_ms + self.retention_ms)

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
