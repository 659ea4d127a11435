"""Diagnosis: what real servers and networks say becomes one message with what to do."""

from __future__ import annotations

import asyncio
import copy
import socket
from collections.abc import Awaitable
from typing import Any

import pytest
from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aredis_patterns._core.diagnosis import check_version, translate
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import (
    OutcomeUnknown,
    PermissionDenied,
    ReadOnlyServer,
    ScriptsDenied,
    ServerOutOfMemory,
    ServerTooOld,
    ServerUnavailable,
    WrongPassword,
)

SET = "return redis.call('SET', KEYS[1], '1')"
SECRET = "correct-horse"


async def error_of(call: Awaitable[Any]) -> Exception:
    try:
        await call
    except Exception as error:
        return error
    pytest.fail("the server did not refuse")


def once(url: str, **options: Any) -> Redis:
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)


async def test_permissions(own_client: Redis, own_server: EmbeddedServer) -> None:
    rules = f"on >{SECRET} ~ap:* &ap:* +get +eval +@connection"
    await own_client.execute_command("ACL", "SETUSER", "limited", *rules.split())
    async with once(own_server.url, username="limited", password=SECRET) as client:
        refused = {
            "+set": client.set("ap:x", 1),
            "+evalsha +script|load": client.evalsha("0" * 40, 0),
            "+script|load": client.script_load("return 1"),
            "~ap:rl:*": client.get("other"),
        }
        for rule, call in refused.items():
            error = await error_of(call)
            known = translate(error, command="script hit", key="ap:rl:{x}")
            assert isinstance(known, PermissionDenied)
            assert str(known).startswith("script hit on key 'ap:rl:{x}': no permission")
            assert "ACL SETUSER" in str(known)
            assert str(known).endswith(f" {rule}")
            assert known.status_code == "NOPERM"
            assert SECRET not in str(known)


async def test_permissions_inside_a_script(own_client: Redis, own_server: EmbeddedServer) -> None:
    await own_client.execute_command("ACL", "SETUSER", "limited", "on", "nopass", "~ap:*", "+get", "+eval")
    async with once(own_server.url, username="limited", password="any") as client:
        for script in (SET, "return redis.call('GET', 'other')"):
            known = translate(await error_of(client.eval(script, 1, "ap:x")))
            assert isinstance(known, PermissionDenied)
            assert "refused inside the script" in str(known)
            assert "@user_script" not in str(known)


@pytest.mark.parametrize(
    "said",
    [
        "The user executing the script can't run this command or subcommand script: "
        + "a" * 40
        + ", on @user_script:1.",
        "ACL failure in script: User app has no permissions to run the 'set' command script: on @user_script:1.",
    ],
)
def test_permissions_inside_a_script_in_the_words_of_each_server(said: str) -> None:
    known = translate(redis_errors.ResponseError(said, status_code="ERR"))
    assert isinstance(known, PermissionDenied)
    assert "@user_script" not in str(known)


async def test_out_of_memory(own_client: Redis) -> None:
    await own_client.config_set("maxmemory", "1")
    for call in (own_client.set("x", 1), own_client.eval(SET, 1, "x")):
        known = translate(await error_of(call), command="script hit")
        assert isinstance(known, ServerOutOfMemory)
        assert isinstance(known, redis_errors.OutOfMemoryError)
        assert "maxmemory-policy" in str(known)
        assert "@user_script" not in str(known)


async def test_read_only(own_client: Redis) -> None:
    await own_client.execute_command("REPLICAOF", "127.0.0.1", "1")
    for call in (own_client.set("x", 1), own_client.eval(SET, 1, "x")):
        known = translate(await error_of(call))
        assert isinstance(known, ReadOnlyServer)
        assert isinstance(known, redis_errors.ReadOnlyError)
        assert "connect to its primary" in str(known)


async def test_script_commands_that_are_not_there() -> None:
    async with EmbeddedServer(config={"rename-command": "EVALSHA nobody-knows"}) as server, once(server.url) as client:
        known = translate(await error_of(client.evalsha("0" * 40, 0)))
        assert isinstance(known, ScriptsDenied)
        assert "allow EVALSHA, EVALSHA_RO and SCRIPT LOAD" in str(known)
        other = await error_of(client.execute_command("FOO"))
        assert translate(other) is other


