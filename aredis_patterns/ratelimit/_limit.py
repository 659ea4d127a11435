"""`Limit`: how much, in how long. A value: checked when made, never changed, written as it is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from aredis_patterns._core.durations import LONGEST, to_microseconds
from aredis_patterns.types import Seconds

__all__ = ["LARGEST", "Limit"]

LARGEST: Final = 1_000_000_000
"""Units in a limit or a burst. With it, all arithmetic in the scripts stays in integers that Lua holds exactly."""

_UNITS: Final = {"second": 1_000_000, "minute": 60_000_000, "hour": 3_600_000_000, "day": 86_400_000_000}
_SHORT: Final = {"s": "second", "sec": "second", "m": "minute", "min": "minute", "h": "hour", "d": "day"}
_TEXT: Final = re.compile(
    r"(?P<amount>\d+)\s*(?:/|\s+per\s+)\s*(?:(?P<count>\d+(?:\.\d+)?)\s*)?(?P<unit>[a-z]+)"
    r"(?:\s+burst\s+(?P<burst>\d+))?",
    re.ASCII | re.IGNORECASE,
)
_SHORTEST_US: Final = 1000
_LONGEST_US: Final = int(LONGEST.total_seconds()) * 1_000_000


@dataclass(frozen=True, slots=True, repr=False)
class Limit:
    """`amount` units per period, and optionally a burst: the most that may come at once.

        Limit.per_minute(100, burst=20) == Limit.parse("100/minute burst 20")
        Limit.per(5, seconds=10) == Limit.parse("5/10 seconds")

    `burst` is the capacity of a token bucket; without it the capacity is `amount`. It may be smaller than the amount (a
    smoother flow) or larger. Windows have no burst and refuse a limit that has one.

    Amount and burst are 1 to 1,000,000,000, the period is a millisecond to ten years; all else is a ValueError.
    """

    amount: int
    period_us: int
    burst: int | None = None

    def __post_init__(self) -> None:
        _check_units(self.amount, "amount")
        if self.burst is not None:
            _check_units(self.burst, "burst")
        _check_whole(self.period_us, "period_us")
        if not _SHORTEST_US <= self.period_us <= _LONGEST_US:
            raise ValueError(f"the period of a limit is a millisecond to ten years, got {self.period_us} us")

    @classmethod
    def per(cls, amount: int, *, seconds: Seconds, burst: int | None = None) -> Limit:
        """`amount` per any period, a number of seconds or a timedelta."""
        return cls(amount, to_microseconds(seconds, "seconds"), burst)

    @classmethod
    def per_second(cls, amount: int, *, burst: int | None = None) -> Limit:
        """`amount` per second."""
        return cls(amount, _UNITS["second"], burst)

    @classmethod
    def per_minute(cls, amount: int, *, burst: int | None = None) -> Limit:
        """`amount` per minute."""
        return cls(amount, _UNITS["minute"], burst)

    @classmethod
    def per_hour(cls, amount: int, *, burst: int | None = None) -> Limit:
        """`amount` per hour."""
        return cls(amount, _UNITS["hour"], burst)

    @classmethod
    def per_day(cls, amount: int, *, burst: int | None = None) -> Limit:
        """`amount` per day."""
        return cls(amount, _UNITS["day"], burst)

    @classmethod
    def parse(cls, text: str) -> Limit:
        """A limit from text: "100/minute", "5 per 10 seconds", "100/minute burst 20". What `str()` writes.

        Units are second, minute, hour and day, in the plural too, or s, min, h, d. ValueError quotes what is wrong.
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f'a limit is text such as "100/minute burst 20", got {text!r}')
        found = _TEXT.fullmatch(text.strip())
        unit = _unit(found["unit"]) if found else None
        if found is None or unit is None:
            raise ValueError(f'a limit is text such as "100/minute burst 20", got {text!r}')
        micros = Decimal(found["count"] or 1) * _UNITS[unit]
        if micros != int(micros):
            raise ValueError(f"the period of a limit is whole microseconds, got {text!r}")
        try:
            return cls(int(found["amount"]), int(micros), int(found["burst"]) if found["burst"] else None)
        except ValueError as error:
            raise ValueError(f"{error}, in {text!r}") from None

    @property
    def period(self) -> float:
        """The period in seconds."""
        return self.period_us / 1_000_000

    @property
    def capacity(self) -> int:
        """The most that may come at once: the burst, or the amount."""
        return self.amount if self.burst is None else self.burst

    def __str__(self) -> str:
        burst = "" if self.burst is None else f" burst {self.burst}"
        return f"{self.amount}/{_period_text(self.period_us)}{burst}"

    def __repr__(self) -> str:
        return f"Limit.parse({str(self)!r})"


def _unit(word: str) -> str | None:
    word = word.lower()
    word = _SHORT.get(word, word.removesuffix("s"))
    return word if word in _UNITS else None


def _period_text(micros: int) -> str:
    for unit, size in reversed(_UNITS.items()):
        if micros % size == 0:
            return unit if micros == size else f"{micros // size} {unit}s"
    return f"{Decimal(micros) / 1_000_000:f} seconds"


def _check_units(value: object, name: str) -> None:
    if not 1 <= _check_whole(value, name) <= LARGEST:
        raise ValueError(f"the {name} of a limit is 1 to {LARGEST:,}, got {value!r}")


def _check_whole(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"the {name} of a limit is a whole number, got {value!r}")
    return value
