"""Durations: seconds at the face, integers in Lua. Converted here and nowhere else.

A duration that rounds to nothing would become "no expiry" or "expired already" on the server, so everything that is not
a plain positive length of time is refused before any I/O.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

from aredis_patterns.types import Seconds

__all__ = ["LONGEST", "timeout_seconds", "to_microseconds", "to_milliseconds", "to_seconds"]

LONGEST: Final = timedelta(days=3653)
"""Ten years. Longer is a mistake in the unit (milliseconds given as seconds), or should be no expiry at all."""

_MICROSECOND: Final = timedelta(microseconds=1)


def to_microseconds(value: Seconds, name: str = "ttl") -> int:
    """A positive duration as whole microseconds, rounded to the nearest one.

    `name` is the argument that the message of the ValueError blames.
    """
    _refuse_nonsense(value, name)
    if isinstance(value, timedelta):
        micros = value // _MICROSECOND
    elif isinstance(value, int):
        micros = value * 1_000_000
    else:
        micros = round(value * 1_000_000)
    if micros <= 0:
        raise ValueError(f"{name} must be longer than zero, got {value!r}")
    return micros


def to_milliseconds(value: Seconds, name: str = "ttl") -> int:
    """A positive duration as whole milliseconds, rounded to the nearest one; at least half of one."""
    millis = (to_microseconds(value, name) + 500) // 1000
    if millis == 0:
        raise ValueError(f"{name} must be at least one millisecond, got {value!r}")
    return millis


def to_seconds(value: Seconds, name: str = "ttl") -> float:
    """A positive duration as seconds, for local timers."""
    return to_microseconds(value, name) / 1_000_000


def timeout_seconds(value: Seconds | None, name: str = "timeout") -> float | None:
    """How long a caller waits, in seconds. None waits for ever, zero does not wait."""
    if value is None:
        return None
    _refuse_nonsense(value, name)
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 0:
        raise ValueError(f"{name} must not be negative, got {value!r}")
    return seconds


def _refuse_nonsense(value: object, name: str) -> None:
    if isinstance(value, bool):  # True would be one second, and never what was meant
        raise ValueError(f"{name} must be seconds or a timedelta, got {value!r}")
    if not isinstance(value, (int, float, timedelta)):
        raise TypeError(f"{name} must be seconds or a timedelta, got {value!r}")
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{name} must be a number, got {value!r}")
    longest = LONGEST if isinstance(value, timedelta) else LONGEST.total_seconds()
    if value > longest:  # type: ignore[operator]  # each compared with its own kind
        raise ValueError(f"{name} must not be longer than ten years, got {value!r}")
