"""The scripts on a real server: against the model, in any order; what they leave behind; what the clock cannot do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from aredis_patterns.caching import _scripts
from aredis_patterns.caching._entry import entry_text, parse_entry
from aredis_patterns.caching._keys import CacheKeys, EntryKeys
from aredis_patterns.caching._models import EntryModel
from aredis_patterns.caching._scripts import Status
from aredis_patterns.pipelining import lane_of

DAY = 86_400_000

TOKENS = st.sampled_from("abc")
TAGS = st.sampled_from([(), ("t",), ("u",), ("t", "u")])
STEPS = st.one_of(
    st.tuples(st.just("read"), TOKENS, st.sampled_from(["load", "load", "refresh", "look"])),
    st.tuples(st.just("load"), TOKENS),
    st.tuples(st.just("fill"), TOKENS, TAGS),
    st.tuples(st.just("fail"), TOKENS),
    st.tuples(st.just("invalidate")),
    st.tuples(st.just("write_begin"), st.sampled_from("xy")),
    st.tuples(st.just("write_commit"), st.sampled_from("xy"), TAGS, st.booleans()),
    st.tuples(st.just("put"), TAGS, st.sampled_from(["", "NX", "XX"])),
    st.tuples(st.just("bump"), TAGS),
)
STORIES = st.lists(STEPS, max_size=30)


class Bench:
    """One entry on the server, driven by hand."""

    def __init__(self, client: Redis, namespace: str) -> None:
        self.client = client
        self.commands = lane_of(client)
        self.namespace = namespace
        self._fresh = 0
        self.keys: EntryKeys

    async def begin(self) -> None:
        self._fresh += 1
        self.keys = CacheKeys(self.namespace, str(self._fresh), 1).of("k")
        await self.tend()

    async def stored(self) -> set[bytes]:
        """The keys of this test: those of others come and go."""
        return {key async for key in self.client.scan_iter(match=f"{self.namespace}*", count=1000)}

    async def tend(self, horizon: int = DAY) -> int:
        shard = self.keys.shard
        return await _scripts.tend(self.commands, epoch=shard.epoch, tags=shard.tags, horizon=horizon)

    async def read(self, token: str, mode: str = "load", **other: Any) -> tuple[Status, Any]:
        options: dict[str, Any] = {"lease_ms": 60_000, "ahead": 0, "waiter": "", "unreadable": "", "horizon": DAY}
        found = await _scripts.read(self.commands, **self.keys.named, token=token, mode=mode, **{**options, **other})
        payload = int(parse_entry(found.found).payload) if found.found[:1] == b"#" else None
        return found.status, payload

    def entry(self, token: str, payload: object, tags: tuple[str, ...] = ()) -> bytes:
        return entry_text(600_000, 0, token, b"-", tags, str(payload).encode())

    async def fill(self, token: str, payload: object, tags: tuple[str, ...] = (), px: int = 600_000) -> bool:
        entry = self.entry(token, payload, tags)
        return await _scripts.fill(self.commands, **self.keys.named, token=token, entry=entry, px=px, most=1000)

    async def fail(self, token: str, failure: str = "", throttle: int = 0, error_ttl: int = 0) -> bool:
        options = {"failure": failure, "throttle": throttle, "error_ttl": error_ttl}
        return await _scripts.fail(self.commands, **self.keys.named, token=token, **options)  # type: ignore[arg-type]

    async def invalidate(self, hold: int = 0) -> bool:
        return await _scripts.invalidate(self.commands, **self.keys.named, hold=hold)

    async def write_begin(self, token: str, px: int = 60_000) -> bool:
        return await _scripts.write_begin(self.commands, **self.keys.named, token=token, px=px)

    async def write_commit(
        self, token: str, payload: object, tags: tuple[str, ...] = (), *, store: bool = True
    ) -> bool:
        entry = self.entry(token, payload, tags) if store else b""
        return await _scripts.write_commit(self.commands, **self.keys.named, token=token, entry=entry, px=600_000)

    async def put(self, token: str, payload: object, tags: tuple[str, ...] = (), *, only: str = "") -> Any:
        entry = self.entry(token, payload, tags)
        return await _scripts.put(
            self.commands,
            **self.keys.named,
            token=token,
            entry=entry,
            px=600_000,
            only=only,
            keep_ttl=False,
            horizon=DAY,
        )

    async def bump(self, names: tuple[str, ...] = ()) -> int:
        shard = self.keys.shard
        return await _scripts.bump(
            self.commands, epoch=shard.epoch, tags=shard.tags, names=" ".join(names), horizon=DAY
        )


@pytest.fixture
def bench(redis_client: Redis, namespace: str) -> Bench:
    return Bench(redis_client, namespace)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(story=STORIES)
@example(story=[("read", "a", "load"), ("load", "a"), ("invalidate",), ("fill", "a", ()), ("read", "b", "load")])
@example(story=[("read", "a", "load"), ("load", "a"), ("bump", ("t",)), ("fill", "a", ("t",)), ("read", "b", "look")])
@example(
    story=[("write_begin", "x"), ("write_begin", "y"), ("write_commit", "y", (), True), ("write_commit", "x", (), True)]
)
@example(story=[("write_begin", "x"), ("bump", ("t",)), ("write_commit", "x", ("t",), True), ("read", "a", "look")])
@example(story=[("write_begin", "x"), ("bump", ()), ("write_commit", "x", (), True), ("read", "a", "look")])
@example(story=[("write_begin", "x"), ("invalidate",), ("write_commit", "x", (), True), ("read", "a", "look")])
async def test_any_interleaving_answers_as_the_model_and_never_shows_what_is_too_old(
    bench: Bench, story: list[Any]
) -> None:
    """A payload is the moment at which it was read from the source. What is found must be younger than the last
    invalidation that concerns it."""
    await bench.begin()
    model = EntryModel()
    loaded: dict[str, int] = {}
    written: dict[str, int] = {}
    invalidated = {"": 0, "t": 0, "u": 0}
    for moment, (step, *args) in enumerate(story, 1):
        if step == "read":
            token, mode = args
            expected: Any = model.read(token, mode)
            answer: Any = await bench.read(token, mode)
            status, payload = answer
            if payload is not None:
                assert payload >= invalidated[""]
                assert model.value is not None
                assert all(payload >= invalidated[tag] for tag in model.value.tags)
            if status in (Status.LOAD, Status.REFRESH):
                loaded[token] = moment
        elif step == "load":  # the loader reads its row, some time after it was chosen
            if args[0] in loaded:
                loaded[args[0]] = moment
            continue
        elif step == "fill":
            token, tags = args
            expected = model.fill(token, loaded.get(token, 0), tags)
            answer = await bench.fill(token, loaded.get(token, 0), tags)
        elif step == "write_commit":
            token, tags, store = args
            begun = written.pop(token, 0)  # what the source has been given then
            expected = model.write_commit(token, begun, tags, store=store)
            answer = await bench.write_commit(token, begun, tags, store=store)
        elif step == "put":
            tags, only = args
            expected = model.put(f"p{moment}", moment, tags, only=only)
            answer = await bench.put(f"p{moment}", moment, tags, only=only)
            invalidated[""] = moment if expected == 1 else invalidated[""]
        elif step == "bump":
            expected = model.bump(args[0])
            answer = None if await bench.bump(args[0]) else 0
            invalidated.update(dict.fromkeys(args[0] or ("",), moment))
        else:
            expected = getattr(model, step)(*args)
            answer = await getattr(bench, step)(*args)
            if step in ("invalidate", "write_begin"):
                invalidated[""] = moment
            if step == "write_begin":
                written[args[0]] = moment
        assert answer == expected, (step, args)


async def test_a_repeated_call_changes_nothing_and_answers_the_same(bench: Bench) -> None:
    """What the wire may send again after a lost reply."""
    await bench.begin()
    for _ in range(2):
        assert await bench.read("a") == (Status.LOAD, None)
    for _ in range(2):
        assert await bench.fill("a", 1)
    for _ in range(2):
        assert await bench.write_begin("x")
    for _ in range(2):
        assert await bench.write_commit("x", 2)
    assert await bench.read("b") == (Status.HIT, 2)
    await bench.invalidate()
    for _ in range(2):
        assert await bench.put("p", 3, only="NX") == 1


async def test_waiting_registers_and_looking_writes_nothing(bench: Bench) -> None:
    await bench.begin()
    before = await bench.stored()
    assert (await bench.read("a", "look"))[0] is Status.MISS
    assert await bench.stored() == before
    await bench.read("a")
    assert (await bench.read("b", waiter="channel b"))[0] is Status.WAIT
    assert set(await bench.client.hkeys(bench.keys.lease)) == {b"o", b"v", b"wchannel b"}
    await bench.fail("a")
    assert not await bench.client.exists(bench.keys.lease)


async def test_a_failure_is_held_back_only_as_asked(bench: Bench) -> None:
    await bench.begin()
    await bench.read("a")
    await bench.fail("a", failure="x", error_ttl=60_000)
    assert (await bench.read("b"))[0] is Status.FAILED
    assert (await bench.read("b", "refresh"))[0] is Status.LOAD
    await bench.fill("b", 1)
    await bench.read("c", "refresh")
    await bench.fail("c", failure="x", throttle=60_000)
    assert await bench.read("d", ahead=10_000_000) == (Status.HIT, 1)
    await bench.invalidate()
    assert (await bench.read("d"))[0] is Status.LOAD, "a throttle is for old values"


async def test_a_hold_lets_nobody_store(bench: Bench) -> None:
    await bench.begin()
    await bench.invalidate(hold=60_000)
    assert (await bench.read("a"))[0] is Status.BYPASS
    assert not await bench.write_begin("x")
    assert not await bench.write_commit("x", 1)
    assert 0 < await bench.client.pttl(bench.keys.named["writers"]) <= 60_000


async def test_a_writer_that_dies_ends_with_its_time(bench: Bench) -> None:
    await bench.begin()
    await bench.write_begin("x", px=1)
    async with asyncio.timeout(2):
        while (await bench.read("a"))[0] is Status.BYPASS:
            pass
    assert not await bench.write_commit("x", 1), "too late"
    assert (await bench.read("b"))[0] is Status.LOAD


async def test_a_dead_writer_is_not_kept_alive_by_those_after_it(bench: Bench) -> None:
    await bench.begin()
    await bench.write_begin("dead", px=50)
    assert not await bench.write_begin("x", px=60_000), "beaten: the other one is open"
    assert not await bench.write_commit("x", 1)
    await bench.invalidate(hold=50)
    async with asyncio.timeout(5):
        while not await bench.write_begin("y", px=60_000):
            await bench.write_commit("y", 2)
    assert await bench.write_commit("y", 3)
    assert await bench.read("a") == (Status.HIT, 3)


async def test_numbers_rise_when_the_clock_goes_back(bench: Bench) -> None:
    await bench.begin()
    future = 4_000_000_000_000_000
    await bench.client.set(bench.keys.shard.epoch, future, keepttl=True)
    await bench.put("p", 1, ("t",))
    assert await bench.bump(("t",)) == future + 1
    assert (await bench.read("a", "look"))[0] is Status.MISS
    await bench.put("q", 2, ("t",))
    assert await bench.bump() == future + 2
    assert (await bench.read("a", "look"))[0] is Status.MISS


async def test_versions_live_longer_than_entries_and_are_only_prolonged(bench: Bench) -> None:
    await bench.begin()
    shard = bench.keys.shard
    for key in (shard.epoch, shard.tags):
        assert DAY - 5_000 < await bench.client.pttl(key) <= DAY
    await bench.tend(2 * DAY)
    await bench.tend(1000)
    for key in (shard.epoch, shard.tags):
        assert await bench.client.pttl(key) > DAY
    assert (await bench.read("a", horizon=10 * DAY))[0] is Status.CARE
    await bench.tend(0)
    assert await bench.client.pttl(shard.epoch) == await bench.client.pttl(shard.tags) == -1
    assert (await bench.read("a", horizon=0))[0] is Status.LOAD
