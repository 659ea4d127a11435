"""One connection that listens: confirmation, order, losses, half-open connections, many subscribers."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import PermissionDenied, ServerUnavailable, WireClosed
from aredis_patterns.pipelining import Listener, PipelinedRedis, lane_of, listener_of
from aredis_patterns.testing import FaultProxy


class Heard:
    """Collects what a subscription is told, and can be waited for."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.where: list[tuple[bytes, bytes | None]] = []
        self.lost = self.gaps = 0
        self._changed = asyncio.Event()

    def on_message(self, data: bytes, channel: bytes, pattern: bytes | None) -> None:
        self.messages.append(data)
        self.where.append((channel, pattern))
        self._changed.set()

    def on_lost(self, error: Exception) -> None:
        self.lost += 1
        self._changed.set()

    def on_gap(self) -> None:
        self.gaps += 1
        self._changed.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def handlers(self) -> dict[str, Any]:
        return {"on_message": self.on_message, "on_lost": self.on_lost, "on_gap": self.on_gap}


@pytest.fixture
async def client(redis_url: str, client_options: dict[str, Any], fast: bool) -> AsyncGenerator[Redis, None]:
    """A client of every kind that there is, on both engines."""
    async with Redis.from_url(redis_url, **client_options) as client:
        client.listener_options = {"fast": fast}  # type: ignore[attr-defined]
        yield client
        await lane_of(client).aclose()


@pytest.fixture
async def through_proxy(fault_proxy: FaultProxy, fast: bool) -> AsyncGenerator[Redis, None]:
    async with Redis.from_url(fault_proxy.url) as client:
        client.listener_options = {"fast": fast, "heartbeat": 0.1}  # type: ignore[attr-defined]
        yield client
        await lane_of(client).aclose()


async def test_what_is_published_after_subscribe_is_heard(client: Redis, redis_client: Redis, namespace: str) -> None:
    listener, heard = listener_of(client), Heard()
    for number in range(50):
        channel = f"{namespace}:{number}"
        await listener.subscribe(channel, heard.on_message)
        assert await redis_client.publish(channel, number) == 1
    await heard.until(lambda: len(heard.messages) == 50)
    assert heard.messages == [b"%d" % number for number in range(50)]
    assert heard.where[0] == (f"{namespace}:0".encode(), None)
    assert listener.statistics().connections == 1


async def test_bytes_arrive_as_bytes(client: Redis, redis_client: Redis, namespace: str) -> None:
    heard = Heard()
    name = namespace.encode() + b"\xff\x00\r\n"
    await listener_of(client).subscribe(name, heard.on_message)
    await redis_client.publish(name, b"\xfe\x00\r\nx")
    await heard.until(lambda: heard.messages)
    assert heard.messages == [b"\xfe\x00\r\nx"]
    assert heard.where == [(name, None)]


async def test_patterns_and_shard_channels(client: Redis, redis_client: Redis, namespace: str) -> None:
    listener, plain, sharded = listener_of(client), Heard(), Heard()
    await listener.subscribe(f"{namespace}:*", plain.on_message, kind="pattern")
    await listener.subscribe(f"{namespace}:s", sharded.on_message, kind="shard")
    await redis_client.publish(f"{namespace}:a", "1")
    await redis_client.execute_command("SPUBLISH", f"{namespace}:s", "2")
    await plain.until(lambda: plain.messages)
    await sharded.until(lambda: sharded.messages)
    assert plain.where == [(f"{namespace}:a".encode(), f"{namespace}:*".encode())]
    assert (plain.messages, sharded.messages) == ([b"1"], [b"2"])


async def test_many_subscribers_of_one_channel_are_one_subscription(
    client: Redis, redis_client: Redis, namespace: str
) -> None:
    listener, everybody = listener_of(client), [Heard() for _ in range(20)]
    subscriptions = await asyncio.gather(*(listener.subscribe(namespace, heard.on_message) for heard in everybody))
    assert await redis_client.publish(namespace, "all") == 1
    await everybody[-1].until(lambda: everybody[-1].messages)
    assert all(heard.messages == [b"all"] for heard in everybody)
    subscriptions[0].close()
    await redis_client.publish(namespace, "others")
    await everybody[-1].until(lambda: len(everybody[-1].messages) == 2)
    assert everybody[0].messages == [b"all"]


