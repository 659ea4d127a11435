"""The algorithms in plain Python: what the scripts must answer, and a way to test limits without a server or a clock.

Each model is the state of one key. Time is an argument, in microseconds, and everything is an integer, so a model and
its script agree to the last digit; property tests compare them step by step.

    model = TokenBucketModel(Limit.per_second(1, burst=2))
    assert model.decide(now=0).allowed
"""

from __future__ import annotations

from collections import deque

from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._result import Decision
from aredis_patterns.ratelimit._token_bucket import flow_of

__all__ = ["FixedWindowModel", "SlidingWindowLogModel", "TokenBucketModel"]


class FixedWindowModel:
    """What lua/fixed_window_hit.lua does."""

    def __init__(self, limit: Limit, *, aligned: bool = False) -> None:
        self.limit = limit
        self.aligned = aligned
        self.used = 0
        self.start = 0

    def decide(self, *, now: int, cost: int = 1, charge: bool = True) -> Decision:
        """The answer at this moment; the state changes as the key would."""
        window = self.limit.period_us
        used, start, mended = self._current(now, window)
        left = start + window - now
        free = max(0, self.limit.amount - used)
        allowed = cost <= free
        charged = cost if charge and allowed else 0
        if charge and cost and (allowed or mended):
            self.used, self.start = used + charged, start
        retry = 0 if allowed else -1 if cost > self.limit.amount else left
        return Decision(allowed, free - charged, retry, left if used + charged else 0)

    def _current(self, now: int, window: int) -> tuple[int, int, bool]:
        begins = now - now % window if self.aligned else now
        if not self.used:
            return 0, begins, False
        if self.start > now + window:
            return self.used, begins, True
        if self.start < begins if self.aligned else self.start + window <= now:
            return 0, begins, False
        return self.used, begins if self.aligned and self.start <= now else self.start, False


class SlidingWindowLogModel:
    """What lua/sliding_log_hit.lua does, by counting instead of running totals."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.log: deque[tuple[int, int]] = deque()
        """(time, cost) of each allowed request."""

    def decide(self, *, now: int, cost: int = 1, charge: bool = True) -> Decision:
        """The answer at this moment; the state changes as the key would."""
        charge = charge and cost > 0
        window, amount = self.limit.period_us, self.limit.amount
        live = [(at, units) for at, units in self.log if at > now - window]
        used = sum(units for _, units in live)
        if live and live[-1][0] > now + window:
            live = [(now, used)]
            if charge:
                self.log = deque(live)
        free = max(0, amount - used)
        allowed = cost <= free
        last = live[-1][0] if live else 0
        if charge and allowed:
            last = max(now, self._newest() + 1)
            self.log = deque([*live, (last, cost)])
            used, free = used + cost, free - cost
        retry = 0 if allowed else -1 if cost > amount else self._departure(live, used + cost - amount) + window - now
        return Decision(allowed, free, retry, last + window - now if used else 0)

    def _newest(self) -> int:
        return self.log[-1][0] if self.log else 0

    @staticmethod
    def _departure(live: list[tuple[int, int]], surplus: int) -> int:
        """When the request was made with which enough has left."""
        for at, units in live:
            surplus -= units
            if surplus <= 0:
                return at
        raise AssertionError("a cost within the limit fits an empty window")


class TokenBucketModel:
    """What lua/token_bucket_hit.lua does."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.level: int | None = None
        """In parts of a token; None for a bucket that nobody has used."""
        self.date = 0
        self._scale = flow_of(limit).scale

    def decide(self, *, now: int, cost: int = 1, charge: bool = True) -> Decision:
        """The answer at this moment; the state changes as the key would."""
        scale, rate = flow_of(self.limit)
        full = self.limit.capacity * scale
        level, date, mended = self._current(now, full, rate)
        needed = cost * scale
        allowed = needed <= level
        retry = 0 if allowed else -1 if cost > self.limit.capacity else date - now + _ceil(needed - level, rate)
        if charge and allowed:
            level -= needed
        if charge and cost and (allowed or mended):
            self.level, self.date, self._scale = level, date, scale
        return Decision(allowed, level // scale, retry, date - now + _ceil(full - level, rate) if level < full else 0)

    def _current(self, now: int, full: int, rate: int) -> tuple[int, int, bool]:
        if self.level is None:
            return full, now, False
        level, scale = self.level, flow_of(self.limit).scale
        if scale != self._scale:
            level = int(level / self._scale * scale)
        if self.date > now + _ceil(full, rate):
            return min(full, level), now, True
        date = max(now, self.date)
        return min(full, level + (date - self.date) * rate), date, False


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
