"""`FaultProxy` does to a connection what it was told to, and nothing else. With stock clients, RESP2 and RESP3."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, TimeoutError

from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.testing import FaultProxy


@pytest.fixture
async def client(fault_proxy: FaultProxy, client_options: dict[str, Any]) -> AsyncGenerator[Any, None]:
    """A stock client that never repeats a command by itself."""
    never = Retry(NoBackoff(), 0)
    async with Redis.from_url(fault_proxy.url, retry=never, **client_options) as client:
        yield client


@pytest.fixture
def key(namespace: str) -> str:
    return f"{namespace}:k"


def number(value: Any) -> int:
    return 0 if value is None else int(value)


async def test_passes_everything_on(fault_proxy: FaultProxy, client: Any, key: str) -> None:
    big = b"x" * 1_000_000 + b"\r\n"
    async with client.pipeline(transaction=True) as batch:
        batch.set(key, big)
        batch.strlen(key)
        batch.hgetall(f"{key}:hash")
        assert await batch.execute() == [True, len(big), {}]
    await asyncio.gather(*(client.incr(f"{key}:{n % 3}") for n in range(30)))
    assert number(await client.get(f"{key}:0")) == 10
    statistics = fault_proxy.statistics()
    assert statistics.commands["INCRBY"] == 30
    assert statistics.dropped_replies == 0
    assert statistics.open_connections == statistics.connections > 0
    assert statistics.replies == sum(statistics.commands.values())


async def test_pub_sub_passes_and_does_not_disturb_the_count_of_replies(
    fault_proxy: FaultProxy, client: Any, key: str
) -> None:
    async with client.pubsub() as listener:
        await listener.subscribe(f"{key}:1", f"{key}:2")
        await listener.ping()
        assert await client.publish(f"{key}:2", "hello") == 1
        answers = [await listener.get_message(timeout=2) for _ in range(4)]
        assert [answers[n]["type"] for n in (0, 1, 3)] == ["subscribe", "subscribe", "message"]
        lost = fault_proxy.drop_replies("PING", times=1)
        await listener.ping()
        await lost.until_applied()


async def test_a_dropped_reply_means_that_the_server_did_it_and_the_client_cannot_know(
    fault_proxy: FaultProxy, client: Any, key: str, redis_client: Any
) -> None:
    lost = fault_proxy.drop_replies("INCRBY", times=1)
    with pytest.raises(ConnectionError):
        await client.incr(key)
    assert lost.applied == 1
    assert fault_proxy.statistics().dropped_replies == 1
    assert number(await redis_client.get(key)) == 1
    assert await client.incr(key) == 2


async def test_a_dropped_reply_with_silence(fault_proxy: FaultProxy, client: Any, key: str) -> None:
    lost = fault_proxy.drop_replies("INCRBY", times=1, then="silence")
    waiting = asyncio.ensure_future(client.incr(key))
    await lost.until_applied()
    other = fault_proxy.watch("GET")
    assert number(await client.get(key)) == 1  # another connection of the pool
    assert other.answered == 1
    assert not waiting.done()
    fault_proxy.restore()
    with pytest.raises(ConnectionError):
        await waiting


async def test_reset_before_and_after(fault_proxy: FaultProxy, client: Any, key: str) -> None:
    fault_proxy.reset_before("INCRBY", times=1)
    with pytest.raises(ConnectionError):
        await client.incr(key)
    assert await client.get(key) is None
    seen = fault_proxy.watch("INCRBY")
    fault_proxy.reset_after("INCRBY", times=1)
    with pytest.raises(ConnectionError):
        await client.incr(key)
    assert (seen.forwarded, seen.answered) == (1, 0)


async def test_a_cut_reply_arrives_in_half(fault_proxy: FaultProxy, key: str) -> None:
    fault_proxy.cut_replies("ECHO")
    reader, writer = await asyncio.open_connection(*fault_proxy.url.split("/")[2].split(":"))
    writer.write(b"*2\r\n$4\r\nECHO\r\n$10\r\n0123456789\r\n")
    assert await reader.read() == b"$10\r\n012"
    writer.close()
    await writer.wait_closed()


async def test_a_duplicated_reply(fault_proxy: FaultProxy, client: Any) -> None:
    async with client.client() as one:
        await one.ping()
        fault_proxy.duplicate_replies("ECHO", times=1)
        assert await one.echo("a") in (b"a", "a")
        assert await one.echo("b") in (b"a", "a")


async def test_a_held_command_and_a_held_reply(
    fault_proxy: FaultProxy, client: Any, key: str, redis_client: Any
) -> None:
    held = fault_proxy.hold_commands("INCRBY")
    waiting = asyncio.ensure_future(client.incr(key))
    await held.until_applied()
    assert await redis_client.get(key) is None
    held.release()
    assert await waiting == 1

    held = fault_proxy.hold_replies("INCRBY")
    waiting = asyncio.ensure_future(client.incr(key))
    await held.until_applied()
    assert number(await redis_client.get(key)) == 2
    assert not waiting.done()
    held.release()
    assert await waiting == 2
    assert await client.incr(key) == 3


async def test_a_held_command_is_executed_late_though_its_client_has_gone(
    fault_proxy: FaultProxy, client: Any, key: str, redis_client: Any
) -> None:
    held, seen = fault_proxy.hold_commands("INCRBY"), fault_proxy.watch("INCRBY")
    waiting = asyncio.ensure_future(client.incr(key))
    await held.until_applied()
    waiting.cancel()
    await asyncio.wait((waiting,))
    held.release()
    await seen.until_forwarded()
    # Nobody is told when the server has executed it.
    while number(await redis_client.get(key)) < 1:
        await asyncio.sleep(0)


@pytest.mark.parametrize("fault", ["delay_commands", "delay_replies"])
async def test_delays_keep_the_order(fault_proxy: FaultProxy, client: Any, key: str, fault: str) -> None:
    getattr(fault_proxy, fault)("INCRBY", seconds=0.05, times=1)
    start = asyncio.get_running_loop().time()
    async with client.pipeline(transaction=False) as batch:
        assert await batch.incr(key).get(key).execute() in ([1, b"1"], [1, "1"])
    assert asyncio.get_running_loop().time() - start >= 0.05


async def test_nth_times_where_and_subcommands(fault_proxy: FaultProxy, client: Any, key: str) -> None:
    rule = fault_proxy.reset_before("GET", nth=3, times=1)
    outcomes = [await asyncio.gather(client.get(key), return_exceptions=True) for _ in range(5)]
    assert [isinstance(outcome[0], Exception) for outcome in outcomes] == [False, False, True, False, False]
    assert (rule.matched, rule.applied) == (5, 1)
    fault_proxy.restore()
    fault_proxy.reset_before("SET", where=lambda words: words[2] == b"bad")
    assert await client.set(key, "good")
    with pytest.raises(ConnectionError):
        await client.set(key, "bad")
    fault_proxy.reset_before("client id")
    assert await client.execute_command("CLIENT", "GETNAME") in (None, "", b"")
    with pytest.raises(ConnectionError):
        await client.client_id()


async def test_chance_is_repeatable(redis_url: str) -> None:
    async def lost() -> list[bool]:
        async with FaultProxy(redis_url, seed=7) as proxy:
            proxy.reset_before("ECHO", probability=0.5)
            async with Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0)) as client:
                return [isinstance(o, Exception) for o in [await attempt(client) for _ in range(40)]]

    async def attempt(client: Any) -> object:
        try:
            return await client.echo("x")
        except ConnectionError as error:
            return error

    first = await lost()
    assert first == await lost()
    assert 8 < sum(first) < 32


async def test_a_black_hole_swallows_old_and_new_connections_until_it_is_restored(
    fault_proxy: FaultProxy, client: Any, key: str
) -> None:
    assert await client.ping()
    fault_proxy.black_hole()
    options = {"socket_timeout": 0.05, "retry": Retry(NoBackoff(), 0)}
    async with Redis.from_url(fault_proxy.url, **options) as hasty:
        with pytest.raises(TimeoutError):
            await hasty.ping()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client.incr(key), 0.05)
    fault_proxy.restore()
    assert await client.get(key) is None


async def test_pause_loses_nothing(fault_proxy: FaultProxy, client: Any, key: str) -> None:
    await client.ping()
    fault_proxy.pause()
    waiting = [asyncio.ensure_future(client.incr(key)) for _ in range(5)]
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done
    fault_proxy.resume()
    assert sorted(await asyncio.gather(*waiting)) == [1, 2, 3, 4, 5]


async def test_kill_and_refuse_connections(fault_proxy: FaultProxy, client: Any) -> None:
    blocked = asyncio.ensure_future(client.blpop("nothing", 0))
    await fault_proxy.watch("BLPOP").until_forwarded()
    assert fault_proxy.kill_connections() >= 1
    with pytest.raises(ConnectionError):
        await blocked
    fault_proxy.refuse_connections()
    with pytest.raises(ConnectionError):
        await client.ping()
    fault_proxy.restore()
    assert await client.ping()


async def test_a_server_that_dies_takes_its_connections_along(own_server: EmbeddedServer) -> None:
    never = Retry(NoBackoff(), 0)
    async with FaultProxy(own_server.url) as proxy, Redis.from_url(proxy.url, retry=never) as client:
        assert await client.ping()
        await own_server.kill()
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await client.ping()
        await own_server.restart()
        assert await client.ping()


async def test_an_event_that_does_not_come_fails_the_test(fault_proxy: FaultProxy) -> None:
    with pytest.raises(AssertionError, match=r"INCRBY forwarded: 0 of 2 within 0.01 s"):
        await fault_proxy.watch("INCRBY").until_forwarded(2, within=0.01)


@pytest.mark.parametrize(
    ("upstream", "expected"),
    [
        ("redis://u:p%40@h:7/3?protocol=3", "redis://u:p%40@127.0.0.1:0/3?protocol=3"),
        ("redis://h", "redis://127.0.0.1:0"),
        ("unix:///tmp/s.sock", "redis://127.0.0.1:0/0"),
        ("unix://:pw@/tmp/s.sock?db=2&protocol=3", "redis://:pw@127.0.0.1:0/2?protocol=3"),
    ],
)
def test_its_url_keeps_login_database_and_options(upstream: str, expected: str) -> None:
    assert FaultProxy(upstream).url == expected


def test_tls_is_refused() -> None:
    with pytest.raises(ValueError, match="rediss://h"):
        FaultProxy("rediss://h")
