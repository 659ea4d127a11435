"""Refusals that still hold, remembered in this process.

After a refusal nobody with at least that cost can pass before its `retry_after`: units only come back with time. So until
then the answer is known without asking. What can make it wrong is a refund, a reset or a raised limit. Those made through
this limiter drop the entry at once; those made elsewhere are noticed within `LONGEST_AGE`.

The time runs from before the question was sent, so an entry never outlives the refusal.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from aredis_patterns.ratelimit._limit import Limit

__all__ = ["Denial", "DenyCache"]

LONGEST_AGE: Final = 1.0
"""Seconds after which the server is asked again in any case: the price of a hot key is one round trip a second."""


class Denial(NamedTuple):
    """A refusal of the server."""

    until: float
    """When the entry is over, by the local clock."""
    cost: int
    limit: Limit
    remaining: int
    fits_at: float
    resets_at: float


class DenyCache:
    """At most `most` keys; the one that was refused longest ago goes first. Never blocks, never asks."""

    __slots__ = ("_clock", "_denials", "_dropped", "_most")

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most: Final = most
        self._clock: Final = clock
        self._denials: OrderedDict[str, Denial] = OrderedDict()
        self._dropped: OrderedDict[str, float] = OrderedDict()
        """When something was last given back, by key: an answer from before that may come after it."""

    def __len__(self) -> int:
        return len(self._denials)

    def find(self, key: str, cost: int, limit: Limit) -> tuple[Denial, float] | None:
        """The refusal that answers this request, and the time it is now."""
        denial = self._denials.get(key)
        if denial is None:
            return None
        if denial.limit is not limit and denial.limit != limit:
            del self._denials[key]  # raised, or lowered in a way that may free something
            return None
        now = self._clock()
        if now >= denial.until:
            del self._denials[key]
            return None
        return (denial, now) if cost >= denial.cost else None

    def remember(
        self,
        key: str,
        asked_at: float,
        cost: int,
        limit: Limit,
        answer: Sequence[int],
    ) -> None:
        """Keep a refusal. One that refuses a smaller cost and still holds is worth more, and stays."""
        if asked_at <= self._dropped.get(key, 0.0):
            return  # the question was under way when something was given back
        known = self._denials.get(key)
        if known is not None and known.cost < cost and known.until > asked_at and known.limit == limit:
            return
        _, remaining, retry_after, reset_after = answer
        fits_at = asked_at + retry_after / 1_000_000
        until = min(fits_at, asked_at + LONGEST_AGE)
        self._denials[key] = Denial(until, cost, limit, remaining, fits_at, asked_at + reset_after / 1_000_000)
        self._denials.move_to_end(key)
        if len(self._denials) > self._most:
            self._denials.popitem(last=False)

    def drop(self, key: str) -> None:
        """The refusal may not hold any more."""
        self._denials.pop(key, None)
        self._dropped[key] = self._clock()
        self._dropped.move_to_end(key)
        if len(self._dropped) > self._most:
            self._dropped.popitem(last=False)

    def now(self) -> float:
        """The local clock."""
        return self._clock()
