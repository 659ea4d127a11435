"""The models of what flows: token bucket, GCRA, leaky bucket and its queue; and of leases. See `_models`."""

from __future__ import annotations

import math

from aredis_patterns.ratelimit._flow import flow_of
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._models import LimiterModel
from aredis_patterns.ratelimit._result import Decision

__all__ = ["ConcurrencyModel", "GCRAModel", "LeakyBucketModel", "LeakyQueueModel", "TokenBucketModel"]


class TokenBucketModel(LimiterModel):
    """What lua/_token_bucket.lua does."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit)
        self.level: int | None = None
        """In parts of a token; None for a bucket that nobody has used."""
        self.date = 0
        self._scale = flow_of(limit).scale

    def decide(self, *, now: int, cost: int = 1, charge: bool = True) -> Decision:
        """See `LimiterModel.decide`."""
        scale, rate = flow_of(self.limit)
        full = self.limit.capacity * scale
        level, date, mended = self._current(now, full, rate)
        needed = cost * scale
        allowed = needed <= max(0, level)
        retry = 0 if allowed else -1 if cost > self.limit.capacity else date - now + _ceil(needed - level, rate)
        if charge and allowed:
            level -= needed
        if charge and cost and (allowed or mended):
            self.level, self.date, self._scale = level, date, scale
        return Decision(allowed, max(0, level // scale), retry, _refill(now, level, date, full, rate))

    def adjust(self, *, now: int, units: int) -> Decision:
        """See `LimiterModel.adjust`. A debt is at most one bucket."""
        scale, rate = flow_of(self.limit)
        full = self.limit.capacity * scale
        level, date, _ = self._current(now, full, rate)
        if units > 0 or _refill(now, level, date, full, rate) > 0:
            level = max(-full, min(full, level - units * scale))
            self.level, self.date, self._scale = level, date, scale
        return Decision(1, max(0, level // scale), 0, _refill(now, level, date, full, rate))

    def _current(self, now: int, full: int, rate: int) -> tuple[int, int, bool]:
        if self.level is None:
            return full, now, False
        level, scale = self.level, flow_of(self.limit).scale
        if scale != self._scale:
            level = math.floor(level / self._scale * scale)
        level = max(-full, level)
        if self.date > now + _ceil(full, rate):
            return min(full, level), now, True
        date = max(now, self.date)
        return min(full, level + (date - self.date) * rate), date, False


class GCRAModel(LimiterModel):
    """What lua/_backlog.lua does."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit)
        self.over = 0
        """The theoretical arrival time, in whole us, and the fraction above it in parts."""
        self.fraction = 0
        self._made_under = limit

    def decide(self, *, now: int, cost: int = 1, charge: bool = True) -> Decision:
        """See `LimiterModel.decide`."""
        scale, rate = flow_of(self.limit)
        full = self.limit.capacity * scale
        waiting, mended = self._current(now)
        needed = cost * scale
        allowed = cost == 0 or waiting + needed <= full
        retry = 0 if allowed else -1 if cost > self.limit.capacity else _ceil(waiting + needed - full, rate)
        if charge and allowed:
            waiting += needed
        if charge and cost and (allowed or mended):
            self._write(now, waiting)
        return Decision(allowed, max(0, (full - waiting) // scale), retry, _ceil(waiting, rate))

    def adjust(self, *, now: int, units: int) -> Decision:
        """See `LimiterModel.adjust`. A debt is at most one burst."""
        scale, rate = flow_of(self.limit)
        full = self.limit.capacity * scale
        waiting, _ = self._current(now)
        if units > 0 or waiting > 0:
            waiting = max(0, min(2 * full, waiting + units * scale))
            self._write(now, waiting)
        return Decision(1, max(0, (full - waiting) // scale), 0, _ceil(waiting, rate))

    def _current(self, now: int) -> tuple[int, bool]:
        scale, rate = flow_of(self._made_under)
        waiting = max(0, (self.over - now) * rate + self.fraction)
        mended = waiting > 2 * self._made_under.capacity * scale
        same = flow_of(self.limit) == (scale, rate) and self.limit.capacity == self._made_under.capacity
        if mended or not same:
            new = flow_of(self.limit).scale
            waiting = min(self.limit.capacity * new, math.floor(waiting / scale * new))
        return waiting, mended

    def _write(self, now: int, waiting: int) -> None:
        rate = flow_of(self.limit).rate
        self.over, self.fraction, self._made_under = now + waiting // rate, waiting % rate, self.limit


class LeakyBucketModel(GCRAModel):
    """What `LeakyBucketLimiter.hit` does: a GCRA by another name."""


class LeakyQueueModel(GCRAModel):
    """What lua/queue.lua does: each request gets its own time."""

    def enter(self, *, now: int, cost: int = 1, patience: int) -> tuple[Decision, int]:
        """The answer (its `retry_after` is the wait), and the tail to give to `leave`."""
        scale, rate = flow_of(self.limit)
        waiting, mended = self._current(now)
        answer = self.decide(now=now, cost=cost, charge=False)
        allowed, wait = answer.allowed, answer.retry_after
        if allowed:
            wait = _ceil(waiting, rate)
            if wait > patience:
                allowed, wait = False, wait - patience
        if allowed:
            waiting += cost * scale
        if allowed or mended:
            self._write(now, waiting)
        rest = max(0, (self.limit.capacity * scale - waiting) // scale)
        until = _ceil(waiting, rate)
        return Decision(allowed, rest, wait, until), now + until

    def leave(self, *, now: int, cost: int, tail: int) -> bool:
        """Whether the place was the last, and is free again."""
        scale, rate = flow_of(self.limit)
        waiting, _ = self._current(now)
        if not waiting or now + _ceil(waiting, rate) != tail:
            return False
        self._write(now, max(0, waiting - cost * scale))
        return True


class ConcurrencyModel:
    """What lua/concurrency_acquire.lua and concurrency_release.lua do. Leases in us; one lease for all."""

    def __init__(self, limit: int, *, lease: int) -> None:
        self.limit = limit
        self.lease = lease
        self.holders: dict[str, int] = {}
        self.line: list[str] = []

    def acquire(self, token: str, *, now: int, wait: bool = False) -> bool:
        """Whether `token` holds a place now; with `wait` it stands in line otherwise."""
        self._admit(now, token if wait else None)
        if token not in self.holders and not wait and len(self.holders) < self.limit:
            self.holders[token] = now
        if token in self.holders:
            self.holders[token] = now + self.lease
        return token in self.holders

    def release(self, token: str, *, now: int) -> bool:
        """Whether `token` held a place; whoever has waited longest holds it now."""
        if token in self.line:
            self.line.remove(token)
        held = self.holders.pop(token, 0) > now
        self._admit(now, None)
        return held

    def _admit(self, now: int, comes: str | None) -> None:
        self.holders = {token: ends for token, ends in self.holders.items() if ends > now}
        if comes is not None and comes not in self.line and comes not in self.holders:
            self.line.append(comes)
        while self.line and len(self.holders) < self.limit:
            self.holders[self.line.pop(0)] = now + self.lease


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def _refill(now: int, level: int, date: int, full: int, rate: int) -> int:
    return date - now + _ceil(full - level, rate) if level < full else 0
