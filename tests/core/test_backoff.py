"""Backoff: pure sequences, so they are compared as lists."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import islice
from typing import Any

import pytest

from aredis_patterns._core.backoff import constant, exponential


def test_constant() -> None:
    assert list(islice(constant(timedelta(milliseconds=50)), 3)) == [0.05] * 3


def test_constant_with_jitter_stays_inside_and_varies() -> None:
    pauses = list(islice(constant(1, jitter=0.2, uniform=random.Random(1).uniform), 100))
    assert all(0.8 <= pause <= 1.2 for pause in pauses)
    assert len(set(pauses)) > 90


def test_exponential_bounds() -> None:
    bounds = exponential(first=0.1, longest=1.0, uniform=lambda low, high: high)
    assert list(islice(bounds, 6)) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    lows = exponential(first=0.1, longest=1.0, uniform=lambda low, high: low)
    assert list(islice(lows, 3)) == [0.0, 0.0, 0.0]


def test_seeded_sequences_repeat_and_never_overflow() -> None:
    first, second = (exponential(first=1, longest=60, factor=10, uniform=random.Random(7).uniform) for _ in range(2))
    pauses = list(islice(first, 2000))
    assert pauses == list(islice(second, 2000))
    assert max(pauses) <= 60


@pytest.mark.parametrize(
    "arguments",
    [
        {"first": 0, "longest": 1},
        {"first": 2, "longest": 1},
        {"first": 1, "longest": float("inf")},
        {"first": 1, "longest": 2, "factor": 0.5},
        {"first": 1, "longest": 2, "factor": float("nan")},
    ],
)
def test_wrong_arguments_are_refused_by_the_call(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        exponential(**arguments)


@pytest.mark.parametrize("jitter", [-0.1, 1.1, float("nan")])
def test_wrong_jitter(jitter: float) -> None:
    with pytest.raises(ValueError, match="jitter must be between 0 and 1"):
        constant(1, jitter=jitter)
