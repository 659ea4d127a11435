"""What is refused before any I/O."""

from __future__ import annotations

from typing import Final

from aredis_patterns.exceptions import ScoreRangeError

__all__ = ["check_score"]

LARGEST_SCORE: Final = 2**53
"""Beyond it, neighbouring integers are the same float."""


def check_score(score: object, name: str = "score") -> float:
    """The number as Redis gets it. ScoreRangeError for NaN, infinities and what a float does not hold exactly."""
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        raise ValueError(f"a {name} is an int or a float, got {score!r}")
    if not -LARGEST_SCORE <= score <= LARGEST_SCORE:  # false for NaN, too
        raise ScoreRangeError(f"a {name} is a number from -2**53 to 2**53, got {score!r}")
    return float(score) + 0.0  # no negative zero, and one way to write an int or a float of another library
