"""The scripts on a real server answer what the plain Python models answer, under a clock of our own."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from aredis_patterns.locks import _scripts
from aredis_patterns.locks._models import LockModel, ReadWriteModel, SemaphoreModel
from aredis_patterns.pipelining import lane_of

NOW = 1_758_000_000_123_456
TIME = "local time = redis.call('TIME')"
TTL = 600_000
"""Milliseconds; the clock of a story stands still for the server, so keys must not expire meanwhile."""

STORIES = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
TOKENS = st.sampled_from(["a", "b", "c", "d", "e"])
PAUSES = st.sampled_from([0, 1, 40_000, 60_000, 400_000, 30_000_000])


class Bench:
    """Runs our scripts with the time as two more arguments."""

    def __init__(self, client: Redis, namespace: str) -> None:
        self.commands = lane_of(client)
        self.base = f"{namespace}:{{{uuid.uuid4().hex}}}"

    async def run(self, name: str, suffixes: Sequence[str], args: Sequence[Any], now: int) -> list[int]:
        text = getattr(_scripts, f"_{name.upper()}").text.replace(TIME, "local time = {ARGV[#ARGV - 1], ARGV[#ARGV]}")
        keys = [self.base + suffix for suffix in suffixes]
        words = ("EVAL", text, len(keys), *keys, *args, *divmod(now, 1_000_000))
        return list(await self.commands.call(*words, key=keys[0]))


LOCK_STEPS = st.lists(st.tuples(st.sampled_from("aaarrlk"), TOKENS, st.booleans(), st.booleans(), PAUSES), max_size=30)


@STORIES
@given(steps=LOCK_STEPS)
async def test_lock(redis_client: Redis, namespace: str, steps: list[tuple[str, str, bool, bool, int]]) -> None:
    bench, model, now = Bench(redis_client, namespace), LockModel(), NOW
    tickets: dict[str, int] = {}
    rules: dict[str, bool] = {}
    for verb, token, fair, enqueue, pause in steps:
        now += pause
        rule = rules.setdefault(token, fair)
        if verb == "a":
            ticket = tickets.get(token, 0)
            args = [token, TTL, "", "inbox", int(enqueue), "f" if rule else "u", ticket]
            found = await bench.run("lock_acquire", ["", ":fence", ":queue"], args, now)
            expected = model.acquire(token, fair=rule, enqueue=enqueue, ticket=ticket, now=now)
            assert tuple(found[:3]) == expected
            tickets[token] = 0 if expected[0] else expected[2]
        else:
            name, leave = ("" if verb == "k" else token), verb == "l"
            member = f"{token}\n{'f' if rule else 'u'}\ninbox" if leave else ""
            found = await bench.run("lock_release", ["", ":queue"], [name, member, 0, 0, 50_000, TTL], now)
            released, _ = (
                model.release(name, leave=leave, patience=50_000, now=now)
                if name
                else model.release("", leave=False, patience=50_000, now=now)
            )
            assert found[0] == released
            if leave:
                tickets[token] = 0
    waiting = await redis_client.zrange(bench.base + ":queue", 0, -1)
    assert [entry.split(b"\n")[0].decode() for entry in waiting] == [each.token for each in model.queue]


PERMIT_STEPS = st.lists(
    st.tuples(st.sampled_from("aaarrlk"), TOKENS, st.integers(1, 3), st.booleans(), PAUSES), max_size=30
)


@STORIES
@given(steps=PERMIT_STEPS, limit=st.integers(3, 5))
async def test_semaphore(
    redis_client: Redis, namespace: str, steps: list[tuple[str, str, int, bool, int]], limit: int
) -> None:
    bench, model, now = Bench(redis_client, namespace), SemaphoreModel(limit), NOW
    tickets: dict[str, int] = {}
    weights: dict[str, int] = {}
    for verb, token, some, enqueue, pause in steps:
        now += pause
        weight = weights.setdefault(token, some)
        if verb == "a":
            ticket = tickets.get(token, 0)
            args = [token, TTL, limit, weight, "inbox", int(enqueue), ticket]
            found = await bench.run("permit_acquire", ["", ":fence", ":queue"], args, now)
            expected = model.acquire(token, weight=weight, ttl=TTL * 1000, enqueue=enqueue, ticket=ticket, now=now)
            assert tuple(found[:3]) == expected
            tickets[token] = 0 if expected[0] else expected[2]
        else:
            name, leave = ("" if verb == "k" else token), verb == "l"
            member = f"{token}\n{weight}\ninbox" if leave else ""
            found = await bench.run("permit_release", ["", ":queue"], [name, member, limit, 0, 20_000], now)
            assert tuple(found[:2]) == model.release(name, leave=leave, reserve=20_000_000, now=now)
            if leave:
                tickets[token] = 0
        assert await redis_client.zcard(bench.base) == len(model.held) <= limit


RW_STEPS = st.lists(
    st.tuples(st.sampled_from("aaarrlk"), TOKENS, st.sampled_from("rrw"), st.booleans(), PAUSES), max_size=30
)


@STORIES
@given(steps=RW_STEPS)
async def test_read_write(redis_client: Redis, namespace: str, steps: list[tuple[str, str, str, bool, int]]) -> None:
    bench, model, now = Bench(redis_client, namespace), ReadWriteModel(), NOW
    tickets: dict[str, int] = {}
    kinds: dict[str, str] = {}
    for verb, token, some, enqueue, pause in steps:
        now += pause
        kind = kinds.setdefault(token, some)
        if verb == "a":
            ticket = tickets.get(token, 0)
            args = [token, kind, TTL, "inbox", int(enqueue), ticket]
            found = await bench.run("rw_acquire", ["", ":fence", ":readers", ":writers"], args, now)
            expected = model.acquire(token, kind=kind, ttl=TTL * 1000, enqueue=enqueue, ticket=ticket, now=now)
            assert tuple(found[:3]) == expected
            tickets[token] = 0 if expected[0] else expected[2]
        else:
            name, leave = ("" if verb == "k" else token), verb == "l"
            member = f"{token}\ninbox" if leave else ""
            args = [name, kind, member, 0, 20_000]
            found = await bench.run("rw_release", ["", ":readers", ":writers"], args, now)
            assert tuple(found[:2]) == model.release(name, kind=kind, leave=leave, reserve=20_000_000, now=now)
            if leave:
                tickets[token] = 0
        parts = {member.decode() for member in await redis_client.zrange(bench.base, 0, -1)}
        assert parts == {f"{kind}:{token}" for kind, token in model.held}
        assert sum(part.startswith("w") for part in parts) <= (1 if len(parts) == 1 else 0)
