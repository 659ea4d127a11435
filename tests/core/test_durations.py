"""Durations: whole units out, nonsense refused by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aredis_patterns._core.durations import timeout_seconds, to_microseconds, to_milliseconds, to_seconds

CONVERSIONS: list[Callable[..., Any]] = [to_microseconds, to_milliseconds, to_seconds]


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        (1, 1_000_000),
        (0.1, 100_000),
        (1.1, 1_100_000),
        (0.000001, 1),
        (timedelta(microseconds=1), 1),
        (timedelta(days=3653), 3653 * 86_400_000_000),
        (timedelta(seconds=90, microseconds=7), 90_000_007),
    ],
)
def test_exact(value: float | timedelta, micros: int) -> None:
    assert to_microseconds(value) == micros
    assert to_seconds(value) == micros / 1_000_000


@pytest.mark.parametrize(("value", "millis"), [(0.0005, 1), (0.0014, 1), (0.0016, 2), (0.3, 300), (10, 10_000)])
def test_milliseconds_are_rounded_to_the_nearest(value: float, millis: int) -> None:
    assert to_milliseconds(value) == millis


@pytest.mark.parametrize("convert", CONVERSIONS)
@pytest.mark.parametrize(
    "value",
    [0, 0.0, -0.0, -1, -0.5, float("nan"), float("inf"), True, False, timedelta(0), timedelta(-1), 1e-9]
    + [3654 * 86_400, 1e300, 10**400, timedelta(days=3654), timedelta.max],
)
def test_refused_with_name_and_value(convert: Callable[..., Any], value: Any) -> None:
    with pytest.raises(ValueError, match="^lease must") as caught:
        convert(value, "lease")
    assert repr(value) in str(caught.value)


def test_a_ttl_that_would_round_to_no_expiry_is_refused() -> None:
    assert to_microseconds(0.0004) == 400
    with pytest.raises(ValueError, match=r"ttl must be at least one millisecond, got 0\.0004"):
        to_milliseconds(0.0004)


@pytest.mark.parametrize("value", ["1", None, b"1", [1], 1j])
def test_other_types_are_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="ttl must be seconds or a timedelta"):
        to_milliseconds(value)


def test_timeouts() -> None:
    assert timeout_seconds(None) is None
    assert timeout_seconds(0) == 0.0
    assert timeout_seconds(timedelta(milliseconds=250)) == 0.25
    assert timeout_seconds(2.5) == 2.5


@pytest.mark.parametrize("value", [-1, -0.001, float("nan"), float("inf"), True, timedelta(-1), 1e9])
def test_timeouts_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="^timeout must"):
        timeout_seconds(value)


@given(st.integers(min_value=1, max_value=3653 * 86_400_000_000))
def test_number_and_timedelta_agree(micros: int) -> None:
    assert to_microseconds(timedelta(microseconds=micros)) == micros
    # A float has 53 bits, ten years of microseconds need 49.
    assert to_microseconds(micros / 1_000_000) == micros
