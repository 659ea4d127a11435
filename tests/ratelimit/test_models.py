"""The scripts on a real server answer what the plain Python models answer: any schedule, cost and limit."""

from __future__ import annotations

import itertools
import os
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aredis_patterns.ratelimit import Limit
from aredis_patterns.ratelimit import _scripts as scripts
from aredis_patterns.ratelimit._flow import flow_of
from aredis_patterns.ratelimit._models_flow import ConcurrencyModel, GCRAModel, LeakyQueueModel, TokenBucketModel

LONG = bool(os.environ.get("AREDIS_PATTERNS_LONG"))
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
VERBS = st.sampled_from(["hit", "hit", "hit", "peek", "give back", "force"])
STORIES = st.lists(st.tuples(STEPS, st.integers(-1, 1), SHARES, VERBS, st.none() | LIMITS), max_size=20)
SETTINGS = settings(
    max_examples=3000 if LONG else 200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SETTINGS
@given(limit=LIMITS, story=STORIES, burst=st.none() | st.integers(1, 20))
@example(limit=Limit.per_minute(1), story=[(0.0, 0, 1.0, "hit", None), (-2.5, 0, 1.0, "hit", None)] * 3, burst=None)
async def test_script_and_model_agree(
    bench: Any, algorithm: Any, now: int, limit: Limit, story: list[Any], burst: int | None
) -> None:
    if algorithm.has_burst:
        limit = Limit(limit.amount, limit.period_us, burst)
    model = algorithm.model(limit)
    key = bench.fresh_key()
    bench.outlives_its_story = True
    for step, nudge, share, verb, other in story:
        now += int(step * limit.period_us) + nudge
        if other is not None:
            model.limit = other
        current = model.limit
        cost = round(share * current.capacity)
        if verb in ("give back", "force"):
            units = max(1, cost) * (1 if verb == "force" else -1)
            expected = model.adjust(now=now, units=units)
            assert await bench.adjust(algorithm, key, current, now=now, units=units) == expected
        else:
            charge = verb == "hit"
            expected = model.decide(now=now, cost=cost, charge=charge and cost > 0)
            assert await bench.hit(algorithm, key, current, now=now, cost=cost, charge=charge) == expected
        assert 0 <= expected.remaining <= current.capacity


@SETTINGS
@given(limit=LIMITS, story=STORIES)
def test_retry_after_is_the_first_moment_that_is_allowed(
    algorithm: Any, now: int, limit: Limit, story: list[Any]
) -> None:
    """Of hits. After the clock went back by more than a period a peek cannot know: the next hit mends the state."""
    model = algorithm.model(limit)
    for step, nudge, share, verb, _ in story:
        now += int(step * limit.period_us) + nudge
        cost = round(share * limit.amount)
        if verb in ("give back", "force"):
            model.adjust(now=now, units=max(1, cost) * (1 if verb == "force" else -1))
            continue
        answer = model.decide(now=now, cost=cost)
        if not answer.allowed and answer.retry_after > 0:
            assert not model.decide(now=now + answer.retry_after - 1, cost=cost, charge=False).allowed
            assert model.decide(now=now + answer.retry_after, cost=cost, charge=False).allowed
        assert (answer.retry_after == -1) == (cost > limit.capacity)


@SETTINGS
@given(limit=LIMITS, burst=st.none() | st.integers(1, 20), story=STORIES)
def test_gcra_decides_as_a_token_bucket_does(now: int, limit: Limit, burst: int | None, story: list[Any]) -> None:
    """While the limit and the clock are what they are."""
    limit = Limit(limit.amount, limit.period_us, burst)
    gcra, bucket = GCRAModel(limit), TokenBucketModel(limit)
    for step, nudge, share, verb, _ in story:
        now += max(0, int(step * limit.period_us) + nudge)
        cost = round(share * limit.capacity)
        charge = verb != "peek" and cost > 0
        assert gcra.decide(now=now, cost=cost, charge=charge) == bucket.decide(now=now, cost=cost, charge=charge)


PASSES = st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 3)), max_size=60)


