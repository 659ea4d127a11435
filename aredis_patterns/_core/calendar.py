"""Days, ISO weeks and months in one time zone, as spans of real time.

The server's clock says what time it is, and a time zone says which day that is; Lua knows no time zones. So the client
names the span that it believes in, with its edges, and the script compares them with TIME. When it believed wrongly the
script writes nothing and says what time it is: `ServerClock` learns from that, and the second try fits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Final, Literal, TypeAlias, get_args
from zoneinfo import ZoneInfo

__all__ = ["Calendar", "Day", "Period", "ServerClock", "Span", "check_period"]

Period: TypeAlias = Literal["day", "week", "month"]
Day: TypeAlias = date | datetime | str
"""A date, an aware datetime, or ISO text such as "2026-11-25"."""

_ONE_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """One day, week or month: from `start_ms` up to, not including, `end_ms` (Unix time in milliseconds)."""

    period: Period
    name: str
    """"2026-11-25", "2026-W48" or "2026-11"."""
    first: date
    last: date
    start_ms: int
    end_ms: int

    def days(self) -> list[date]:
        """Every date in it."""
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]


class Calendar:
    """Spans in the time zone `tz`: a `tzinfo`, or the name of one ("Europe/Berlin"). Pure, no I/O.

    Days have 23 or 25 hours where clocks change, and a day whose midnight does not exist begins when the gap ends.
    Raises `ZoneInfoNotFoundError` (a KeyError) for an unknown name.
    """

    __slots__ = ("tz",)

    def __init__(self, tz: tzinfo | str) -> None:
        self.tz: Final = ZoneInfo(tz) if isinstance(tz, str) else tz

    def date_at(self, unix_ms: float) -> date:
        """The date at this moment."""
        return datetime.fromtimestamp(unix_ms / 1000, self.tz).date()

    def date_of(self, day: Day) -> date:
        """The date that is meant. ValueError for a naive datetime: it does not say when it is."""
        if isinstance(day, datetime):
            if day.tzinfo is None:
                raise ValueError(f"a datetime needs a time zone, got the naive {day!r}")
            return day.astimezone(self.tz).date()
        if isinstance(day, date):
            return day
        if isinstance(day, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            return date.fromisoformat(day)
        raise ValueError(f"a day is a date, an aware datetime or ISO text, got {day!r}")

    def span(self, period: Period, day: date) -> Span:
        """The day, week or month that `day` lies in."""
        if period == "day":
            first = last = day
            name = day.isoformat()
        elif period == "week":
            first = day - timedelta(days=day.weekday())
            last = first + timedelta(days=6)
            year, week, _ = day.isocalendar()  # the year of the week: 2027-01-01 is in 2026-W53
            name = f"{year}-W{week:02d}"
        else:
            first = day.replace(day=1)
            last = (first + timedelta(days=31)).replace(day=1) - _ONE_DAY
            name = f"{first.year}-{first.month:02d}"
        return Span(period, name, first, last, self._midnight(first), self._midnight(last + _ONE_DAY))

    def spans(self, period: Period, last: date, count: int) -> list[Span]:
        """`count` spans in a row, oldest first; the newest is the one with `last` in it."""
        found = [self.span(period, last)]
        while len(found) < count:
            found.append(self.span(period, found[-1].first - _ONE_DAY))
        return found[::-1]

    def following(self, period: Period, first: date, count: int) -> list[Span]:
        """`count` spans in a row, oldest first, which is the one with `first` in it."""
        found = [self.span(period, first)]
        while len(found) < count:
            found.append(self.span(period, found[-1].last + _ONE_DAY))
        return found

    def _midnight(self, day: date) -> int:
        return round(datetime(day.year, day.month, day.day, tzinfo=self.tz).timestamp() * 1000)

    def __repr__(self) -> str:
        return f"Calendar({str(self.tz)!r})"


class ServerClock:
    """What time it is on the server, as far as this process knows: its own clock until a script says otherwise."""

    __slots__ = ("offset_ms",)

    def __init__(self) -> None:
        self.offset_ms = 0.0

    def now_ms(self) -> float:
        """Unix time in milliseconds."""
        return time.time() * 1000 + self.offset_ms

    def learn(self, server_ms: float) -> None:
        """The server has just said that it is `server_ms`."""
        self.offset_ms = server_ms - time.time() * 1000


def check_period(period: str) -> None:
    """ValueError unless it is "day", "week" or "month"."""
    if period not in get_args(Period):
        raise ValueError(f"a period is one of {', '.join(get_args(Period))}, got {period!r}")
