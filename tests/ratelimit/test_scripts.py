"""What the scripts leave on the server: commands, writes, TTLs; and the clock's bad days."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.pipelining import lane_of
from aredis_patterns.ratelimit import Limit, Limiter, SlidingWindowLogLimiter, TokenBucketLimiter

SECOND = 1_000_000
MINUTE = 60 * SECOND


async def test_every_key_lives_as_long_as_it_matters(bench: Any, algorithm: Any, now: int) -> None:
    key = bench.fresh_key()
    answer = await bench.hit(algorithm, key, Limit.per_minute(10), now=now, cost=10)
    _, ttl = await bench.state(key)
    assert answer.allowed
    assert answer.reset_after / 1000 - 1000 < ttl <= answer.reset_after / 1000 + 1


async def test_tiny_refill_times_never_become_a_ttl_of_zero(bench: Any, now: int) -> None:
    """A bucket that is full again within a millisecond."""
    limiter = TokenBucketLimiter(bench.client, Limit.per(1000, seconds=0.001, burst=40), namespace=bench.namespace)
    assert (await limiter.hit("key", 40)).remaining == 0
    assert (await limiter.hit("other", 1)).allowed


async def test_refusals_and_peeks_write_nothing(bench: Any, algorithm: Any, now: int) -> None:
    limit = Limit.per_minute(10)
    key = bench.fresh_key()
    assert not (await bench.hit(algorithm, key, limit, now=now, cost=11)).allowed
    assert (await bench.hit(algorithm, key, limit, now=now, cost=0)).allowed
    assert (await bench.hit(algorithm, key, limit, now=now, charge=False)).allowed
    assert await bench.client.exists(key) == 0
    await bench.hit(algorithm, key, limit, now=now, cost=8)
    await bench.client.pexpire(key, 7_000_000)  # a TTL that the scripts would not choose themselves
    before, _ = await bench.state(key)
    assert not (await bench.hit(algorithm, key, limit, now=now + 1, cost=5)).allowed
    assert (await bench.hit(algorithm, key, limit, now=now + 1, cost=5)).remaining == 2
    assert (await bench.hit(algorithm, key, limit, now=now + 1, cost=2, charge=False)).allowed
    after, ttl = await bench.state(key)
    assert after == before
    assert ttl > 6_000_000
    assert (await bench.hit(algorithm, key, limit, now=now + 1, cost=2)).remaining == 0


async def test_a_key_without_ttl_is_over_in_time_and_gets_one_again(bench: Any, algorithm: Any, now: int) -> None:
    limit = Limit.per_minute(1)
    key = bench.fresh_key()
    await bench.hit(algorithm, key, limit, now=now)
    await bench.client.persist(key)
    assert not (await bench.hit(algorithm, key, limit, now=now + 1)).allowed
    assert (await bench.hit(algorithm, key, limit, now=now + 2 * MINUTE)).allowed
    _, ttl = await bench.state(key)
    assert 0 < ttl <= 120_000


async def test_fifty_hits_in_one_microsecond_are_fifty(bench: Any, algorithm: Any, now: int) -> None:
    key = bench.fresh_key()
    answers = [await bench.hit(algorithm, key, Limit.per_minute(50), now=now) for _ in range(51)]
    assert [answer.allowed for answer in answers] == [1] * 50 + [0]


async def test_a_full_limit_frees_a_window_after_the_first_hit_however_often_it_is_tried(
    bench: Any, algorithms: dict[str, Any], now: int
) -> None:
    algorithm, key, limit = algorithms["log"], bench.fresh_key(), Limit.per_minute(3)
    for second in range(3):
        assert (await bench.hit(algorithm, key, limit, now=now + second * SECOND)).allowed
    tries = [(await bench.hit(algorithm, key, limit, now=now + 3 * SECOND + n * 20_000)).allowed for n in range(2850)]
    assert not any(tries)
    assert (await bench.hit(algorithm, key, limit, now=now + MINUTE)).allowed


@pytest.mark.parametrize("step", [5 * SECOND, MINUTE, 61 * SECOND, 3600 * SECOND])
async def test_a_clock_that_goes_back_gives_nothing_away_and_locks_nobody_out(
    bench: Any, algorithm: Any, now: int, step: int
) -> None:
    limit = Limit.per_minute(6)
    key = bench.fresh_key()
    await bench.hit(algorithm, key, limit, now=now, cost=6)
    refused = await bench.hit(algorithm, key, limit, now=now - step)
    assert not refused.allowed
    assert 0 < refused.retry_after <= min(step, 2 * MINUTE) + (2 if algorithm.name == "counter" else 1) * MINUTE
    assert not (await bench.hit(algorithm, key, limit, now=now - step + refused.retry_after - 1)).allowed
    assert (await bench.hit(algorithm, key, limit, now=now - step + refused.retry_after)).allowed


async def test_buckets_survive_a_change_of_limit(bench: Any, algorithms: dict[str, Any], now: int) -> None:
    """A burst of 1000 used up at 1/s, deployed again as 10 at 10/s: a tenth of a second, not a quarter of an hour."""
    algorithm, key = algorithms["bucket"], bench.fresh_key()
    await bench.hit(algorithm, key, Limit.per_second(1, burst=1000), now=now, cost=1000)
    answer = await bench.hit(algorithm, key, Limit.per_second(10, burst=10), now=now)
    assert (answer.allowed, answer.retry_after) == (0, 100_000)
    key = bench.fresh_key()
    await bench.hit(algorithm, key, Limit.per_second(10, burst=100), now=now, cost=1)
    lowered = await bench.hit(algorithm, key, Limit.per_second(7, burst=5), now=now, charge=False)
    assert lowered.remaining == 5


async def test_a_bucket_keeps_its_rate_under_saturation(bench: Any, algorithms: dict[str, Any], now: int) -> None:
    """100 per minute, tried every 300 ms for five minutes: exactly the burst and what has flowed in."""
    algorithm, key, limit = algorithms["bucket"], bench.fresh_key(), Limit.per_minute(100, burst=10)
    tries = [(await bench.hit(algorithm, key, limit, now=now + n * 300_000)).allowed for n in range(1001)]
    assert sum(tries) == 10 + 500


async def test_windows_on_the_clock_end_with_the_period(bench: Any, algorithms: dict[str, Any], now: int) -> None:
    algorithm, key, limit = algorithms["aligned"], bench.fresh_key(), Limit.per_minute(1)
    await bench.hit(algorithm, key, limit, now=now)
    refused = await bench.hit(algorithm, key, limit, now=now + 1)
    assert (now + 1 + refused.retry_after) % MINUTE == 0


async def test_a_wait_in_a_long_log_is_searched_not_scanned(bench: Any, algorithms: dict[str, Any], now: int) -> None:
    algorithm, key, limit = algorithms["log"], bench.fresh_key(), Limit.per_hour(70_000)
    entries = {f"{n}:1": now + n for n in range(1, 70_001)}
    await bench.client.zadd(key, entries)
    await bench.client.pexpire(key, 3_600_000)
    calls = await _calls(bench.client)
    answer = await bench.hit(algorithm, key, limit, now=now + 80_000, cost=35_000)
    assert answer.retry_after == now + 35_000 + limit.period_us - (now + 80_000)
    assert sum((await _calls(bench.client)).values()) - sum(calls.values()) < 60


async def test_commands_inside(own_client: Redis, kind: type[Limiter]) -> None:
    """At most three when allowed and two when refused for what has a single state."""
    allowed, refused = ["get", "set", "time"], ["get", "time"]
    if kind is SlidingWindowLogLimiter:
        allowed, refused = (
            ["pexpire", "time", "zadd", "zrange", "zrange", "zremrangebyscore"],
            ["time", "zrange", "zrange"],
        )
    limiter = kind(own_client, "1/minute")
    await limiter.hit("warm")
    for expected, passes in ((allowed, True), (refused, False)):
        before = await _calls(own_client)
        assert (await limiter.hit("key")).allowed is passes
        after = await _calls(own_client)
        inside = {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
        inside.pop("info", None)
        assert inside.pop("evalsha") == 1
        assert sorted(name for name, count in inside.items() for _ in range(count)) == expected
    await lane_of(own_client).aclose()


async def _calls(client: Redis) -> dict[str, int]:
    info = await client.info("commandstats")
    return {name.removeprefix("cmdstat_"): figures["calls"] for name, figures in info.items()}
