"""Script: one EVALSHA, NOSCRIPT repaired alone, nothing repeated, refusals explained."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from aredis_patterns._core.script import MOST_REPAIRS, Script, assemble
from aredis_patterns.exceptions import (
    OutcomeUnknown,
    PermissionDenied,
    ReplyTimeout,
    ScriptContractError,
    ServerOutOfMemory,
)
from aredis_patterns.pipelining import lane_of
from aredis_patterns.testing import FaultProxy, assert_round_trips
from aredis_patterns.types import Command, Commands, Encodable, Key


def script(name: str, body: str, *, read_only: str = "no", replay_safe: str = "no") -> Script:
    header = f"""\
-- {name}.
--
-- KEYS[1] counter  string  <ns>:{{<key>}}  a number
-- ARGV[1] amount   units   what to add
-- RETURN[1] value  units   the new number
-- READ-ONLY {read_only}
-- REPLAY-SAFE {replay_safe}
--
"""
    return Script(name, header + body)


ADD = script("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
PUT = script("put", "redis.call('SET', KEYS[1], ARGV[1]) return ARGV[1]", replay_safe="yes")
READ = script("read", "return redis.call('GET', KEYS[1])", read_only="yes", replay_safe="yes")


class Recorder:
    """Commands that passes everything on and remembers it."""

    def __init__(self, inner: Commands | None = None, replies: Sequence[Any] = ()) -> None:
        self.inner = inner
        self.replies = list(replies)
        self.sent: list[str] = []
        self.options: list[dict[str, Any]] = []

    async def call(self, *args: Encodable, **options: Any) -> Any:
        self.sent.append(str(args[0]))
        self.options.append(options)
        if self.inner is not None:
            return await self.inner.call(*args, **options)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def batch(self, commands: Sequence[Command], **options: Any) -> list[Any]:
        self.sent.append("+".join(str(command[0]) for command in commands))
        self.options.append(options)
        if self.inner is not None:
            return await self.inner.batch(commands, **options)
        return list(self.replies.pop(0))

    def post(self, *args: Encodable, key: Key | None = None) -> None:
        raise AssertionError("a script is never posted")


def unknown() -> NoScriptError:
    return NoScriptError("No matching script.", status_code="NOSCRIPT")


async def test_one_round_trip_once_the_server_knows_it(redis_client: Redis, namespace: str) -> None:
    commands = Recorder(lane_of(redis_client))
    await ADD(commands, keys=[f"{namespace}:a"], args=[1])
    commands.sent.clear()
    assert await ADD(commands, keys=[f"{namespace}:a"], args=[2], deadline=5) == 3
    assert commands.sent == ["EVALSHA"]
    assert commands.options[-1] == {"key": f"{namespace}:a", "replay_safe": False, "deadline": 5}


async def test_repair_is_one_load_and_one_call(own_client: Redis) -> None:
    commands = Recorder(lane_of(own_client))
    for expected in (1, 2):
        await own_client.script_flush()
        commands.sent.clear()
        assert await ADD(commands, keys=["a"], args=[1], deadline=5) == expected
        assert commands.sent == ["EVALSHA", "SCRIPT+EVALSHA"]
        assert commands.options[-1]["key"] == "a"
        assert 0 < commands.options[-1]["deadline"] < 5, "one deadline for the call and its repair"


async def test_round_trips_on_the_wire(own_client: Redis, own_server: Any) -> None:
    async with FaultProxy(own_server.url) as proxy, Redis.from_url(proxy.url) as client:
        await client.ping()
        commands = lane_of(client)
        await commands.call("PING")
        async with assert_round_trips(proxy, 2):
            await ADD(commands, keys=["a"], args=[1])
        async with assert_round_trips(proxy, 1):
            await ADD.many(commands, [([f"k{n}"], [n]) for n in range(20)])
        assert "EXISTS" not in repr(proxy.statistics().commands)


async def test_read_only_scripts_use_the_read_only_command(redis_client: Redis, namespace: str) -> None:
    commands = Recorder(lane_of(redis_client))
    assert await READ(commands, keys=[f"{namespace}:none"], args=[0]) is None
    assert commands.sent[-1].endswith("EVALSHA_RO")
    assert commands.options[-1]["replay_safe"] is True
    writing = script("liar", "return redis.call('SET', KEYS[1], ARGV[1])", read_only="yes", replay_safe="yes")
    with pytest.raises(ResponseError, match="[Ww]rite commands are not allowed"):
        await writing(commands, keys=[f"{namespace}:a"], args=[1])


async def test_many_after_a_flush_repairs_each_and_repeats_none(own_client: Redis) -> None:
    await own_client.script_flush()
    replies = await ADD.many(lane_of(own_client), [(["a"], [1]) for _ in range(50)])
    assert sorted(replies) == list(range(1, 51)), "each was executed exactly once"


async def test_many_finishes_all_before_it_raises_the_first_error(redis_client: Redis, namespace: str) -> None:
    await redis_client.lpush(f"{namespace}:list", 1)
    calls = [([f"{namespace}:{name}"], [1]) for name in ("a", "list", "b")]
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await ADD.many(lane_of(redis_client), calls)
    assert await redis_client.mget(f"{namespace}:a", f"{namespace}:b") == [b"1", b"1"]


async def test_a_flush_between_every_step_ends_after_a_few_repairs() -> None:
    commands = Recorder(replies=[unknown(), *[[b"sha", unknown()] for _ in range(MOST_REPAIRS)]])
    with pytest.raises(NoScriptError):
        await ADD(commands, keys=["a"], args=[1])
    assert commands.sent == ["EVALSHA"] + ["SCRIPT+EVALSHA"] * MOST_REPAIRS


@pytest.mark.parametrize("outcome", [OutcomeUnknown("EVALSHA"), ResponseError("ERR wrong"), ReplyTimeout("EVALSHA")])
@pytest.mark.parametrize("repairing", [False, True])
async def test_nothing_else_is_ever_repeated(outcome: Exception, repairing: bool) -> None:
    commands = Recorder(replies=[unknown(), [b"sha", outcome]] if repairing else [outcome])
    with pytest.raises(type(outcome)) as caught:
        await ADD(commands, keys=["a"], args=[1])
    assert caught.value is outcome
    assert len(commands.sent) == (2 if repairing else 1)


@pytest.mark.parametrize("during", ["call", "repair"])
async def test_a_lost_reply_is_applied_once_and_reported(during: str, own_client: Redis, own_server: Any) -> None:
    if during == "call":
        await own_client.script_load(ADD.text)
    async with FaultProxy(own_server.url) as proxy, Redis.from_url(proxy.url) as client:
        proxy.drop_replies("EVALSHA", nth=1 if during == "call" else 2, times=1)
        with pytest.raises(OutcomeUnknown):
            await ADD(lane_of(client), keys=["a"], args=[1])
        assert await own_client.get("a") == b"1"


async def test_a_replay_safe_script_survives_a_lost_reply(own_client: Redis, own_server: Any) -> None:
    await own_client.script_load(PUT.text)
    async with FaultProxy(own_server.url) as proxy, Redis.from_url(proxy.url) as client:
        proxy.drop_replies("EVALSHA", times=1)
        assert await PUT(lane_of(client), keys=["a"], args=[7]) == b"7"


async def test_the_deadline_is_kept(fault_proxy: FaultProxy, namespace: str) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        commands = lane_of(client)
        await ADD(commands, keys=[f"{namespace}:a"], args=[1])
        rule = fault_proxy.hold_replies("EVALSHA")
        with pytest.raises(ReplyTimeout):
            await ADD(commands, keys=[f"{namespace}:a"], args=[1], deadline=0.05)
        rule.release()


@pytest.mark.parametrize(
    ("keys", "args"), [([], [1]), (["a", "b"], [1]), (["a"], []), (["a"], [1, 2]), ("a", [1]), (["a"], "1")]
)
@pytest.mark.parametrize("many", [False, True])
async def test_a_wrong_number_of_keys_or_arguments_is_refused_before_any_io(keys: Any, args: Any, many: bool) -> None:
    commands = Recorder()
    with pytest.raises(ScriptContractError, match=r"add takes (KEYS \(counter\)|ARGV \(amount\)), got"):
        await (ADD.many(commands, [(["a"], [1]), (keys, args)]) if many else ADD(commands, keys=keys, args=args))
    assert commands.sent == []


async def test_refusals_are_explained(own_client: Redis) -> None:
    commands = lane_of(own_client)
    await ADD(commands, keys=["a"], args=[1])
    await own_client.config_set("maxmemory", "1")
    with pytest.raises(ServerOutOfMemory, match="^script add on key 'a': ") as caught:
        await ADD(commands, keys=["a"], args=[1])
    assert isinstance(caught.value.__cause__, ResponseError)


async def test_when_loading_is_denied_that_is_the_error(own_client: Redis, own_server: Any) -> None:
    await own_client.execute_command("ACL", "SETUSER", "app", "on", "nopass", "~*", "+@all", "-script")
    async with Redis.from_url(own_server.url, username="app", password="any") as client:
        with pytest.raises(PermissionDenied, match=r"grant it with: ACL SETUSER \S+ \+script\|load"):
            await ADD(lane_of(client), keys=["a"], args=[1])


async def test_resp_and_decoding_make_no_difference(
    redis_url: str, namespace: str, client_options: dict[str, Any]
) -> None:
    async with Redis.from_url(redis_url, **client_options) as client:
        assert await PUT(lane_of(client), keys=[f"{namespace}:a".encode()], args=["é"]) == "é".encode()


async def test_a_cancelled_many_leaves_nothing_behind(redis_client: Redis, namespace: str) -> None:
    commands = lane_of(redis_client)
    before = asyncio.all_tasks()
    many = asyncio.create_task(ADD.many(commands, [([f"{namespace}:{n}"], [1]) for n in range(10)]))
    await asyncio.sleep(0)
    many.cancel()
    with pytest.raises(asyncio.CancelledError):
        await many
    assert {task for task in asyncio.all_tasks() - before if "lane" not in task.get_name()} == set()
    assert await ADD(commands, keys=[f"{namespace}:other"], args=[1]) == 1


async def test_a_posted_script_runs_behind_what_was_sent_before_and_needs_no_repair(
    own_client: Redis, own_server: Any
) -> None:
    commands = lane_of(own_client)
    await own_client.script_flush()
    set_first = asyncio.ensure_future(commands.call("SET", "n", 5, key="n"))
    await asyncio.sleep(0)
    ADD.post(commands, keys=["n"], args=[1])
    assert await set_first == b"OK"
    assert await commands.call("GET", "n", key="n") == b"6"
    with pytest.raises(ScriptContractError):
        ADD.post(commands, keys=["n"])


def test_repr() -> None:
    assert repr(ADD) == f"<Script add {ADD.sha[:8]}, once only>"
    assert repr(READ).endswith("read-only>")


async def test_a_call_without_a_coroutine_is_repaired_or_raised_like_any_other(own_client: Redis) -> None:
    commands = lane_of(own_client)

    async def call(key: str, amount: object) -> object:
        begun = ADD.begin(commands, [key], [amount], 5.0, at_once=True)  # type: ignore[list-item]
        assert begun is not None
        reply = await begun
        return await ADD.finish(reply, commands, [key], [amount], 5.0) if isinstance(reply, Exception) else reply  # type: ignore[list-item]

    assert await call("counter", 2) == 2
    await own_client.script_flush()
    assert [await call("counter", 3), await call("counter", 4)] == [5, 9]
    await own_client.rpush("list", "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await call("list", 1)
    await commands.aclose()


def test_parts_go_between_the_header_and_the_body() -> None:
    files = {
        "main": "-- Does it.\n--\n-- RETURN[1] it  units  what\nlocal x = both()\nreturn {x}",
        "_both": "-- What both need.\nlocal function both() return one + two end",
        "_one": "-- First.\nlocal one = 1",
        "_two": "local two = 2",
    }
    text = assemble("main", files.__getitem__, ["_one", "_two", "_both"])
    assert text.index("RETURN[1]") < text.index("local one") < text.index("local two") < text.index("both()")
    assert text.index("-- First.") < text.index("RETURN[1]")
    assert text.endswith("return {x}")
