"""How long to wait before trying again: pure sequences of seconds, without a clock and without sleeping.

    for pause in exponential(first=0.05, longest=2.0):
        if await attempt():
            return
        await asyncio.sleep(pause)

The sequences do not end; the caller owns the limit (a number of attempts, a deadline) because only it knows which.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from aredis_patterns._core.durations import to_seconds
from aredis_patterns.types import Seconds

__all__ = ["Uniform", "constant", "exponential"]

Uniform = Callable[[float, float], float]
"""Draws a number between two others. `random.Random(seed).uniform` in tests."""


def constant(pause: Seconds, *, jitter: float = 0.0, uniform: Uniform = random.uniform) -> Iterator[float]:
    """The same pause each time, give or take the fraction `jitter` of it (0 to 1)."""
    middle = to_seconds(pause, "pause")
    if not 0 <= jitter <= 1:
        raise ValueError(f"jitter must be between 0 and 1, got {jitter!r}")
    return _constant(middle, middle * jitter, uniform)


def exponential(
    *, first: Seconds, longest: Seconds, factor: float = 2.0, uniform: Uniform = random.uniform
) -> Iterator[float]:
    """Full jitter: each pause is drawn between zero and a bound that grows from `first` to `longest` by `factor`.

    Many clients that fail together come back spread over the whole bound, not in waves. A single pause may be near
    zero; where a minimum matters, take `constant` with jitter.
    """
    bound, cap = to_seconds(first, "first"), to_seconds(longest, "longest")
    if cap < bound:
        raise ValueError(f"longest must not be shorter than first, got {longest!r} and {first!r}")
    if not 1 <= factor < float("inf"):
        raise ValueError(f"factor must be at least 1, got {factor!r}")
    return _exponential(bound, cap, factor, uniform)


# The generators are apart from the checks, so that a wrong argument is refused by the call and not by the first pause.


def _constant(middle: float, spread: float, uniform: Uniform) -> Iterator[float]:
    while True:
        yield uniform(middle - spread, middle + spread) if spread else middle


def _exponential(bound: float, cap: float, factor: float, uniform: Uniform) -> Iterator[float]:
    while True:
        yield uniform(0.0, bound)
        bound = min(bound * factor, cap)
