"""How long a message waits after a failed delivery."""

from __future__ import annotations

import random
from dataclasses import dataclass

from aredis_patterns._core.backoff import Uniform
from aredis_patterns._core.durations import to_seconds
from aredis_patterns.types import Seconds

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential with full jitter: after failure n, somewhere between zero and `first * factor ** (n - 1)`.

    Messages that failed together come back spread out. `longest` caps the bound. Seconds or timedelta.

        ReliableQueue(redis, "mails", backoff=Backoff(first=0.5, longest=60))
    """

    first: Seconds = 1.0
    longest: Seconds = 300.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        if to_seconds(self.longest, "longest") < to_seconds(self.first, "first"):
            raise ValueError(f"longest must not be shorter than first, got {self.longest!r} and {self.first!r}")
        if not 1 <= self.factor < float("inf"):
            raise ValueError(f"factor must be at least 1, got {self.factor!r}")

    def bound(self, failures: int) -> float:
        """The longest pause in seconds after so many failures."""
        first, longest = to_seconds(self.first, "first"), to_seconds(self.longest, "longest")
        try:
            return min(first * self.factor ** (failures - 1), longest)
        except OverflowError:
            return longest

    def pause(self, failures: int, uniform: Uniform = random.uniform) -> float:
        """A pause in seconds."""
        return uniform(0.0, self.bound(failures))
