"""Scripts under a clock of our own: what they must answer at a given microsecond, and what they leave behind."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from aredis_patterns import (
    FixedWindowLimiter,
    GCRALimiter,
    LeakyBucketLimiter,
    Limit,
    Limiter,
    SlidingWindowCounterLimiter,
    SlidingWindowLogLimiter,
    TokenBucketLimiter,
)
from aredis_patterns._core.script import Script
from aredis_patterns.pipelining import lane_of
from aredis_patterns.ratelimit import _scripts as scripts
from aredis_patterns.ratelimit._models import (
    FixedWindowModel,
    LimiterModel,
    SlidingWindowCounterModel,
    SlidingWindowLogModel,
)
from aredis_patterns.ratelimit._models_flow import GCRAModel, TokenBucketModel
from aredis_patterns.ratelimit._result import Decision
from aredis_patterns.ratelimit._scripts import Numbers

NOW = 1_758_000_000_123_456
"""A day on which Lua's 14 digits are two too few."""

TIME = "local time = redis.call('TIME')"
OUR_TIME = "local time = {table.remove(ARGV, 1), table.remove(ARGV, 1)}\n"
LONG_LIFE = "for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 600000) end"

KINDS: list[type[Limiter]] = [
    FixedWindowLimiter,
    SlidingWindowLogLimiter,
    SlidingWindowCounterLimiter,
    TokenBucketLimiter,
    GCRALimiter,
    LeakyBucketLimiter,
]


class Algorithm:
    """One algorithm: its numbers, its model, and whether a burst means something to it."""

    def __init__(self, name: str, kind: type[Limiter], model: Callable[[Limit], LimiterModel], **options: Any) -> None:
        self.name = name
        self.model = model
        self.has_burst = kind._any_period
        self._limiter = kind(Redis(), "1/second", **options)

    def numbers(self, limit: Limit) -> Numbers:
        return self._limiter._numbers(limit)

    def __repr__(self) -> str:
        return self.name


ALGORITHMS = {
    each.name: each
    for each in (
        Algorithm("fixed", FixedWindowLimiter, FixedWindowModel),
        Algorithm("aligned", FixedWindowLimiter, lambda limit: FixedWindowModel(limit, aligned=True), start="clock"),
        Algorithm("log", SlidingWindowLogLimiter, SlidingWindowLogModel),
        Algorithm("counter", SlidingWindowCounterLimiter, SlidingWindowCounterModel),
        Algorithm("bucket", TokenBucketLimiter, TokenBucketModel),
        Algorithm("gcra", GCRALimiter, GCRAModel),
    )
}


def under_our_clock(text: str, *, outlives: bool) -> str:
    """The script with its time taken from two arguments in front of the others."""
    assert text.count(TIME) == 1
    start = text.index("local algorithms = {}")
    text = text[:start] + OUR_TIME + text[start:].replace(TIME, "", 1)
    if outlives:
        text = text.replace("\nreturn {", f"\n{LONG_LIFE}\nreturn {{")
    return text


class Bench:
    """Runs scripts with TIME replaced by two more arguments."""

    def __init__(self, client: Redis, namespace: str) -> None:
        self.client = client
        self.commands = lane_of(client)
        self.namespace = namespace
        self._fresh = 0
        self._scripts: dict[tuple[str, str, bool], Script] = {}
        self.outlives_its_story = False
        """Whether keys stay for ten minutes of real time: in a story the clock stands still while that one runs."""

    def fresh_key(self) -> str:
        """A key that nobody has used."""
        self._fresh += 1
        return f"{self.namespace}:{{{self._fresh}}}"

    async def run(self, script: Script, keys: list[str], args: list[Any], *, now: int) -> list[int]:
        found = self._scripts.get((script.name, script.sha, self.outlives_its_story))
        if found is None:
            text = under_our_clock(script.text, outlives=self.outlives_its_story)
            found = Script(script.name, text.replace("-- ARGV", "-- argv"))
            self._scripts[script.name, script.sha, self.outlives_its_story] = found
        seconds, micros = divmod(now, 1_000_000)
        command = ("EVALSHA", found.sha, len(keys), *keys, seconds, micros, *args)
        try:
            reply: list[int] = await self.commands.call(*command, key=keys[0])
        except NoScriptError:
            await self.commands.call("SCRIPT", "LOAD", found.text, key=keys[0])
            reply = await self.commands.call(*command, key=keys[0])
        return reply

    async def hit(
        self, algorithm: Algorithm, key: str, limit: Limit, *, now: int, cost: int = 1, charge: bool = True
    ) -> Decision:
        numbers = algorithm.numbers(limit)
        script = scripts._HIT[numbers.algorithm]
        return Decision(*await self.run(script, [key], [*numbers, int(charge), cost], now=now))

    async def adjust(self, algorithm: Algorithm, key: str, limit: Limit, *, now: int, units: int) -> Decision:
        numbers = algorithm.numbers(limit)
        script = scripts._ADJUST[numbers.algorithm]
        return Decision(*await self.run(script, [key], [*numbers, units], now=now))

    async def state(self, key: str) -> tuple[Any, int]:
        """What the key holds, and its TTL in ms."""
        kind = await self.client.type(key)
        value = await (self.client.zrange(key, 0, -1, withscores=True) if kind == b"zset" else self.client.get(key))
        return value, await self.client.pttl(key)


@pytest.fixture(params=ALGORITHMS.values(), ids=repr)
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    """Each algorithm."""
    return request.param


@pytest.fixture
def algorithms() -> dict[str, Algorithm]:
    """All algorithms by name."""
    return ALGORITHMS


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[Limiter]:
    """Each limiter with the common verbs."""
    return request.param


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
