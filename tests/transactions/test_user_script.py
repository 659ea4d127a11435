"""Scripts of the user: contract, repair, read-only, functions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ResponseError

from aredis_patterns import OutcomeUnknown, Patterns, Script, ScriptContractError, UserScript
from aredis_patterns.pipelining import lane_of
from aredis_patterns.testing import FaultProxy, LocalCluster, assert_round_trips

ADD = """\
-- Adds to a counter, up to a limit.
--
-- KEYS[1] counter  string  <user's key>
-- ARGV[1] most     units   the limit
-- RETURN[1] value  units   the counter after this
-- READ-ONLY no
-- REPLAY-SAFE no
--
local counter = KEYS[1]
local most = tonumber(ARGV[1])
local value = tonumber(redis.call('GET', counter) or 0)
if value < most then
  value = redis.call('INCR', counter)
  redis.call('EXPIRE', counter, 60)
end
return {value}
"""
LOOK = """\
-- Reads a counter.
--
-- KEYS[1] counter  string  <user's key>
-- RETURN[1] value  bytes   what it holds
-- READ-ONLY yes
-- REPLAY-SAFE yes
--
local counter = KEYS[1]
return {redis.call('GET', counter)}
"""


@pytest.fixture
def add_file(tmp_path: Path) -> Path:
    file = tmp_path / "add_up_to.lua"
    file.write_text(ADD)
    return file


@pytest.fixture(params=[False, True], ids=["script", "function"])
def as_function(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_a_file_is_called_like_a_function(
    redis_url: str, client_options: dict[str, Any], add_file: Path, namespace: str, as_function: bool
) -> None:
    async with Redis.from_url(redis_url, **client_options) as client:
        add = UserScript(client, add_file, returns=lambda reply: int(reply[0]), as_function=as_function)
        values = await asyncio.gather(*(add(keys=[f"{namespace}:n"], args=[3]) for _ in range(5)))
        assert sorted(values) == [1, 2, 3, 3, 3]
        look = UserScript(client, Script("look", LOOK), as_function=as_function)
        assert await look(keys=[f"{namespace}:n"]) == [b"3"]
        await lane_of(client).aclose()


async def test_once_known_it_is_one_round_trip(
    lossy: Redis, fault_proxy: FaultProxy, add_file: Path, namespace: str, as_function: bool
) -> None:
    add = UserScript(lossy, add_file, as_function=as_function)
    await add(keys=[f"{namespace}:n"], args=[3])
    async with assert_round_trips(fault_proxy, 1):
        await add(keys=[f"{namespace}:n"], args=[3])
    commands = fault_proxy.statistics().commands
    assert "SCRIPT EXISTS" not in commands


async def test_flushes_are_repaired_under_load(
    redis_client: Redis, fault_proxy: FaultProxy, lossy: Redis, add_file: Path, namespace: str, as_function: bool
) -> None:
    add = UserScript(lossy, add_file, returns=lambda reply: int(reply[0]), as_function=as_function)
    for _ in range(10):
        # Other families' scripts repair themselves as well, so a flush disturbs nobody.
        flush = redis_client.function_flush("SYNC") if as_function else redis_client.script_flush()
        answers = asyncio.gather(*(add(keys=[f"{namespace}:n"], args=[10_000]) for _ in range(20)))
        await flush  # type: ignore[misc]
        await answers
    assert await redis_client.get(f"{namespace}:n") == b"200"
    assert not [name for name in fault_proxy.statistics().commands if name == "SCRIPT EXISTS"]


async def test_a_lost_reply_is_told_unless_the_header_says_replay_safe(
    lossy: Redis, fault_proxy: FaultProxy, redis_client: Redis, add_file: Path, namespace: str
) -> None:
    add = UserScript(lossy, add_file)
    look = UserScript(lossy, Script("look", LOOK))
    await add(keys=[f"{namespace}:n"], args=[3])
    await look(keys=[f"{namespace}:n"])
    fault_proxy.drop_replies("EVALSHA", times=1)
    with pytest.raises(OutcomeUnknown):
        await add(keys=[f"{namespace}:n"], args=[3])
    assert await redis_client.get(f"{namespace}:n") == b"2"
    lost = fault_proxy.drop_replies("EVALSHA_RO", times=1)
    assert await look(keys=[f"{namespace}:n"]) == [b"2"]
    assert lost.applied == 1


async def test_a_read_only_script_cannot_write(redis_client: Redis, namespace: str, as_function: bool) -> None:
    liar = LOOK.replace("'GET', counter", "'INCR', counter")
    script = UserScript(redis_client, Script("liar", liar), as_function=as_function)
    with pytest.raises(ResponseError, match=r"[Ww]rite commands are not allowed"):
        await script(keys=[f"{namespace}:n"])
    assert not await redis_client.exists(f"{namespace}:n")


async def test_the_contract_is_checked_before_any_io(add_file: Path, tmp_path: Path) -> None:
    nobody = Redis(host="127.0.0.1", port=1)
    add = UserScript(nobody, add_file)
    with pytest.raises(ScriptContractError, match="takes KEYS"):
        await add(keys=[], args=[1])
    with pytest.raises(ScriptContractError, match="takes ARGV"):
        await add(keys=["a"], args=[1, 2])
    headless = tmp_path / "headless.lua"
    headless.write_text("return 1\n")
    with pytest.raises(ScriptContractError):
        UserScript(nobody, headless)


async def test_from_the_hub(redis_url: str, add_file: Path, namespace: str) -> None:
    async with Patterns.from_url(redis_url, namespace=namespace) as p:
        assert await p.script(add_file)(keys=[f"{namespace}:n"], args=[1]) == [1]
        assert await p.increment(f"{namespace}:n", 4) == 5
        await p.increment(f"{namespace}:{{t}}", 9, ttl=60)
        assert await p.transfer(f"{namespace}:{{t}}", f"{namespace}:{{t}}:2", 4) == (5, 4)
        assert await p.compare_and_set(f"{namespace}:n", "5", None)
        assert (await p.batch().run([("DEL", f"{namespace}:n")])).done == 1
        assert await p.optimistic("a").run(lambda tx: tx.get("a")) is None


async def test_on_a_cluster(redis_cluster: LocalCluster, add_file: Path, as_function: bool) -> None:
    async with RedisCluster.from_url(redis_cluster.url) as cluster:
        add = UserScript(cluster, add_file, returns=lambda reply: int(reply[0]), as_function=as_function)
        keys = [f"script:{as_function}:{number}" for number in range(12)]
        assert await asyncio.gather(*(add(keys=[key], args=[5]) for key in keys)) == [1] * 12
        await lane_of(cluster).aclose()