@SETTINGS
@given(limit=st.builds(Limit, st.integers(1, 6), st.just(1_000_000)), passes=PASSES)
def test_the_worst_case_in_a_trailing_window_is_what_the_docstrings_say(
    algorithm: Any, now: int, limit: Limit, passes: list[tuple[int, int]]
) -> None:
    model = algorithm.model(limit)
    passed: list[tuple[int, int]] = []
    for step, cost in passes:
        now += step
        if model.decide(now=now, cost=cost).allowed:
            passed.append((now, cost))
    bound = limit.amount if algorithm.name == "log" else 2 * limit.amount
    for end, _ in passed:
        inside = sum(cost for at, cost in passed if end - limit.period_us < at <= end)
        assert inside <= bound
        if algorithm.name == "counter":
            assert inside < bound


@SETTINGS
@given(limit=st.builds(Limit, st.integers(1, 6), st.just(1_000_000)), story=PASSES, back=st.lists(st.integers(0, 4)))
def test_a_log_that_gave_back_never_holds_more_than_the_limit(
    now: int, limit: Limit, story: list[tuple[int, int]], back: list[int]
) -> None:
    """Whichever request it was that did not happen: the worst is the newest."""
    from aredis_patterns.ratelimit._models import SlidingWindowLogModel

    model = SlidingWindowLogModel(limit)
    passed: list[tuple[int, int]] = []
    for number, (step, cost) in enumerate(story):
        now += step
        if model.decide(now=now, cost=cost).allowed:
            passed.append((now, cost))
        if passed and number in back:
            _, units = passed.pop()
            model.adjust(now=now, units=-units)
    for end, _ in passed:
        assert sum(cost for at, cost in passed if end - limit.period_us < at <= end) <= limit.amount


QUEUE_STORIES = st.lists(
    st.tuples(st.floats(0, 1.5), st.integers(1, 3), st.sampled_from([0.0, 0.5, 100.0]), st.booleans()), max_size=20
)


@SETTINGS
@given(amount=st.integers(1, 9), burst=st.integers(1, 12), period=PERIODS, story=QUEUE_STORIES)
async def test_queue_and_model_agree_and_places_are_evenly_apart(
    bench: Any, now: int, amount: int, burst: int, period: int, story: list[Any]
) -> None:
    limit = Limit(amount, period, burst)
    flow = flow_of(limit)
    model, key = LeakyQueueModel(limit), bench.fresh_key()
    bench.outlives_its_story = True
    places: list[tuple[int, int]] = []
    for step, cost, patience, leaves in story:
        now += int(step * period / amount)
        longest = int(patience * period)
        expected, tail = model.enter(now=now, cost=cost, patience=longest)
        args = [limit.capacity, *flow, cost, longest, 0]
        reply = await bench.run(scripts._QUEUE, [key], args, now=now)
        assert reply == [*expected, tail]
        if not expected.allowed:
            continue
        if leaves:
            assert model.leave(now=now, cost=cost, tail=tail)
            reply = await bench.run(scripts._QUEUE, [key], [limit.capacity, *flow, cost, 0, tail], now=now)
            assert reply[0] == 1
        else:
            places.append((now + expected.retry_after, cost))
    for (first, cost), (second, _) in itertools.pairwise(places):
        assert second - first >= cost * period // amount - 1


TOKENS = st.sampled_from(["a", "b", "c", "d", "e"])


@SETTINGS
@given(
    limit=st.integers(1, 3),
    story=st.lists(st.tuples(st.sampled_from(["take", "wait", "release"]), TOKENS, st.integers(0, 40)), max_size=25),
)
async def test_leases_and_model_agree_and_never_exceed_the_limit(
    bench: Any, now: int, limit: int, story: list[Any]
) -> None:
    lease = 60_000_000
    model, key = ConcurrencyModel(limit, lease=lease), bench.fresh_key()
    bench.outlives_its_story = True
    keys = [key, f"{key}:line"]
    for verb, token, step in story:
        now += step * 1_000_000 + 1
        if verb == "release":
            expected = model.release(token, now=now)
            reply = await bench.run(scripts._CONCURRENCY_RELEASE, keys, [limit, lease, token, ""], now=now)
            assert reply == [int(expected)]
        else:
            waits = verb == "wait"
            expected = model.acquire(token, now=now, wait=waits)
            reply = await bench.run(scripts._CONCURRENCY_ACQUIRE, keys, [limit, lease, token, int(waits), ""], now=now)
            assert reply[0] == int(expected)
            assert reply[1] == limit - len(model.holders)
        assert len(model.holders) <= limit
