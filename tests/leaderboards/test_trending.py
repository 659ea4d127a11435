"""Trending scores decay by themselves, and the order never needs recomputing."""

from __future__ import annotations

import asyncio
import math
from importlib import resources
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from aredis_patterns import PipelinedRedis, Trending
from aredis_patterns.leaderboards._models import TrendModel
from aredis_patterns.pipelining import lane_of
from aredis_patterns.testing import FaultProxy, assert_round_trips

HOUR = 3_600_000_000
TIME = "local time = redis.call('TIME')"


class Bench:
    """The two scripts with TIME replaced by two more arguments."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self.commands = lane_of(client)
        self.keys = [f"{prefix}:{{t}}:op", f"{prefix}:{{t}}:z", f"{prefix}:{{t}}:t0"]
        self.operation = 0

    async def run(self, name: str, keys: list[str], args: list[Any], now: int) -> Any:
        text = resources.files("aredis_patterns.leaderboards").joinpath("lua", f"{name}.lua").read_text()
        assert text.count(TIME) == 1
        text = text.replace(TIME, "local time = {ARGV[#ARGV - 1], ARGV[#ARGV]}")
        return await self.commands.call("EVAL", text, len(keys), *keys, *args, *divmod(now, 1_000_000), key=keys[0])

    async def hit(self, item: bytes, weight: float, now: int, max_size: int = 0) -> tuple[float, int]:
        self.operation += 1
        args = [self.operation, item, weight, HOUR, max_size, 600_000, 600_000]
        score, rank = await self.run("add_hit", self.keys, args, now)
        return float(score), rank

    async def top(self, now: int) -> dict[bytes, float]:
        rows, _ = await self.run("read_trend", self.keys[1:], [HOUR, 100, ""], now)
        return dict(zip(rows[::2], map(float, rows[1::2]), strict=True))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    story=st.lists(
        st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([1.0, 0.5, 100.0]), st.floats(0, 500)),
        max_size=25,
    )
)
async def test_script_and_model_agree(redis_client: Redis, namespace: str, story: list[Any]) -> None:
    """Steps of up to 500 half-lives, so that the landmark moves."""
    bench, model, now = Bench(redis_client, namespace), TrendModel(HOUR), 1_758_000_000_123_456
    await redis_client.unlink(*bench.keys)
    for item, weight, step in story:
        now += int(step * HOUR)
        model.hit(item, weight, now)
        score, rank = await bench.hit(item, weight, now)
        assert score == pytest.approx(model.scores(now)[item], rel=1e-6)
        assert rank >= 1
    found, expected = await bench.top(now), model.scores(now)
    for item, score in expected.items():
        if score > 1e-60:
            assert found[item] == pytest.approx(score, rel=1e-6)
    strong = [item for item, score in sorted(expected.items(), key=lambda pair: -pair[1]) if score > 1e-60]
    close = any(math.isclose(expected[a], expected[b], rel_tol=1e-6) for a in strong for b in strong if a != b)
    assert close or list(found)[: len(strong)] == strong


async def test_a_clock_that_goes_back_breaks_nothing(redis_client: Redis, namespace: str) -> None:
    bench, now = Bench(redis_client, namespace), 1_758_000_000_000_000
    await bench.hit(b"a", 1, now)
    score, rank = await bench.hit(b"b", 1, now - HOUR)
    assert (score, rank) == (pytest.approx(1.0), 2)


async def test_hits_rank_and_repeat(fault_proxy: FaultProxy, namespace: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        trending = Trending(client, "articles", half_life=3600, namespace=namespace, deadline=5)
        await trending.hit("redis")
        await trending.get_top()
        fault_proxy.drop_replies("EVALSHA", times=1)
        hit = await trending.hit("redis")
        assert (hit.rank, hit.score) == (1, pytest.approx(2.0, abs=0.01))
        for call in (trending.hit("lua", 0.5), trending.get_top(), trending.get_entry("lua"), trending.clear()):
            async with assert_round_trips(fault_proxy, 1):
                await call
        assert await trending.get_entry("lua") is None


async def test_concurrent_hits_are_all_counted(redis_client: Redis, namespace: str) -> None:
    trending = Trending(redis_client, "t", half_life=86_400, members=int, max_size=10, namespace=namespace, deadline=5)
    await asyncio.gather(*(trending.hit(number % 20, 1 + number % 20) for number in range(200)))
    top = await trending.get_top(50)
    assert len(top) == 10
    assert [entry.rank for entry in top] == list(range(1, 11))
    assert top[0] == (1, 19, pytest.approx(200, rel=0.01), None)


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf, True, "1"])
async def test_weights_that_count_nothing_are_refused(weight: Any) -> None:
    with pytest.raises(ValueError, match="weight"):
        await Trending(Redis(port=1), "t").hit("a", weight)
    for options in ({"half_life": 0}, {"max_size": 0}):
        with pytest.raises(ValueError, match="half_life|max_size"):
            Trending(Redis(port=1), "t", **options)  # type: ignore[call-overload]
