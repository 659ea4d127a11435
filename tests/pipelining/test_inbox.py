"""The inbox of a process: woken by scripts, told when messages may have been missed."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import PermissionDenied, ServerUnavailable
from aredis_patterns.pipelining import inbox_of, lane_of
from aredis_patterns.testing import FaultProxy


def expectation() -> tuple[asyncio.Queue[bytes | None], object]:
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    return queue, queue.put_nowait


async def test_a_script_wakes_one_waiter(redis_client: Redis, namespace: str) -> None:
    inbox = inbox_of(redis_client, namespace)
    await inbox.open()
    one, other = asyncio.Queue[bytes | None](), asyncio.Queue[bytes | None]()
    inbox.expect("one", one.put_nowait)
    inbox.expect("other", other.put_nowait)
    script = "return redis.call('PUBLISH', ARGV[1], ARGV[2] .. '\\n' .. ARGV[3])"
    assert await redis_client.eval(script, 0, inbox.channel, "one", "line 1\nline 2") == 1
    assert await asyncio.wait_for(one.get(), 5) == b"line 1\nline 2"
    assert other.empty()
    inbox.forget("one")
    await redis_client.publish(inbox.channel, "one\nlate")
    await redis_client.publish(inbox.channel, "other")
    assert await asyncio.wait_for(other.get(), 5) == b""
    assert (inbox.stray, inbox.waiting) == (1, 1)
    await lane_of(redis_client).aclose()


async def test_opening_again_costs_nothing(redis_client: Redis, fault_proxy: FaultProxy, namespace: str) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        inbox = inbox_of(client, namespace)
        await asyncio.gather(*(inbox.open() for _ in range(20)))
        assert fault_proxy.statistics().commands["SUBSCRIBE"] == 1
        await inbox.open()
        assert fault_proxy.statistics().commands["SUBSCRIBE"] == 1
        assert inbox_of(client, namespace) is inbox
        assert inbox_of(client, f"{namespace}:2").channel != inbox.channel
        await lane_of(client).aclose()


async def test_a_lost_connection_wakes_everybody_to_look_again(fault_proxy: FaultProxy, namespace: str) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        inbox = inbox_of(client, namespace)
        await inbox.open()
        woken = asyncio.Queue[bytes | None]()
        inbox.expect("me", woken.put_nowait)
        fault_proxy.kill_connections()
        assert await asyncio.wait_for(woken.get(), 5) is None  # when it was lost
        assert await asyncio.wait_for(woken.get(), 5) is None  # and when it was back
        assert inbox.live
        await lane_of(client).aclose()


async def test_an_inbox_that_nobody_uses_does_not_come_back(fault_proxy: FaultProxy, namespace: str) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        inbox = inbox_of(client, namespace)
        await inbox.open()
        fault_proxy.kill_connections()
        async with asyncio.timeout(5):
            while inbox.live:
                await asyncio.sleep(0.005)
        subscribed = fault_proxy.statistics().commands["SUBSCRIBE"]
        await client.ping()
        assert fault_proxy.statistics().commands["SUBSCRIBE"] == subscribed
        await inbox.open()
        assert inbox.live
        await lane_of(client).aclose()


async def test_whoever_waits_during_an_outage_is_told_to_poll(fault_proxy: FaultProxy, namespace: str) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        inbox = inbox_of(client, namespace)
        await inbox.open()
        woken = asyncio.Queue[bytes | None]()
        inbox.expect("me", woken.put_nowait)
        fault_proxy.refuse_connections()
        fault_proxy.kill_connections()
        assert await asyncio.wait_for(woken.get(), 5) is None
        with pytest.raises(ServerUnavailable):
            await inbox.open()
        fault_proxy.restore()
        await inbox.open()
        assert inbox.live
        await lane_of(client).aclose()


async def test_a_user_without_channels_is_told_so(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.execute_command("ACL", "SETUSER", "deaf", "on", ">pw", "~*", "+@all", "resetchannels")
    async with Redis.from_url(own_server.url, username="deaf", password="pw") as client:
        with pytest.raises(PermissionDenied):
            await inbox_of(client, "ap").open()
        await lane_of(client).aclose()


async def test_a_cancelled_open_does_not_disturb_the_others(fault_proxy: FaultProxy, namespace: str) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        inbox = inbox_of(client, namespace)
        held = fault_proxy.hold_replies("SUBSCRIBE")
        first, second = asyncio.create_task(inbox.open()), asyncio.create_task(inbox.open())
        await fault_proxy.watch("SUBSCRIBE").until_forwarded()
        first.cancel()
        held.release()
        await asyncio.wait_for(second, 5)
        assert first.cancelled()
        assert inbox.live
        await lane_of(client).aclose()
