"""What happens when the server cannot decide: which errors mean that, a circuit breaker, and a limiter in this process.

States of the breaker:

    closed  --THRESHOLD failures in a row-->  open  --pause over-->  half open: one call tries
      ^                                        ^                         |
      +--------------- it worked --------------|-------------------------+
                                               +---- it failed: a longer pause
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from redis import exceptions as redis_errors

from aredis_patterns.exceptions import ReadOnlyServer, ServerOutOfMemory, ServerRefused, WireClosed
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._models import LimiterModel
from aredis_patterns.ratelimit._result import Decision

__all__ = ["UNDECIDED", "CircuitBreaker", "LocalLimits", "is_outage", "share_of"]

RETRY_WHEN_CLOSED: Final = 1.0
"""Seconds. Nobody knows when the server will be back; this only keeps clients from coming back at once."""

TOGETHER: Final = 0.02
"""Seconds within which failures count as one."""

_UNABLE: Final = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.ClusterDownError,
    redis_errors.ClusterError,
    redis_errors.TryAgainError,
    ReadOnlyServer,
    ServerOutOfMemory,
    OSError,
)
"""The server cannot decide now."""

UNDECIDED: Final = (*_UNABLE, ServerRefused)

_MISTAKES: Final = (redis_errors.AuthenticationError, redis_errors.AuthorizationError, WireClosed)
"""Connection errors for redis-py, but they stay until somebody repairs the program or its configuration."""


def is_outage(error: BaseException) -> bool:
    """Whether the server could not decide now; otherwise it is a mistake that somebody has to repair."""
    return isinstance(error, _UNABLE) and not isinstance(error, _MISTAKES)


class CircuitBreaker:
    """Stops asking a server that has failed several times in a row, and finds out when it is back.

    `threshold` failures open it for `pause` seconds, doubled each time a trial fails, up to `longest`. Failures that come
    together, such as those of all calls on a lost connection, are one.
    """

    def __init__(
        self,
        *,
        threshold: int = 5,
        pause: float = 0.5,
        longest: float = 8.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold: Final = threshold
        self._first_pause: Final = pause
        self._longest: Final = longest
        self._clock: Final = clock
        self.failures = 0
        self._last = -math.inf
        self._pause = pause
        self._until = 0.0
        self.open = False

    def __repr__(self) -> str:
        return f"<CircuitBreaker {'open' if self.open else 'closed'}, {self.failures} failures in a row>"

    def may_ask(self) -> bool:
        """Whether to ask the server. While open, true for one caller after each pause."""
        if not self.open:
            return True
        now = self._clock()
        if now < self._until:
            return False
        self._until = now + self._pause  # the others wait for what this one finds out
        return True

    def succeeded(self) -> None:
        """The server has decided."""
        self.failures, self._pause, self.open = 0, self._first_pause, False

    def failed(self) -> None:
        """The server could not decide."""
        now = self._clock()
        if now - self._last < TOGETHER:
            return
        self._last = now
        self.failures += 1
        if self.open:
            self._pause = min(self._longest, self._pause * 2)
            self._until = now + self._pause
        elif self.failures >= self._threshold:
            self.open = True
            self._until = now + self._pause


class LocalLimits:
    """A share of the limit, kept in this process while the server is away. At most `most` keys; the oldest go first."""

    def __init__(
        self,
        make_model: Callable[[Limit], LimiterModel],
        instances: int,
        *,
        most: int = 10_000,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._make_model: Final = make_model
        self._instances: Final = instances
        self._most: Final = most
        self._clock: Final = clock
        self._models: OrderedDict[str, LimiterModel] = OrderedDict()

    def decide(self, key: str, cost: int, limit: Limit, *, charge: bool) -> Decision:
        """The decision of this process alone."""
        share = share_of(limit, self._instances)
        model = self._models.get(key)
        if model is None:
            model = self._models[key] = self._make_model(share)
            if len(self._models) > self._most:
                self._models.popitem(last=False)
        else:
            self._models.move_to_end(key)
        model.limit = share
        return model.decide(now=self._clock() // 1000, cost=cost, charge=charge)

    def forget(self, key: str) -> None:
        """Nothing is counted for this key any more."""
        self._models.pop(key, None)

    def clear(self) -> None:
        """The server decides again."""
        self._models.clear()


def share_of(limit: Limit, instances: int) -> Limit:
    """The part of a limit that one of so many processes may use by itself; at least one unit."""
    if instances == 1:
        return limit
    burst = None if limit.burst is None else max(1, limit.burst // instances)
    return Limit(max(1, limit.amount // instances), limit.period_us, burst)
