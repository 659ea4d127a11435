"""How long a cache keeps what, when it loads again, and what it does about trouble: checked once, in integers.

Pure: seconds in, milliseconds out. Chance (jitter, early refresh) comes from one place, so that tests can take it away.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from aredis_patterns._core.durations import timeout_seconds, to_milliseconds, to_seconds
from aredis_patterns.types import Seconds

__all__ = ["LARGEST_PUSH", "OnAbandon", "OnError", "Policy", "Times", "optional_ms", "policy_of", "ttl_ms"]

OnError: TypeAlias = Literal["load", "raise"]
OnAbandon: TypeAlias = Literal["finish", "cancel"]

DAY: Final = 86_400_000
MARGIN: Final = 3_600_000
"""ms. Versions outlive the entries by at least this: a load may be slow, and a fill late."""

LARGEST_PUSH: Final = 48 * 1024
"""Bytes. A larger value is not sent to those who wait; they read it."""


class Times(NamedTuple):
    """Of one entry, in ms."""

    px: int
    """Life on the server; 0 endless."""
    stale: int
    """The last part of it, in which the value is expired but usable."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The options of a cache, converted."""

    ttl: int
    """ms; 0 endless."""
    stale: int
    negative: int | None
    """ms for None; None as everything else."""
    refresh_at: float | None
    early: float | None
    jitter: float
    lease: int
    load_timeout: float | None
    soft_timeout: float
    throttle: int
    error_ttl: int
    deadline: float
    on_error: OnError
    on_abandon: OnAbandon
    max_concurrent_loads: int | None

    def times(self, ttl: int | None, *, nothing: bool) -> Times:
        """The life of an entry that is stored now. `ttl` in ms replaces the one of the cache; None values may differ."""
        if nothing and self.negative is not None:
            return Times(self._spread(self.negative), 0)
        fresh = self.ttl if ttl is None else ttl
        if fresh == 0:
            return Times(0, 0)
        return Times(self._spread(fresh) + self.stale, self.stale)

    def horizon(self, ttl: int | None) -> int:
        """How long the versions must live so that they outlive any entry of this cache."""
        fresh = self.ttl if ttl is None else ttl
        if fresh == 0:
            return 0
        return max(DAY, 2 * (max(fresh, self.negative or 0) + self.stale + MARGIN))

    def reach(self, ttl: int | None) -> float:
        """How long an entry may live whose versions were checked against `horizon`: they are prolonged when half is over."""
        return self.horizon(ttl) / 2 or math.inf

    def ahead(self, ttl: int | None, load_seconds: float) -> int:
        """Below how many ms of fresh time this reader renews a value: a part of the TTL, or drawn (XFetch).

        Drawn: a value is renewed early with a chance that rises towards its end and with the time a load takes, so that
        readers seldom agree (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention, 2015).
        """
        ahead = 0
        fresh = self.ttl if ttl is None else ttl
        if self.refresh_at is not None and fresh:
            ahead = round(fresh * (1 - self.refresh_at))
        if self.early is not None:
            ahead = max(ahead, round(-load_seconds * self.early * math.log(1 - random.random()) * 1000))
        return ahead

    @property
    def looks_at_ttl(self) -> bool:
        """Whether a hit needs to know how long it has to live."""
        return bool(self.stale) or self.refresh_at is not None or self.early is not None

    def _spread(self, ms: int) -> int:
        if not ms or not self.jitter:
            return ms
        return max(1, round(ms * (1 - random.uniform(0, self.jitter))))


def policy_of(
    *,
    ttl: Seconds | None,
    stale_ttl: Seconds,
    negative_ttl: Seconds | None,
    refresh_at: float | None,
    early_refresh: float | None,
    jitter: float,
    lease: Seconds,
    load_timeout: Seconds | None,
    soft_timeout: Seconds,
    throttle: Seconds,
    error_ttl: Seconds,
    deadline: Seconds,
    on_error: OnError,
    on_abandon: OnAbandon,
    max_concurrent_loads: int | None,
) -> Policy:
    """Check the options of a cache. ValueError names the one that is wrong."""
    if refresh_at is not None and not 0 < refresh_at < 1:
        raise ValueError(f"refresh_at is a part of the TTL between 0 and 1, got {refresh_at!r}")
    if early_refresh is not None and not 0 < early_refresh < math.inf:
        raise ValueError(f"early_refresh is a positive number (1 is usual), got {early_refresh!r}")
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter is a part of the TTL from 0 to less than 1, got {jitter!r}")
    if on_error not in get_args(OnError):
        raise ValueError(f"on_error is one of {', '.join(get_args(OnError))}, got {on_error!r}")
    if on_abandon not in get_args(OnAbandon):
        raise ValueError(f"on_abandon is one of {', '.join(get_args(OnAbandon))}, got {on_abandon!r}")
    if max_concurrent_loads is not None and max_concurrent_loads < 1:
        raise ValueError(f"max_concurrent_loads must be at least 1, got {max_concurrent_loads!r}")
    if ttl is None and (stale_ttl or refresh_at is not None):
        raise ValueError("a cache without a ttl has no fresh time that could end: leave out stale_ttl and refresh_at")
    return Policy(
        ttl=ttl_ms(ttl) or 0,
        stale=optional_ms(stale_ttl, "stale_ttl"),
        negative=None if negative_ttl is None else to_milliseconds(negative_ttl, "negative_ttl"),
        refresh_at=refresh_at,
        early=early_refresh,
        jitter=jitter,
        lease=to_milliseconds(lease, "lease"),
        load_timeout=None if load_timeout is None else to_seconds(load_timeout, "load_timeout"),
        soft_timeout=timeout_seconds(soft_timeout, "soft_timeout") or 0.0,
        throttle=optional_ms(throttle, "throttle"),
        error_ttl=optional_ms(error_ttl, "error_ttl"),
        deadline=to_seconds(deadline, "deadline"),
        on_error=on_error,
        on_abandon=on_abandon,
        max_concurrent_loads=max_concurrent_loads,
    )


def ttl_ms(ttl: Seconds | None) -> int | None:
    """A ttl in ms. None is handed through: it means endless for a cache, and "as the cache" for one call."""
    return None if ttl is None else to_milliseconds(ttl, "ttl")


def optional_ms(value: Seconds, name: str) -> int:
    """A duration that may be zero, in ms."""
    return round((timeout_seconds(value, name) or 0.0) * 1000)
