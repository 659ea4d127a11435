"""What holds for every session of a store, and how long the store waits."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Final, TypedDict

from aredis_patterns._core.durations import to_milliseconds, to_seconds
from aredis_patterns.types import Seconds

__all__ = ["Rules", "ServerClock", "SessionOptions", "make_rules"]

_MOST_BYTES: Final = 16 * 1024 * 1024


class SessionOptions(TypedDict, total=False):
    """The keyword arguments of `SessionStore`; what they mean is told there."""

    name: str
    idle_timeout: Seconds
    absolute_timeout: Seconds
    max_per_user: int | None
    touch_threshold: float
    max_bytes: int
    keep_events: Seconds | None
    namespace: str
    deadline: Seconds


@dataclass(frozen=True, slots=True)
class Rules:
    """As the scripts take them: durations in ms, 0 for none."""

    idle: int
    absolute: int
    threshold: int
    """The least gain of life that is written."""
    keep: int
    """How long an end waits for a reader."""
    most: int
    """Sessions of one user."""
    max_bytes: int
    deadline: float
    """Seconds, for the local timer."""

    def gain(self, created: int, seen: int, now: int) -> int:
        """How much longer a session would live if it were touched now, in ms. All of it, if it should be over."""
        deadline = created + self.absolute
        expires = min(seen + self.idle, deadline)
        return min(now + self.idle, deadline) - expires if now < expires else self.idle


class ServerClock:
    """What time it is on the server, for at most a second after the server has said so.

    Only for the question whether a touch is due. When a session is over is decided by the server alone.
    """

    __slots__ = ("_at", "_now")

    def __init__(self) -> None:
        self._now = 0
        self._at = -math.inf

    def now(self) -> int | None:
        """Milliseconds of the server; None when it has to be asked."""
        passed = time.monotonic() - self._at
        return self._now + int(passed * 1000) if passed < 1.0 else None

    def learn(self, rules: Rules, created: int, seen: int, left: int) -> int:
        """From the TTL of a session, which was set when it was seen. One that these rules have not set says nothing: it
        counts as over, and the script decides."""
        given = min(rules.idle, created + rules.absolute - seen)
        if not 0 <= left <= given:
            return seen + rules.idle
        self._now, self._at = seen + given - left, time.monotonic()
        return self._now


def make_rules(
    *,
    idle_timeout: Seconds,
    absolute_timeout: Seconds,
    max_per_user: int | None,
    touch_threshold: float,
    max_bytes: int,
    keep_events: Seconds | None,
    deadline: Seconds,
) -> Rules:
    """Checked. ValueError says which argument makes no sense, and its value."""
    idle = to_milliseconds(idle_timeout, "idle_timeout")
    absolute = to_milliseconds(absolute_timeout, "absolute_timeout")
    if idle > absolute:
        raise ValueError(
            f"idle_timeout must not be longer than absolute_timeout, got {idle_timeout!r} and {absolute_timeout!r}"
        )
    if not 0 <= touch_threshold < 1:
        raise ValueError(f"touch_threshold is a part of idle_timeout, 0 to below 1, got {touch_threshold!r}")
    return Rules(
        idle=idle,
        absolute=absolute,
        threshold=round(idle * touch_threshold),
        keep=0 if keep_events is None else to_milliseconds(keep_events, "keep_events"),
        most=0 if max_per_user is None else _count(max_per_user, "max_per_user", 1_000_000),
        max_bytes=_count(max_bytes, "max_bytes", _MOST_BYTES),
        deadline=to_seconds(deadline, "deadline"),
    )


def _count(value: object, name: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"{name} is a whole number from 1 to {most}, got {value!r}")
    return value
