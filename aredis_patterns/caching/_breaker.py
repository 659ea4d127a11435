"""Whether Redis is worth asking: after a few failures in a row nobody asks for a moment, then one tries.

Without it every read of a dead server costs its whole deadline.
"""

from __future__ import annotations

import random
import time
from typing import Final

from redis import exceptions as redis_errors

from aredis_patterns.exceptions import ReadOnlyServer, ServerOutOfMemory, WireClosed

__all__ = ["Breaker", "is_outage"]

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
"""The server cannot answer now."""

_MISTAKES: Final = (redis_errors.AuthenticationError, redis_errors.AuthorizationError, WireClosed)
"""Connection errors for redis-py, but they stay until somebody repairs the program or its configuration."""

_FAILURES: Final = 2
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 5.0


def is_outage(error: BaseException) -> bool:
    """Whether this error means that Redis cannot answer now."""
    return isinstance(error, _UNABLE) and not isinstance(error, _MISTAKES)


class Breaker:
    """Closed (ask), open (do not), half open (one asks). Pure but for the clock and chance."""

    __slots__ = ("_failures", "_pause", "until")

    def __init__(self) -> None:
        self._failures = 0
        self._pause = FIRST_PAUSE
        self.until = 0.0
        """When somebody may ask again; 0 while nothing is wrong."""

    @property
    def open(self) -> bool:
        """Whether nobody should ask now."""
        return self.until > 0.0 and time.monotonic() < self.until

    def may_ask(self) -> bool:
        """Whether this caller may ask. In the half-open state the first one may, and the others do not until it is done."""
        if self.until == 0.0:
            return True
        now = time.monotonic()
        if now < self.until:
            return False
        self.until = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)  # unless it succeeds, the next one has to wait for longer
        return True

    def succeeded(self) -> None:
        """Redis has answered."""
        if self._failures:
            self._failures = 0
            self._pause = FIRST_PAUSE
            self.until = 0.0

    def failed(self) -> None:
        """Redis has not answered. Those who had asked before it opened change nothing."""
        if self.open:
            return
        self._failures += 1
        if self._failures >= _FAILURES:
            self.until = time.monotonic() + random.uniform(0.7, 1) * self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def __repr__(self) -> str:
        return f"<Breaker {'open' if self.open else 'closed'}, {self._failures} failures in a row>"
