"""CommandTap: exact bytes, silence, limits, cancellation, lost connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import PermissionDenied
from aredis_patterns.monitoring import CommandTap, MonitoredCommand
from aredis_patterns.pipelining import PipelinedRedis, lane_of
from aredis_patterns.testing import cancel_everywhere

from .conftest import AWKWARD


@pytest.fixture
async def listener(own_server: EmbeddedServer, own_client: Redis) -> AsyncGenerator[Redis, None]:
    """A second client: the first has its connection already, and is heard without a handshake."""
    await own_client.ping()
    async with Redis.from_url(own_server.url) as client:
        yield client


async def test_arguments_are_exact(
    own_server: EmbeddedServer, own_client: Redis, client_options: dict[str, Any]
) -> None:
    await own_client.ping()
    async with (
        Redis.from_url(own_server.url, **client_options) as client,
        CommandTap(client, max_commands=1, duration=30, redact="none") as tap,
    ):
        await own_client.rpush("list of\n\x00", *AWKWARD)
        heard = [command async for command in tap]
    assert [command.args for command in heard] == [(b"RPUSH", b"list of\n\x00", *AWKWARD)]


async def test_values_are_hidden_by_default(own_client: Redis, listener: Redis) -> None:
    async with CommandTap(listener, max_commands=1, duration=30) as tap:
        await own_client.set("user:7", "hunter-7")
        assert [command.args async for command in tap] == [(b"SET", b"user:7", b"<8 bytes>")]


async def test_silence_longer_than_the_socket_timeout_is_no_error(
    own_server: EmbeddedServer, own_client: Redis
) -> None:
    await own_client.ping()
    async with (
        Redis.from_url(own_server.url, socket_timeout=0.1) as client,
        CommandTap(client, max_commands=1, duration=30) as tap,
    ):
        await asyncio.sleep(0.4)
        assert tap.statistics().open
        await own_client.ping()
        assert [command.args async for command in tap] == [(b"PING",)]


async def test_it_ends_with_its_time(own_client: Redis) -> None:
    began = time.monotonic()
    async with CommandTap(own_client, duration=0.2) as tap:
        assert [command async for command in tap] == []
    assert 0.2 <= time.monotonic() - began < 5
    assert repr(tap) == "<CommandTap closed, 0 of 1000 commands heard>"


async def test_it_ends_with_its_count_and_keeps_no_more(own_client: Redis) -> None:
    async with CommandTap(own_client, max_commands=5, duration=30) as tap:
        for number in range(20):
            await own_client.set("k", number)
        heard = [command async for command in tap]
    assert len(heard) == 5
    assert tap.statistics().commands == 5


async def test_a_reader_that_does_not_read_does_not_hold_the_server_up(own_client: Redis) -> None:
    """The server's output buffer stays empty, because the tap reads whether or not anybody takes."""
    async with CommandTap(own_client, max_commands=100_000, duration=30) as tap:
        for _ in range(20):
            await asyncio.gather(*(own_client.set("k", b"x" * 1000) for _ in range(50)))
        async with asyncio.timeout(10):
            while tap.statistics().commands < 1000:
                await asyncio.sleep(0.01)
        assert max(int(each["omem"]) for each in await own_client.client_list()) < 100_000


async def test_scripts_are_told_apart(own_client: Redis, listener: Redis) -> None:
    async with CommandTap(listener, max_commands=2, duration=30) as tap:
        await own_client.eval("return redis.call('GET', KEYS[1])", 1, "k")
        heard = [command async for command in tap]
    assert [(command.args[0], command.from_script) for command in heard] == [(b"EVAL", False), (b"GET", True)]


async def test_cancelled_anywhere_it_leaves_no_connection_behind(own_server: EmbeddedServer) -> None:
    async with (
        Redis.from_url(own_server.url, max_connections=3) as client,
        PipelinedRedis.from_url(own_server.url) as observer,
    ):

        async def listen() -> None:
            async with CommandTap(client, max_commands=2, duration=30) as tap:
                await observer.ping()
                await observer.ping()
                async for _ in tap:
                    pass

        async def nothing_is_left() -> None:
            async with asyncio.timeout(10):
                while any("O" in each["flags"] for each in await observer.client_list()):
                    await asyncio.sleep(0.01)

        # A pool of three would be empty after three leaks.
        assert await cancel_everywhere(listen, check=nothing_is_left, max_ticks=60) > 10
        assert await client.ping()


async def test_a_lost_connection_is_told_after_what_was_heard(own_client: Redis, listener: Redis) -> None:
    heard: list[MonitoredCommand] = []
    async with CommandTap(listener, duration=30) as tap:
        await own_client.set("k", "v")
        monitor = next(each for each in await own_client.client_list() if "O" in each["flags"])
        await own_client.client_kill_filter(_id=monitor["id"])
        with pytest.raises(ConnectionError):
            async for command in tap:
                heard.append(command)
    assert heard[0].args[0] == b"SET"


async def test_no_permission_is_told_on_entering(restricted: Redis) -> None:
    with pytest.raises(PermissionDenied, match="MONITOR"):
        async with CommandTap(restricted):
            raise AssertionError("entered")


async def test_a_client_with_lanes_keeps_them(own_server: EmbeddedServer) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        await client.set("k", "v")
        async with CommandTap(client, max_commands=1, duration=30) as tap:
            assert await client.get("k") == b"v"
            assert [command.args async for command in tap] == [(b"GET", b"k")]
        assert lane_of(client).statistics().reconnects == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_commands": 0}, "max_commands"),
        ({"max_commands": True}, "max_commands"),
        ({"duration": 0}, "duration"),
        ({"redact": "no"}, "redact"),
    ],
)
def test_limits_are_needed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CommandTap(Redis(), **options)


async def test_it_is_used_once_and_inside_its_block(own_client: Redis) -> None:
    tap = CommandTap(own_client, duration=0.05)
    with pytest.raises(RuntimeError, match="inside its block"):
        async for _ in tap:
            pass
    async with tap:
        pass
    with pytest.raises(RuntimeError, match="used once"):
        async with tap:
            pass
