"""`lane_of`: one lane for all patterns on a client, wherever the client comes from, for as long as it lives."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref

import pytest
import redis as sync_redis
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.pipelining import PipelinedRedis, _registry, lane_of
from aredis_patterns.pipelining._transport_engine import TransportEngine
from aredis_patterns.testing import FaultProxy, cancel_everywhere


async def test_all_patterns_on_a_client_share_a_lane(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        first, second = lane_of(client), lane_of(client)
        ids = await asyncio.gather(*(commands.call("CLIENT", "ID") for commands in (first, second) * 10))
        assert len(set(ids)) == 1
        assert first.statistics() == second.statistics()
        await first.aclose()


async def test_a_pipelined_client_and_its_patterns_share_a_lane(redis_url: str) -> None:
    async with PipelinedRedis.from_url(redis_url) as client:
        assert await client.client_id() == await lane_of(client).call("CLIENT", "ID")


async def test_closing_the_pool_closes_the_lane_and_use_opens_it_again(own_server: EmbeddedServer) -> None:
    client = Redis.from_url(own_server.url)
    commands = lane_of(client)
    assert await commands.call("PING") == b"PONG"
    await client.aclose()
    assert not commands.statistics().open
    assert await commands.call("PING") == b"PONG"
    await commands.aclose()
    await client.aclose()


async def test_clients_come_and_go_without_growth(own_server: EmbeddedServer) -> None:
    async with Redis.from_url(own_server.url) as observer:
        before = len(await observer.client_list())
        gc.collect()
        kept = len(_registry._lanes._by_client)
        for _ in range(20):
            client = Redis.from_url(own_server.url)
            commands = lane_of(client)
            await commands.call("PING")
            await commands.aclose()
            await client.aclose()
            gone = weakref.ref(client)
            del client, commands
            gc.collect()
            assert gone() is None
        assert len(await observer.client_list()) == before
        assert len(_registry._lanes._by_client) <= kept


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_a_client_that_was_only_dropped_leaves_no_connection(own_server: EmbeddedServer) -> None:
    async with Redis.from_url(own_server.url) as observer:
        before = len(await observer.client_list())
        client = Redis.from_url(own_server.url)
        await lane_of(client).call("PING")
        assert len(await observer.client_list()) == before + 1
        del client
        gc.collect()
        async with asyncio.timeout(5):
            while len(await observer.client_list()) > before:
                await asyncio.sleep(0)
        gc.collect()  # redis-py warns of its connection here, where the warning is expected


def test_a_second_event_loop_gets_a_lane_of_its_own(redis_url: str) -> None:
    client = PipelinedRedis.from_url(redis_url)
    commands = lane_of(client)

    async def use() -> int:
        identity = await commands.call("CLIENT", "ID")
        assert await client.ping()
        await client.aclose()
        return int(identity)

    assert asyncio.run(use()) != asyncio.run(use())


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is for POSIX")
def test_uvloop_has_the_fast_engine_too(redis_url: str) -> None:
    import uvloop

    async def use() -> None:
        async with PipelinedRedis.from_url(redis_url) as client:
            texts = [str(number) for number in range(500)]
            assert await asyncio.gather(*map(client.echo, texts)) == [text.encode() for text in texts]
            assert isinstance(lane_of(client).here().lane_for(None).engine, TransportEngine)
            big = b"x" * 300_000
            assert await client.echo(big) == big

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(use())


def test_two_loops_at_the_same_time(redis_url: str) -> None:
    client = PipelinedRedis.from_url(redis_url)
    found: list[bytes] = []

    async def use(text: str) -> None:
        for _ in range(50):
            found.append(await lane_of(client).call("ECHO", text))
        await lane_of(client).aclose()

    threads = [threading.Thread(target=asyncio.run, args=(use(text),)) for text in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [b"a"] * 50 + [b"b"] * 50
    asyncio.run(client.connection_pool.disconnect())


async def test_replies_are_raw_whatever_the_client_decodes(redis_url: str, client_options: dict[str, object]) -> None:
    async with Redis.from_url(redis_url, **client_options) as client:
        commands = lane_of(client)
        assert await commands.call("ECHO", "é") == "é".encode()
        assert await commands.batch([("ECHO", "a"), ("TIME",)])
        await commands.aclose()


async def test_error_replies_are_raised(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        with pytest.raises(NoScriptError):
            await lane_of(client).call("EVALSHA", "0" * 40, 0)
        await lane_of(client).aclose()


@pytest.mark.parametrize("client", [None, "redis://localhost", sync_redis.Redis()])
def test_what_is_no_asyncio_client_is_refused(client: object) -> None:
    with pytest.raises(TypeError, match=r"expected a redis\.asyncio"):
        lane_of(client)  # type: ignore[arg-type]


async def test_replay_safe_commands_are_sent_again(fault_proxy: FaultProxy, namespace: str) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        commands = lane_of(client)
        fault_proxy.drop_replies("SET", times=1)
        reply = await commands.call("SET", f"{namespace}:k", "v", "EX", 60, key=f"{namespace}:k", replay_safe=True)
        assert reply == b"OK"
        assert commands.statistics().repeated == 1
        await commands.aclose()


async def test_cancelled_anywhere_nothing_is_left(redis_url: str, namespace: str) -> None:
    async with PipelinedRedis.from_url(redis_url) as client:
        await client.ping()

        async def work() -> None:
            await client.set(f"{namespace}:k", 1, ex=60)
            await lane_of(client).batch([("INCR", f"{namespace}:k"), ("PING",)])

        async def check() -> None:
            assert await client.ping()
            assert client.statistics().in_flight == client.statistics().unsent == 0

        assert await cancel_everywhere(work, check=check) >= 2


async def test_push_messages_reach_whoever_registered(own_server: EmbeddedServer) -> None:
    async with (
        PipelinedRedis.from_url(own_server.url, protocol=3) as client,
        Redis.from_url(own_server.url) as other,
    ):
        commands = lane_of(client)
        heard: asyncio.Queue[object] = asyncio.Queue()
        stop = commands.on_push("invalidate", lambda message: heard.put_nowait(message[1]))
        # On the lane itself on purpose: pushes arrive on the connection that asked for them.
        lane = commands.here().lane_for(None)
        await client.ping()
        from aredis_patterns.pipelining._packing import pack

        assert await lane.submit(pack(("CLIENT TRACKING", "ON", "BCAST"))) == b"OK"
        await other.set("watched", 1)
        async with asyncio.timeout(5):
            assert await heard.get() == [b"watched"]
        stop()
        assert await client.get("watched") == b"1"


async def test_a_command_without_a_coroutine(own_client: Redis) -> None:
    """Its future has the raw reply, or the error reply; what takes more than one reply has to be called."""
    commands = lane_of(own_client)
    await commands.call("SET", "key", "1")
    replies = [
        commands.submit(("INCR", "key"), key="key", deadline=5.0),
        commands.submit(("INCR", "key"), key="key", deadline=5.0, at_once=True),
        commands.submit(("EVALSHA", "0" * 40, 1, "key"), key="key", deadline=5.0),
    ]
    first, second, third = [await reply for reply in replies if reply is not None]
    assert (first, second) == (2, 3)
    assert isinstance(third, NoScriptError)
    assert commands.submit(("BLPOP", "list", 1), key="list", deadline=5.0) is None
    assert commands.submit(("SET", "key", "x" * 100_000), key="key", deadline=5.0) is None
    await commands.aclose()
