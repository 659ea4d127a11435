"""Scripts under a clock of our own: what they must answer at a given microsecond, and what they leave behind."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from importlib import resources
from typing import Any, Protocol, TypeVar

import pytest
from redis.asyncio import Redis

from aredis_patterns.pipelining import lane_of
from aredis_patterns.ratelimit import Limit
from aredis_patterns.ratelimit._result import Decision
from aredis_patterns.ratelimit._token_bucket import flow_of

NOW = 1_758_000_000_123_456
"""A day on which Lua's 14 digits are two too few."""

TIME = "local time = redis.call('TIME')"


class Bench:
    """Runs the text of a script with TIME replaced by two more arguments."""

    def __init__(self, client: Redis, namespace: str) -> None:
        self.client = client
        self.commands = lane_of(client)
        self.namespace = namespace
        self._fresh = 0
        self.outlives_its_story = False
        """Whether keys stay for ten minutes of real time: in a story the clock stands still while that one runs."""

    def fresh_key(self) -> str:
        """A key that nobody has used."""
        self._fresh += 1
        return f"{self.namespace}:{self._fresh}"

    async def run(self, name: str, key: str, args: list[int], *, now: int) -> Decision:
        text = resources.files("aredis_patterns.ratelimit").joinpath("lua", f"{name}.lua").read_text()
        assert text.count(TIME) == 1
        text = text.replace(TIME, "local time = {ARGV[#ARGV - 1], ARGV[#ARGV]}")
        if self.outlives_its_story:
            text = text.replace("\nreturn {", "\nredis.call('PEXPIRE', KEYS[1], 600000)\nreturn {")
        seconds, micros = divmod(now, 1_000_000)
        return Decision(*await self.commands.call("EVAL", text, 1, key, *args, seconds, micros, key=key))

    async def state(self, key: str) -> tuple[Any, int]:
        """What the key holds, and its TTL in ms."""
        kind = await self.client.type(key)
        value = await (self.client.zrange(key, 0, -1, withscores=True) if kind == b"zset" else self.client.get(key))
        return value, await self.client.pttl(key)


class Decide(Protocol):
    """One request at one moment."""

    def __call__(
        self, bench: Bench, key: str, limit: Limit, *, now: int, cost: int = 1, charge: bool = True
    ) -> Awaitable[Decision]: ...


async def _fixed(
    bench: Bench, key: str, limit: Limit, *, now: int, cost: int = 1, charge: bool = True, aligned: bool = False
) -> Decision:
    args = [limit.amount, limit.period_us, cost, int(charge and cost > 0), int(aligned)]
    return await bench.run("fixed_window_hit", key, args, now=now)


async def _aligned(bench: Bench, key: str, limit: Limit, *, now: int, cost: int = 1, charge: bool = True) -> Decision:
    return await _fixed(bench, key, limit, now=now, cost=cost, charge=charge, aligned=True)


async def _log(bench: Bench, key: str, limit: Limit, *, now: int, cost: int = 1, charge: bool = True) -> Decision:
    args = [limit.amount, limit.period_us, cost, int(charge and cost > 0)]
    return await bench.run("sliding_log_hit", key, args, now=now)


async def _bucket(bench: Bench, key: str, limit: Limit, *, now: int, cost: int = 1, charge: bool = True) -> Decision:
    args = [limit.capacity, *flow_of(limit), cost, int(charge and cost > 0)]
    return await bench.run("token_bucket_hit", key, args, now=now)


ALGORITHMS: dict[str, Decide] = {"fixed": _fixed, "aligned": _aligned, "log": _log, "bucket": _bucket}

T = TypeVar("T")


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    """Each algorithm by name."""
    return str(request.param)


@pytest.fixture
def decide(algorithm: str) -> Decide:
    """Each algorithm's script."""
    return ALGORITHMS[algorithm]


@pytest.fixture
async def bench(redis_client: Redis, namespace: str) -> AsyncGenerator[Bench, None]:
    """Where scripts run under our clock. Every key that is left must have a TTL."""
    yield Bench(redis_client, namespace)
    immortal = [
        key
        async for key in redis_client.scan_iter(match=f"{namespace}*", count=1000)
        if await redis_client.pttl(key) == -1
    ]
    assert not immortal, f"keys without TTL: {immortal}"


@pytest.fixture
def now() -> int:
    """A moment in microseconds."""
    return NOW


@pytest.fixture
def decide_by_name() -> Callable[[str], Decide]:
    """The script of an algorithm."""
    return ALGORITHMS.__getitem__
