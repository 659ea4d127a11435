"""The algorithms in plain Python: what the scripts must answer, and a way to test limits without a server or a clock.

Each model is the state of one key. Time is an argument, in microseconds, and everything is an integer, so a model and
its script agree to the last digit; property tests compare them step by step.

    model = TokenBucketModel(Limit.per_second(1, burst=2))
    assert model.decide(now=0).allowed

Windows are here, buckets and queues in `_models_flow`. `on_error="local"` decides with them, too.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque

from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._result import Decision

__all__ = ["FixedWindowModel", "LimiterModel", "SlidingWindowCounterModel", "SlidingWindowLogModel"]


class LimiterModel(ABC):
    """One key under one limit. `limit` may be replaced at any time, as with `hit(..., limit=...)`."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit

    @abstractmethod
    def decide(self, *, now: int, cost: int = 1, charge: bool = True) -> Decision:
        """The answer at this moment (lua/hit.lua); the state changes as the key would."""

    @abstractmethod
    def adjust(self, *, now: int, units: int) -> Decision:
        """Charge units whether they fit or not, or give back a negative number of them (lua/adjust.lua)."""


class FixedWindowModel(LimiterModel):
    """What lua/_fixed_window.lua does."""

    def __init__(self, limit: Limit, *, aligned: bool = False) -> None:
        super().__init__(limit)
        self.aligned = aligned
        self.used = 0
        self.start = 0

    def decide(self, *, now: int, cost: int = 1, charge: bool = True) -> Decision:
        """See `LimiterModel.decide`."""
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

    def adjust(self, *, now: int, units: int) -> Decision:
        """See `LimiterModel.adjust`."""
        used, start, _ = self._current(now, self.limit.period_us)
        if units > 0 or used > 0:
            self.used, self.start = max(0, used + units), start
            used = self.used
        left = start + self.limit.period_us - now
        return Decision(1, max(0, self.limit.amount - used), 0, left if used else 0)

    def _current(self, now: int, window: int) -> tuple[int, int, bool]:
        begins = now - now % window if self.aligned else now
        if not self.used:
            return 0, begins, False
        if self.start > now + window:
            return self.used, begins, True
        if self.start < begins if self.aligned else self.start + window <= now:
            return 0, begins, False
        return self.used, begins if self.aligned and self.start <= now else self.start, False


class SlidingWindowLogModel(LimiterModel):
    """What lua/_sliding_log.lua does, by counting instead of running totals."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit)
        self.log: deque[tuple[int, int]] = deque()
        """(time, cost) of each allowed request."""

    def decide(self, *, now: int, cost: int = 1, charge: bool = True) -> Decision:
        """See `LimiterModel.decide`."""
        charge = charge and cost > 0
        window, amount = self.limit.period_us, self.limit.amount
        live = self._live(now, window)
        used = sum(units for _, units in live)
        if charge and live and self._newest() > now + window:  # the clock went far back: begun again now
            self.log = deque(live)
        free = max(0, amount - used)
        allowed = cost <= free
        last = live[-1][0] if live else 0
        if charge and allowed:
            last = self._append(live, now, cost)
            used, free = used + cost, free - cost
        retry = 0 if allowed else -1 if cost > amount else self._departure(live, used + cost - amount) + window - now
        return Decision(allowed, free, retry, last + window - now if used else 0)

    def adjust(self, *, now: int, units: int) -> Decision:
        """See `LimiterModel.adjust`. Units come back from the oldest entries."""
        window = self.limit.period_us
        live = self._live(now, window)
        used = sum(cost for _, cost in live)
        if units > 0:
            last, used = self._append(live, now, units), used + units
            return Decision(1, max(0, self.limit.amount - used), 0, last + window - now)
        if used > 0 and units < 0:
            self.log = deque(_without(live, min(used, -units)))
        live = self._live(now, window)
        used = sum(cost for _, cost in live)
        last = live[-1][0] if live else 0
        return Decision(1, max(0, self.limit.amount - used), 0, last + window - now if used else 0)

    def _live(self, now: int, window: int) -> list[tuple[int, int]]:
        live = [(at, units) for at, units in self.log if at > now - window]
        if live and live[-1][0] > now + window:
            return [(now, sum(units for _, units in live))]
        return live

    def _append(self, live: list[tuple[int, int]], now: int, cost: int) -> int:
        newest = live[-1][0] if live else self._newest()
        last = max(now, newest + 1)
        self.log = deque([*live, (last, cost)])
        return last

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


class SlidingWindowCounterModel(LimiterModel):
    """What lua/_sliding_counter.lua does; fractions are doubles there and here, so that both round alike."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit)
        self.index = 0
        self.current = 0
        self.previous = 0

    def decide(self, *, now: int, cost: int = 1, charge: bool = True) -> Decision:
        """See `LimiterModel.decide`."""
        window, amount = self.limit.period_us, self.limit.amount
        index, current, previous, mended = self._counted(now, window)
        elapsed = now - index * window
        free = max(0, amount - current - _weighed(previous, window, elapsed))
        allowed = cost <= free
        retry = 0
        if cost > amount:
            retry = -1
        elif not allowed and current + cost <= amount:
            retry = _faded(previous, window, amount - cost - current) - elapsed
        elif not allowed:
            retry = window - elapsed + _faded(current, window, amount - cost)
        charged = cost if charge and allowed else 0
        if charge and cost and (allowed or mended):
            self.index, self.current, self.previous = index, current + charged, previous
        return Decision(allowed, free - charged, retry, _emptied(window, elapsed, current + charged, previous))

    def adjust(self, *, now: int, units: int) -> Decision:
        """See `LimiterModel.adjust`. Units come back from this window first, then from the one before."""
        window = self.limit.period_us
        index, current, previous, _ = self._counted(now, window)
        elapsed = now - index * window
        if units > 0 or _emptied(window, elapsed, current, previous) > 0:
            current += units
            if current < 0:
                current, previous = 0, max(0, previous + current)
            self.index, self.current, self.previous = index, current, previous
        free = max(0, self.limit.amount - current - _weighed(previous, window, elapsed))
        return Decision(1, free, 0, _emptied(window, elapsed, current, previous))

    def _counted(self, now: int, window: int) -> tuple[int, int, int, bool]:
        index = now // window
        if self.index > index + 1:
            return index, self.current, self.previous, True
        if self.index >= index:
            return self.index, self.current, self.previous, False
        return index, 0, self.current if self.index == index - 1 else 0, False


def _weighed(units: int, window: int, elapsed: int) -> int:
    return math.ceil(float(units) * float(window - max(0, elapsed)) / window)


def _faded(units: int, window: int, room: int) -> int:
    if units <= room:
        return 0
    elapsed = max(0, math.floor(window - float(room) * window / units) - 1)
    while _weighed(units, window, elapsed) > room:
        elapsed += 1
    return elapsed


def _emptied(window: int, elapsed: int, current: int, previous: int) -> int:
    if current > 0:
        return window - elapsed + _faded(current, window, 0)
    return max(0, _faded(previous, window, 0) - elapsed)


def _without(live: list[tuple[int, int]], units: int) -> list[tuple[int, int]]:
    kept: list[tuple[int, int]] = []
    for at, cost in live:
        taken = min(cost, units)
        units -= taken
        if cost > taken:
            kept.append((at, cost - taken))
    return kept