async def test_the_last_to_leave_ends_the_subscription(client: Redis, redis_client: Redis, namespace: str) -> None:
    listener, heard = listener_of(client), Heard()
    for round_ in range(20):  # leaving and coming back at once must not cross
        subscription = await listener.subscribe(namespace, heard.on_message)
        await redis_client.publish(namespace, round_)
        await heard.until(lambda expected=round_ + 1: len(heard.messages) == expected)
        subscription.close()
        subscription.close()
    other = await listener.subscribe(f"{namespace}:other", heard.on_message)  # behind the UNSUBSCRIBE
    assert dict(await redis_client.pubsub_numsub(namespace)) == {namespace.encode(): 0}
    assert other.live


async def test_a_handler_that_raises_hurts_nobody_else(
    client: Redis, redis_client: Redis, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(data: bytes, channel: bytes, pattern: bytes | None) -> None:
        raise RuntimeError("broken handler")

    listener, heard = listener_of(client), Heard()
    await listener.subscribe(namespace, broken)
    await listener.subscribe(namespace, heard.on_message)
    await redis_client.publish(namespace, "1")
    await redis_client.publish(namespace, "2")
    await heard.until(lambda: len(heard.messages) == 2)
    assert "broken handler" in caplog.text


async def test_a_killed_connection_is_a_gap_and_then_goes_on(
    client: Redis, redis_client: Redis, namespace: str
) -> None:
    listener, heard = listener_of(client), Heard()
    channels = [f"{namespace}:{number}" for number in range(30)]
    subscriptions = [await listener.subscribe(channel, **heard.handlers()) for channel in channels]
    mine = [
        entry for entry in await redis_client.client_list() if int(entry["sub"]) == 30 and entry["cmd"] != "client|list"
    ]
    await redis_client.client_kill_filter(_id=mine[0]["id"])
    await heard.until(lambda: heard.gaps == 30)
    assert heard.lost == 30
    assert all(subscription.live for subscription in subscriptions)
    assert [count for _, count in await redis_client.pubsub_numsub(*channels)] == [1] * 30
    await redis_client.publish(channels[7], "after")
    await heard.until(lambda: heard.messages)


async def test_a_half_open_connection_is_noticed(through_proxy: Redis, fault_proxy: FaultProxy, namespace: str) -> None:
    heard = Heard()
    subscription = await listener_of(through_proxy).subscribe(namespace, **heard.handlers())
    fault_proxy.black_hole()
    await heard.until(lambda: heard.lost)
    assert not subscription.live
    fault_proxy.restore()
    await heard.until(lambda: heard.gaps)
    assert subscription.live


async def test_a_subscriber_who_comes_during_an_outage_is_answered(
    through_proxy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    listener, heard = listener_of(through_proxy), Heard()
    await listener.subscribe(namespace, **heard.handlers())
    fault_proxy.refuse_connections()
    fault_proxy.kill_connections()
    await heard.until(lambda: heard.lost)
    for channel in (namespace, f"{namespace}:new"):  # one that is known and one that is not
        with pytest.raises(ServerUnavailable):
            await listener.subscribe(channel, heard.on_message)
    fault_proxy.restore()
    await heard.until(lambda: heard.gaps)
    await redis_client.publish(namespace, "back")
    await heard.until(lambda: heard.messages)


async def test_a_cancelled_subscribe_leaves_nothing(
    through_proxy: Redis, fault_proxy: FaultProxy, namespace: str
) -> None:
    listener, heard = listener_of(through_proxy), Heard()
    other = await listener.subscribe(f"{namespace}:other", heard.on_message)
    held = fault_proxy.hold_replies("SUBSCRIBE")
    task = asyncio.create_task(listener.subscribe(namespace, heard.on_message))
    await fault_proxy.watch("SUBSCRIBE").until_forwarded()
    task.cancel()
    await asyncio.wait([task])
    held.release()
    assert task.cancelled()
    assert listener.statistics().channels == 1
    assert other.live


async def test_nobody_there_is_an_error_and_not_a_wait(own_server: EmbeddedServer, fast: bool) -> None:
    async with Redis.from_url(own_server.url) as client:
        client.listener_options = {"fast": fast}  # type: ignore[attr-defined]
        await own_server.kill()
        with pytest.raises(ServerUnavailable):
            await listener_of(client).subscribe("news", Heard().on_message)
        await lane_of(client).aclose()


async def test_a_restarted_server_is_found_again(own_server: EmbeddedServer, fast: bool) -> None:
    async with Redis.from_url(own_server.url) as client:
        client.listener_options = {"fast": fast}  # type: ignore[attr-defined]
        heard = Heard()
        await listener_of(client).subscribe("news", **heard.handlers())
        await own_server.restart()
        await heard.until(lambda: heard.gaps)
        async with Redis.from_url(own_server.url) as other:
            assert await other.publish("news", "1") == 1
        await heard.until(lambda: heard.messages)
        await lane_of(client).aclose()


async def test_a_channel_that_the_acl_refuses(own_server: EmbeddedServer, own_client: Redis, fast: bool) -> None:
    await own_client.execute_command("ACL", "SETUSER", "deaf", "on", ">pw", "~*", "+@all", "resetchannels", "&ok:*")
    async with Redis.from_url(own_server.url, username="deaf", password="pw") as client:
        client.listener_options = {"fast": fast}  # type: ignore[attr-defined]
        listener, heard = listener_of(client), Heard()
        with pytest.raises(PermissionDenied):
            await listener.subscribe("secret", heard.on_message)
        subscription = await listener.subscribe("ok:1", heard.on_message)
        await own_client.publish("ok:1", "heard")
        await heard.until(lambda: heard.messages)
        assert subscription.live
        await lane_of(client).aclose()


async def test_closing_the_client_ends_its_subscriptions(redis_url: str, namespace: str) -> None:
    heard = Heard()
    async with PipelinedRedis.from_url(redis_url) as client:
        listener = listener_of(client)
        subscription = await listener.subscribe(namespace, **heard.handlers())
    assert (heard.lost, subscription.live) == (1, False)
    with pytest.raises(WireClosed):
        await listener.subscribe(namespace, heard.on_message)


async def test_a_collected_client_closes_its_ear(redis_url: str, redis_client: Redis, namespace: str) -> None:
    client = Redis.from_url(redis_url)
    await listener_of(client).subscribe(namespace, Heard().on_message)
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    async with asyncio.timeout(5):
        while dict(await redis_client.pubsub_numsub(namespace))[namespace.encode()]:
            await asyncio.sleep(0.01)


async def test_a_listener_is_shared_by_all_who_ask(redis_client: Redis) -> None:
    assert isinstance(listener_of(redis_client), Listener)
    assert listener_of(redis_client) is listener_of(redis_client)
    with pytest.raises(TypeError, match="expected a redis"):
        listener_of(object())  # type: ignore[arg-type]


async def test_sync_returns_after_everything_published_before(
    client: Redis, redis_client: Redis, namespace: str
) -> None:
    heard = Heard()
    subscription = await listener_of(client).subscribe(f"{namespace}:sync", heard.on_message)
    for number in range(100):
        await redis_client.publish(f"{namespace}:sync", number)
        await subscription.sync()
        assert len(heard.messages) == number + 1


async def test_sync_fails_with_its_connection(through_proxy: Redis, fault_proxy: FaultProxy, namespace: str) -> None:
    heard = Heard()
    subscription = await listener_of(through_proxy).subscribe(f"{namespace}:sync", **heard.handlers())
    held = fault_proxy.hold_replies("PING")
    waiting = asyncio.ensure_future(subscription.sync())
    await held.until_applied()
    fault_proxy.kill_connections()
    with pytest.raises(ConnectionError):
        await waiting
    held.release()
    await heard.until(lambda: heard.gaps)
    await subscription.sync()


async def test_who_ends_every_connection_is_not_asked_all_the_time() -> None:
    """A proxy with nobody behind it: it takes connections, greets, and ends them."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while (data := await reader.read(1000)) and b"SUBSCRIBE" not in data:
            writer.write(b"+OK\r\n" * data.count(b"*"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Redis(port=port, protocol=2) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await listener_of(client).subscribe("x", Heard().on_message)
            await lane_of(client).aclose()
    assert 0 < connections < 60  # without pauses it is hundreds


async def test_a_slot_that_moves_while_another_channel_is_left(client: Redis, namespace: str) -> None:
    listener, stays = listener_of(client), Heard()
    kept = await listener.subscribe(f"{namespace}:kept", kind="shard", **stays.handlers())
    left = await listener.subscribe(f"{namespace}:left", Heard().on_message, kind="shard")
    left.close()  # asked for, and not answered yet
    ear = await listener.ear_for("shard", kept.name)
    ear._heard([b"sunsubscribe", kept.name, 0])  # what a server says of a slot that it has given away
    assert (stays.lost, kept.live) == (1, False)


async def test_closing_the_client_during_an_outage_ends_its_subscriptions_too(
    through_proxy: Redis, fault_proxy: FaultProxy, namespace: str
) -> None:
    listener, heard = listener_of(through_proxy), Heard()
    subscription = await listener.subscribe(namespace, **heard.handlers())
    fault_proxy.refuse_connections()
    fault_proxy.kill_connections()
    await heard.until(lambda: heard.lost == 1)
    await lane_of(through_proxy).aclose()
    assert heard.lost == 2  # told again: nobody comes back
    with pytest.raises(WireClosed):
        await subscription.confirmed()
