"""`FixedWindowLimiter`: one counter per window."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._limiter import Limiter, OnError
from aredis_patterns.ratelimit._result import Decision
from aredis_patterns.ratelimit._scripts import fixed_window_hit
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["FixedWindowLimiter", "WindowStart"]

WindowStart: TypeAlias = Literal["first-hit", "clock"]


class FixedWindowLimiter(Limiter):
    """At most `amount` units in each window.

    Guarantee: no window holds more than the limit, whatever the number of processes. Weakness: around the edge of two
    windows up to twice the limit can pass within one period; `SlidingWindowLogLimiter` is exact there,
    `TokenBucketLimiter` smoother. Cost: one round trip, one short string per key (about 100 bytes), gone when its
    window ends. Complexity O(1).

    `start="first-hit"`: a window begins with the first request of its key, which spreads the ends of windows.
    `start="clock"`: windows begin with the period on the server's clock (UTC), for calendar quotas: per minute at :00,
    per day at midnight.

        limiter = FixedWindowLimiter(redis, "100/minute")
        result = await limiter.hit("user:1")

    Other arguments, verbs and errors: `Limiter`.
    """

    _algorithm = "fixed"

    def __init__(
        self,
        client: RedisClient,
        limit: Limit | str,
        *,
        start: WindowStart = "first-hit",
        namespace: str = "ap",
        name: str = "default",
        deadline: Seconds = 0.25,
        on_error: OnError = "raise",
    ) -> None:
        if start not in ("first-hit", "clock"):
            raise ValueError(f'start is "first-hit" or "clock", got {start!r}')
        self.start: Final[WindowStart] = start
        super().__init__(client, limit, namespace=namespace, name=name, deadline=deadline, on_error=on_error)

    def _check(self, limit: Limit) -> None:
        refuse_burst(limit)

    async def _decide(self, key: str, cost: int, limit: Limit, *, charge: bool) -> Decision:
        return await fixed_window_hit(
            self._commands,
            counter=key,
            limit=limit.amount,
            window=limit.period_us,
            cost=cost,
            charge=charge,
            aligned=self.start == "clock",
            deadline=self._deadline,
        )


def refuse_burst(limit: Limit) -> None:
    """A burst would be ignored without a word: windows have none."""
    if limit.burst is not None:
        raise ValueError(f"a window has no burst, got {str(limit)!r}: leave it out, or use TokenBucketLimiter")
