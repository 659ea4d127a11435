"""The scripts on a real server answer what the plain Python models answer: any schedule, cost and limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aredis_patterns.ratelimit import Limit
from aredis_patterns.ratelimit._models import FixedWindowModel, SlidingWindowLogModel, TokenBucketModel

MODELS: dict[str, Callable[[Limit], Any]] = {
    "fixed": FixedWindowModel,
    "aligned": lambda limit: FixedWindowModel(limit, aligned=True),
    "log": SlidingWindowLogModel,
    "bucket": TokenBucketModel,
}

PERIODS = st.sampled_from([60_000_000, 86_400_000_000, 61_234_567, 3_600_000_001])
AMOUNTS = st.integers(1, 12) | st.sampled_from([999_983, 1_000_000_000])
LIMITS = st.builds(Limit, AMOUNTS, PERIODS)
# Fractions of a period, so that steps land on both sides of every edge; some go back.
STEPS = st.one_of(
    st.just(0.0),
    st.floats(0, 0.3),
    st.sampled_from([0.25, 0.5, 1.0, 1.5, 3.0]),
    st.floats(-0.5, 0),
    st.sampled_from([-1.0, -2.5, -30.0]),
)
SHARES = st.sampled_from([0.0, 0.1, 0.34, 0.5, 1.0, 1.5])
STORIES = st.lists(st.tuples(STEPS, st.integers(-1, 1), SHARES, st.booleans(), st.none() | LIMITS), max_size=25)
SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@SETTINGS
@given(limit=LIMITS, story=STORIES, burst=st.none() | st.integers(1, 20))
@example(limit=Limit.per_minute(1), story=[(0.0, 0, 1.0, True, None), (-2.5, 0, 1.0, True, None)] * 3, burst=None)
async def test_script_and_model_agree(
    bench: Any, decide: Any, algorithm: str, now: int, limit: Limit, story: list[Any], burst: int | None
) -> None:
    if algorithm == "bucket":
        limit = Limit(limit.amount, limit.period_us, burst)
    model = MODELS[algorithm](limit)
    key = bench.fresh_key()
    bench.outlives_its_story = True
    for step, nudge, share, charge, other in story:
        now += int(step * limit.period_us) + nudge
        if other is not None:
            model.limit = other
        current = model.limit
        cost = round(share * current.capacity)
        expected = model.decide(now=now, cost=cost, charge=charge)
        assert await decide(bench, key, current, now=now, cost=cost, charge=charge) == expected
        assert 0 <= expected.remaining <= current.capacity


@SETTINGS
@given(limit=LIMITS, story=STORIES)
def test_retry_after_is_the_first_moment_that_is_allowed(
    algorithm: str, now: int, limit: Limit, story: list[Any]
) -> None:
    """Of hits. After the clock went back by more than a period a peek cannot know: the next hit mends the state."""
    model = MODELS[algorithm](limit)
    for step, nudge, share, _, _ in story:
        now += int(step * limit.period_us) + nudge
        cost = round(share * limit.amount)
        answer = model.decide(now=now, cost=cost)
        if not answer.allowed and answer.retry_after > 0:
            assert not model.decide(now=now + answer.retry_after - 1, cost=cost, charge=False).allowed
            assert model.decide(now=now + answer.retry_after, cost=cost, charge=False).allowed
        assert (answer.retry_after == -1) == (cost > limit.capacity)