async def test_passwords(own_client: Redis, own_server: EmbeddedServer) -> None:
    async def refusal(**login: str) -> str:
        async with once(own_server.url, **login) as client:
            known = translate(await error_of(client.ping()), where=f"redis://app:{SECRET}@host:6379")
            assert isinstance(known, WrongPassword)
            assert SECRET not in str(known)
            assert str(known).startswith("redis://host:6379: ")
            return str(known)

    assert "user name or password are wrong" in await refusal(username="nobody", password=SECRET)
    await own_client.config_set("requirepass", "another")
    try:
        assert "wants a password and none was given" in await refusal()
        assert "user name or password are wrong" in await refusal(password=SECRET)
    finally:
        await own_client.config_set("requirepass", "")


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("redis://127.0.0.1:{free}", "nobody listens there"),
        ("redis://no-such-host.invalid", "host name is not known"),
        ("unix:///no/such.sock", "the socket cannot be opened (no such file or directory)"),
    ],
)
async def test_nobody_there(url: str, advice: str, unused_port: int) -> None:
    async with once(url.format(free=unused_port)) as client:
        error = await error_of(client.ping())
    known = translate(error, where="cache:6379")
    assert isinstance(known, ServerUnavailable)
    assert str(known).startswith("Error "), "redis-py's own sentence, which programs search for, comes first"
    assert advice in str(known).lower()
    assert str(copy.copy(known)) == str(known), "a lane copies errors for its callers"


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_something_else_listens() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with once(f"redis://127.0.0.1:{port}") as client:
            known = translate(await error_of(client.ping()), where=f"127.0.0.1:{port}")
    assert isinstance(known, ServerUnavailable)
    assert "does not speak the Redis protocol" in str(known)


@pytest.mark.parametrize("error", [TimeoutError(), redis_errors.TimeoutError("Timeout connecting to server")])
def test_silence_while_connecting(error: Exception) -> None:
    known = translate(error, where="cache:6379")
    assert isinstance(known, ServerUnavailable)
    assert "no answer in time" in str(known)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        redis_errors.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        redis_errors.NoScriptError("No matching script.", status_code="NOSCRIPT"),
        redis_errors.ConnectionError("Connection closed by server."),
        redis_errors.TimeoutError("Timeout reading from socket"),
        OutcomeUnknown("INCR"),
    ],
)
def test_everything_else_is_returned_as_it_is(error: Exception) -> None:
    assert translate(error, command="script hit", key="k") is error


@pytest.mark.parametrize(
    "error", [redis_errors.MaxConnectionsError(), redis_errors.BusyLoadingError(), OutcomeUnknown("INCR")]
)
def test_errors_about_the_pool_or_a_moment_do_not_blame_the_address(error: Exception) -> None:
    assert translate(error, where="cache:6379") is error


@pytest.mark.parametrize("command", ["HELLO", "EVALSHA_RO"])
def test_a_server_that_lacks_newer_commands_is_too_old(command: str) -> None:
    said = redis_errors.ResponseError(f"unknown command `{command}`, with args beginning with: `3`, ")
    assert isinstance(translate(said, where="cache:6379"), ServerTooOld)


@pytest.mark.parametrize(
    "info",
    [
        {"redis_version": "6.2.14"},
        {"redis_version": "2.8"},
        {"redis_version": "7.2.4", "valkey_version": "7.1.0"},
    ],
)
def test_too_old(info: dict[str, str]) -> None:
    with pytest.raises(ServerTooOld, match=r"Redis 7\.0 or Valkey 7\.2 is needed at least"):
        check_version(info)


@pytest.mark.parametrize(
    "info",
    [
        {"redis_version": "7.0.0"},
        {"redis_version": "10.0.1"},
        {"redis_version": "7.2.4", "valkey_version": "9.1.2"},
        {"redis_version": "unstable"},
        {},
    ],
)
def test_new_enough_or_unknown(info: dict[str, str]) -> None:
    check_version(info)


async def test_the_version_of_a_real_server(redis_client: Redis) -> None:
    check_version(await redis_client.info("server"))
