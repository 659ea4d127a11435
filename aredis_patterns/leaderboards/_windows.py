"""Which boards a score counts for: all time, and the day, week and month of a moment, in one time zone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, tzinfo
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from aredis_patterns._core.calendar import Calendar, Day, ServerClock, Span
from aredis_patterns._core.durations import to_milliseconds
from aredis_patterns.leaderboards._keys import BoardKeys
from aredis_patterns.types import Seconds

__all__ = ["Target", "Window", "Windows"]

Window: TypeAlias = Literal["all", "day", "week", "month"]


class Target(NamedTuple):
    """Where a write goes, as `write_score` takes it."""

    parts: tuple[str, ...]
    spans: tuple[int, ...]


class Windows:
    """The windows of one board, and their keys. No I/O."""

    def __init__(
        self,
        keys: BoardKeys,
        layout: str,
        windows: Sequence[Window],
        *,
        tz: tzinfo | str | None,
        retention: Seconds,
        ttl: Seconds | None,
    ) -> None:
        self.names: Final = tuple(dict.fromkeys(windows)) or ("all",)
        for name in self.names:
            if name not in get_args(Window):
                raise ValueError(f"a window is one of {', '.join(get_args(Window))}, got {name!r}")
        if tz is None and self.names != ("all",):
            raise ValueError("windows need a time zone: tz='UTC', or the one in which your days begin")
        self.keys: Final = keys
        self.layout: Final = layout
        self.calendar: Final = Calendar(tz if tz is not None else "UTC")
        self.clock: Final = ServerClock()
        self.retention_ms: Final = to_milliseconds(retention, "retention")
        self.ttl_ms: Final = 0 if ttl is None else to_milliseconds(ttl)
        self._always: Final = self._target([None], [(0, 0)]) if self.names == ("all",) else None
        self._current: Target | None = None
        self._current_until = 0.0

    def current(self) -> Target:
        """The windows of now. Made once per day; the script checks them against the server's clock."""
        if self._always is not None:
            return self._always
        if self._current is None or self._current_until <= self.clock.now_ms():
            now = self.clock.now_ms()
            spans = self._spans(self.calendar.date_at(now))
            bounds = [(span.start_ms, span.end_ms) if span else (0, 0) for span in spans]
            self._current = self._target(spans, bounds)
            self._current_until = min(span.end_ms for span in spans if span)
        return self._current

    @property
    def is_all_time(self) -> bool:
        """Whether there is only the board of all time."""
        return self._always is not None

    def learn(self, server_ms: float) -> None:
        """The server's clock disagrees."""
        self.clock.learn(server_ms)
        self._current = None

    def at(self, day: date) -> Target:
        """The windows of a day that the caller names; the script only checks that none of them is over."""
        spans = self._spans(day)
        return self._target(spans, [(0, 0)] * len(spans))

    def expiry(self, window: Window, day: date) -> int:
        """When this window goes, as the scripts take it: 0 never, negative so long after the write."""
        return self._expires(None if window == "all" else self.calendar.span(window, day))

    def board(self, window: Window, day: date) -> tuple[str, ...]:
        """The keys of one window: the board, then its parts."""
        name = "all" if window == "all" else self.calendar.span(window, day).name
        return self.keys.window(name, self.layout)

    def today(self) -> date:
        """The date on the server, as far as we know."""
        return self.calendar.date_at(self.clock.now_ms())

    def alive(self) -> list[tuple[str, ...]]:
        """The keys of every window that may still be there, whether open or over."""
        found: list[tuple[str, ...]] = []
        now = self.clock.now_ms()
        for name in self.names:
            if name == "all":
                found.append(self.keys.window("all", self.layout))
                continue
            # One day ahead, for a server whose clock is before ours.
            span = self.calendar.span(name, self.calendar.date_at(now + 86_400_000))
            while span.end_ms + self.retention_ms > now:
                found.append(self.keys.window(span.name, self.layout))
                span = self.calendar.spans(name, span.first, 2)[0]
        return found

    def _spans(self, day: date) -> list[Span | None]:
        return [None if name == "all" else self.calendar.span(name, day) for name in self.names]

    def _target(self, spans: list[Span | None], bounds: list[tuple[int, int]]) -> Target:
        parts: list[str] = []
        numbers: list[int] = []
        for span, (opens, closes) in zip(spans, bounds, strict=True):
            parts += self.keys.window(span.name if span else "all", self.layout)
            numbers += (opens, closes, self._expires(span))
        return Target(tuple(parts), tuple(numbers))

    def _expires(self, span: Span | None) -> int:
        # Never below 1: a day before 1970 is over, not "so long after this write".
        return -self.ttl_ms if span is None else max(1, span.end_ms + self.retention_ms)

    def date_of(self, day: Day) -> date:
        """See `Calendar.date_of`."""
        return self.calendar.date_of(day)
