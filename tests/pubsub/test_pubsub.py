"""PubSub: confirmation, order, isolation, what it costs, and what happens when it ends."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import (
    EmbeddedServer,
    EncodeError,
    Event,
    Gap,
    JSONCodec,
    PermissionDenied,
    PubSub,
    RawCodec,
    ServerUnavailable,
    SlowConsumer,
    Topic,
    WireClosed,
)
from aredis_patterns.pipelining import PipelinedRedis, lane_of, listener_of
from aredis_patterns.testing import FaultProxy, assert_round_trips, cancel_everywhere

from .conftest import take, until


async def test_what_is_published_after_subscribe_arrives(client: Redis, redis_client: Redis, namespace: str) -> None:
    pubsub = PubSub(client, namespace=namespace, linger=0)
    for number in range(250):
        channel = f"n{number % 3}"
        async with pubsub.subscribe(channel) as subscription:
            assert await redis_client.publish(f"{namespace}:ps:{channel}", json.dumps(number)) == 1
            (event,) = await take(subscription, 1)
            assert (event.channel, event.data, event.pattern) == (channel, number, None)


async def test_two_first_subscribers_at_the_same_moment_both_receive(client: Redis, namespace: str) -> None:
    pubsub = PubSub(client, namespace=namespace)
    one, two = await asyncio.gather(pubsub.subscribe("same"), pubsub.subscribe("same"))
    assert await pubsub.publish("same", "hello") == 1
    assert [(await anext(one)).data, (await anext(two)).data] == ["hello", "hello"]
    assert pubsub.statistics().channels == 1
    await pubsub.aclose()


async def test_publish_returns_the_receivers_and_order_is_kept(client: Redis, namespace: str) -> None:
    async with PubSub(client, namespace=namespace) as pubsub:
        assert await pubsub.publish("nobody", 1) == 0
        async with pubsub.subscribe("a", "b") as subscription:
            counts = await pubsub.publish_many([("ab"[number % 2], number) for number in range(100)])
            assert counts == [1] * 100
            events = await take(subscription, 100)
            assert [event.data for event in events] == list(range(100))
            assert [event.channel for event in events[:2]] == ["a", "b"]
        assert await pubsub.publish_many([]) == []


async def test_one_round_trip(through_proxy: Redis, fault_proxy: FaultProxy, namespace: str) -> None:
    pubsub = PubSub(through_proxy, namespace=namespace)
    numbered = PubSub(through_proxy, namespace=namespace, sequence=True)
    await pubsub.publish("warm", 1)
    await numbered.publish("warm", 1)
    async with assert_round_trips(fault_proxy, 1, commands=1):
        await pubsub.publish("c", 1)
    async with assert_round_trips(fault_proxy, 1, commands=1):
        await numbered.publish("c", 1)
    async with assert_round_trips(fault_proxy, 1, commands=50):
        await pubsub.publish_many([("c", number) for number in range(50)])
    async with pubsub.subscribe("c"):
        async with assert_round_trips(fault_proxy, 0):
            second = await pubsub.subscribe("c")
        async with assert_round_trips(fault_proxy, 1):
            await second.add("d", "e", "f")


async def test_data_channels_and_payloads_are_the_same_on_every_client(
    client: Redis, redis_client: Redis, namespace: str
) -> None:
    channel, payload = b"\xff\x00:{x}*", b"\x80\x00payload\r\n"
    pubsub = PubSub(client, namespace=namespace, codec=RawCodec())
    async with pubsub.subscribe(channel) as exact, pubsub.subscribe(b"\xff*", pattern=True) as matched:
        await redis_client.publish(namespace.encode() + b":ps:" + channel, payload)
        name = channel.decode("utf-8", "surrogateescape")
        (event,) = await take(exact, 1)
        assert (event.channel, event.data, event.raw, event.pattern) == (name, payload, payload, None)
        (event,) = await take(matched, 1)
        assert (event.channel, event.data, event.pattern) == (
            name,
            payload,
            b"\xff*".decode("utf-8", "surrogateescape"),
        )


async def test_patterns_do_not_leave_the_namespace(redis_client: Redis, namespace: str) -> None:
    strange = PubSub(redis_client, namespace=f"{namespace}*")
    other = PubSub(redis_client, namespace=f"{namespace}-other")
    plain = PubSub(redis_client, namespace="")
    async with strange.subscribe("*", pattern=True) as subscription:
        assert await other.publish("x", 1) == 0
        assert await strange.publish("x", 2) == 1
        (event,) = await take(subscription, 1)
        assert (event.channel, event.pattern, event.data) == ("x", "*", 2)
    async with plain.subscribe(f"{namespace}:raw") as subscription:
        await redis_client.publish(f"{namespace}:raw", "[1, 2]")
        assert (await anext(subscription)).data == [1, 2]


async def test_bad_input_is_refused_before_any_io(redis_client: Redis) -> None:
    pubsub = PubSub(redis_client)
    for wrong in ({"buffer": 0}, {"buffer": True}, {"overflow": "block"}, {"linger": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            PubSub(redis_client, **wrong)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="must not be empty"):
        pubsub.subscribe("")
    with pytest.raises(ValueError, match="gaps"):
        pubsub.subscribe("x", gaps="raise")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="channel"):
        await pubsub.publish(1, "x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="patterns"):
        PubSub(redis_client, sharded=True).subscribe("x*", pattern=True)
    with pytest.raises(ValueError, match="concurrency"):
        await pubsub.listen("x", print, concurrency=0)
    with pytest.raises(EncodeError):
        await pubsub.publish_many([("x", 1), ("x", object())])
    with pytest.raises(RuntimeError, match="not open"):
        await anext(pubsub.subscribe("x"))
    assert listener_of(redis_client).statistics().connections == 0


async def test_a_message_that_cannot_be_read_is_a_gap_and_ends_nothing(
    redis_client: Redis, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    pubsub = PubSub(redis_client, namespace=namespace, codec=JSONCodec(int))
    async with pubsub.subscribe("numbers") as subscription:
        for raw in ("1", "no number", "2"):
            await redis_client.publish(f"{namespace}:ps:numbers", raw)
        one, gap, two = await take(subscription, 3)
        assert (one.data, gap, two.data) == (1, Gap("undecodable", 1, "numbers"), 2)
    assert "left out" in caplog.text


async def test_subscribers_share_one_connection_and_one_subscription_on_the_server(
    redis_client: Redis, redis_url: str, namespace: str
) -> None:
    async with PipelinedRedis.from_url(redis_url, client_name=namespace) as client:
        pubsub = PubSub(client, namespace=namespace)
        subscriptions = await asyncio.gather(*(pubsub.subscribe(f"c{number % 100}") for number in range(1000)))
        ours = [each for each in await redis_client.client_list() if each["name"] == namespace]
        assert [each["sub"] for each in ours if each["sub"] != "0"] == ["100"]
        assert len(ours) <= 2
        assert pubsub.statistics().channels == 100
        assert listener_of(client).statistics().connections == 1
        await pubsub.publish_many([(f"c{number}", number) for number in range(100)])
        events = [await anext(subscription) for subscription in subscriptions]
        assert [event.data for event in events] == [number % 100 for number in range(1000)]
        assert events[0] is events[100]  # decoded once, shared
        await pubsub.aclose()


async def test_a_channel_lingers_and_then_leaves(redis_client: Redis, namespace: str) -> None:
    name = f"{namespace}:ps:room"

    async def subscribers() -> int:
        return int((await redis_client.pubsub_numsub(name))[0][1])

    pubsub = PubSub(redis_client, namespace=namespace, linger=0.05)
    async with pubsub.subscribe("room"):
        assert await subscribers() == 1
    assert await subscribers() == 1
    async with pubsub.subscribe("room") as again:
        await asyncio.sleep(0.1)  # longer than the linger that the second subscriber has ended
        assert await subscribers() == 1
        await pubsub.publish("room", 1)
        await anext(again)
    await until(lambda: _is_zero(subscribers))
    assert pubsub.statistics().channels == 0


async def _is_zero(count: Any) -> bool:
    return await count() == 0


async def test_churn_leaves_nothing_behind(redis_client: Redis, namespace: str) -> None:
    """Web sockets that come and go: 1500 of them, 50 at a time, on 20 channels."""
    pubsub = PubSub(redis_client, namespace=namespace, linger=0.01)
    gate = asyncio.Semaphore(50)

    async def visit(number: int) -> None:
        async with gate, pubsub.subscribe(f"c{number % 20}") as subscription:
            if number % 3 == 0:
                await pubsub.publish(f"c{number % 20}", number)
                await anext(subscription)

    await asyncio.gather(*(visit(number) for number in range(1500)))
    names = [f"{namespace}:ps:c{number}" for number in range(20)]

    async def nobody() -> bool:
        return all(count == 0 for _, count in await redis_client.pubsub_numsub(*names))

    await until(nobody)
    assert pubsub.statistics().channels == pubsub.statistics().subscriptions == 0


async def test_add_and_remove_channels(redis_client: Redis, namespace: str) -> None:
    pubsub = PubSub(redis_client, namespace=namespace, linger=0)
    async with pubsub.subscribe("a") as subscription:
        await subscription.add("b", "a")
        assert subscription.live
        await pubsub.publish_many([("a", 1), ("b", 2)])
        assert [event.data for event in await take(subscription, 2)] == [1, 2]
        subscription.remove("a", "unknown")
        assert await pubsub.publish_many([("a", 3), ("b", 4)]) == [0, 1]
        assert (await anext(subscription)).data == 4
        assert "b live" in repr(subscription)
    with pytest.raises(RuntimeError, match="not open"):
        await subscription.add("c")
    with pytest.raises(RuntimeError, match="subscribe again"):
        await subscription


async def test_close_ends_a_waiting_reader_and_is_safe_twice(redis_client: Redis, namespace: str) -> None:
    pubsub = PubSub(redis_client, namespace=namespace)
    subscription = await pubsub.subscribe("quiet")
    reading = asyncio.ensure_future(_collect(subscription))
    await asyncio.sleep(0)
    subscription.close()
    await subscription.aclose()
    assert await reading == []
    assert "ended" in repr(subscription)


async def _collect(subscription: Any) -> list[Any]:
    return [item.data if isinstance(item, Event) else item async for item in subscription]


async def test_closing_pubsub_ends_everything_and_it_can_be_used_again(redis_client: Redis, namespace: str) -> None:
    seen: list[Any] = []
    pubsub = PubSub(redis_client, namespace=namespace)
    subscription = await pubsub.subscribe("x")
    await pubsub.listen("x", lambda event: seen.append(event.data))
    reading = asyncio.ensure_future(_collect(subscription))
    await pubsub.publish("x", 1)
    await until(lambda: seen)
    await pubsub.aclose()
    assert (await reading, seen) == ([1], [1])
    async with pubsub, pubsub.subscribe("x") as again:
        await pubsub.publish("x", 2)
        assert (await anext(again)).data == 2


async def test_closing_the_client_ends_subscriptions_with_an_error(redis_url: str, namespace: str) -> None:
    async with Redis.from_url(redis_url) as client:
        subscription = await PubSub(client, namespace=namespace).subscribe("x")
        await lane_of(client).aclose()
        with pytest.raises(WireClosed):
            await anext(subscription)


async def test_one_reader_at_a_time(redis_client: Redis, namespace: str) -> None:
    async with PubSub(redis_client, namespace=namespace) as pubsub:
        subscription = await pubsub.subscribe("x")
        reading = asyncio.ensure_future(anext(subscription))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(subscription)
        await pubsub.publish("x", 1)
        assert (await reading).data == 1


async def test_cancelled_reads_lose_nothing(redis_client: Redis, namespace: str) -> None:
    pubsub = PubSub(redis_client, namespace=namespace)
    got: list[int] = []
    async with pubsub.subscribe("x") as subscription:
        publishing = asyncio.ensure_future(_publish_slowly(pubsub, 300))
        while len(got) < 300:
            try:
                got.append((await asyncio.wait_for(anext(subscription), 0.001)).data)
            except TimeoutError:
                continue
        await publishing
    assert got == list(range(300))


async def _publish_slowly(pubsub: PubSub[Any], count: int) -> None:
    for number in range(count):
        await pubsub.publish("x", number)


async def test_cancelling_anywhere_leaves_no_subscription(redis_client: Redis, namespace: str) -> None:
    pubsub = PubSub(redis_client, namespace=namespace, linger=0)
    await pubsub.publish("warm", 1)

    async def visit() -> None:
        async with pubsub.subscribe("a", "b") as subscription:
            await pubsub.publish("a", 1)
            await anext(subscription)

    async def check() -> None:
        assert pubsub.statistics().channels == pubsub.statistics().subscriptions == 0
        await until(lambda: _nobody(redis_client, namespace))

    runs = await cancel_everywhere(visit, check=check, ignore_task=lambda task: "aredis-patterns" in task.get_name())
    assert runs > 10


async def _nobody(redis_client: Redis, namespace: str) -> bool:
    return not await redis_client.pubsub_channels(f"{namespace}*")


async def test_cancelling_the_first_subscriber_does_not_cancel_the_second(
    through_proxy: Redis, fault_proxy: FaultProxy, namespace: str
) -> None:
    pubsub = PubSub(through_proxy, namespace=namespace)
    held = fault_proxy.hold_replies("SUBSCRIBE")
    first = asyncio.ensure_future(_open(pubsub))
    second = asyncio.ensure_future(_open(pubsub))
    await held.until_applied()
    first.cancel()
    held.release()
    subscription = await second
    await pubsub.publish("x", 1)
    assert (await anext(subscription)).data == 1
    with pytest.raises(asyncio.CancelledError):
        await first
    assert pubsub.statistics().subscriptions == 1


async def _open(pubsub: PubSub[Any]) -> Any:
    return await pubsub.subscribe("x")


async def test_a_refused_channel_raises_and_hurts_nobody(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.execute_command("ACL SETUSER reader on nopass ~* &*:ps:allowed +@all")
    async with Redis.from_url(own_server.url, username="reader", password="x") as client:
        pubsub = PubSub(client)
        async with pubsub.subscribe("allowed") as subscription:
            with pytest.raises(PermissionDenied):
                await pubsub.subscribe("forbidden")
            await pubsub.publish("allowed", 1)
            assert (await anext(subscription)).data == 1
        assert pubsub.statistics().subscriptions == 0
        await lane_of(client).aclose()


async def test_nobody_there(namespace: str) -> None:
    async with Redis(port=1) as client:
        pubsub = PubSub(client, namespace=namespace)
        with pytest.raises(ServerUnavailable):
            await pubsub.subscribe("x")
        assert pubsub.statistics().channels == 0


def test_a_second_event_loop_gets_its_own(redis_url: str, namespace: str) -> None:
    client = Redis.from_url(redis_url)
    pubsub = PubSub(client, namespace=namespace)

    async def visit() -> Any:
        async with pubsub.subscribe("x") as subscription:
            await pubsub.publish("x", 1)
            event = await anext(subscription)
        await pubsub.aclose()
        await lane_of(client).aclose()
        await client.aclose()
        return event.data

    assert [asyncio.run(visit()) for _ in range(3)] == [1, 1, 1]


async def test_overflow_raise_delivers_the_rest_first(redis_client: Redis, namespace: str) -> None:
    pubsub = PubSub(redis_client, namespace=namespace, buffer=3, overflow="raise")
    subscription = await pubsub.subscribe("x")
    other = await pubsub.subscribe("x", buffer=100)
    await pubsub.publish_many([("x", number) for number in range(10)])
    assert [event.data for event in await take(other, 10)] == list(range(10))
    assert [event.data for event in await take(subscription, 3)] == [0, 1, 2]
    with pytest.raises(SlowConsumer, match="x was too slow: 7") as caught:
        await anext(subscription)
    assert caught.value.missed == 7
    assert pubsub.statistics().subscriptions == 1
    await pubsub.aclose()


async def test_latest_keeps_the_newest_of_each_channel(redis_client: Redis, namespace: str) -> None:
    pubsub = PubSub(redis_client, namespace=namespace, overflow="latest")
    subscription = await pubsub.subscribe("cpu", "disk")
    other = await pubsub.subscribe("disk", overflow="drop_oldest")
    await pubsub.publish_many([("cpu", 1), ("disk", 2), ("cpu", 3), ("disk", 4)])
    await take(other, 2)
    assert [(event.channel, event.data) for event in await take(subscription, 2)] == [("cpu", 3), ("disk", 4)]
    assert subscription.statistics().conflated == 2
    await pubsub.aclose()


async def test_gaps_can_be_left_out(redis_client: Redis, namespace: str) -> None:
    pubsub = PubSub(redis_client, namespace=namespace, buffer=2)
    subscription = await pubsub.subscribe("x", gaps="ignore")
    other = await pubsub.subscribe("x", buffer=100)
    await pubsub.publish_many([("x", number) for number in range(5)])
    await take(other, 5)
    assert [event.data for event in await take(subscription, 2)] == [3, 4]
    found = subscription.statistics()
    assert (found.received, found.missed, found.gaps, found.buffered) == (5, 3, 1, 0)
    await pubsub.aclose()


async def test_batches(redis_client: Redis, namespace: str) -> None:
    pubsub = PubSub(redis_client, namespace=namespace, buffer=50)
    async with pubsub.subscribe("x") as subscription, pubsub.subscribe("x", gaps="ignore") as without:
        got: list[Any] = []
        await pubsub.publish_many([("x", number) for number in range(60)])
        async for items in subscription.batches():
            assert items
            got += items
            if got[-1].data == 59:
                subscription.close()
        events = [item.data for item in got if isinstance(item, Event)]
        gaps = [item for item in got if isinstance(item, Gap)]
        assert len(events) + sum(gap.missed or 0 for gap in gaps) == 60
        assert events == sorted(events)
        while without.statistics().received < 60:
            await asyncio.sleep(0.005)
        assert all(isinstance(item, Event) for item in await without.batch())


async def test_nothing_is_never_retrieved(redis_client: Redis, namespace: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pubsub = PubSub(redis_client, namespace=namespace)
        subscription = await pubsub.subscribe("x")
        await pubsub.publish("x", 1)
        reading = asyncio.ensure_future(anext(subscription))
        await asyncio.sleep(0)
        reading.cancel()
        await pubsub.aclose()
        del pubsub, subscription
        gc.collect()


class Choosy:
    """A codec that breaks its contract: it raises what it likes."""

    def encode(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def decode(self, data: bytes) -> Any:
        if data == b"1":
            raise KeyError("choosy")
        return json.loads(data)


async def test_whatever_a_codec_raises_is_a_gap(
    client: Redis, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    pubsub = PubSub(client, namespace=namespace, codec=Choosy())
    topic = Topic(client, "t", namespace=namespace, codec=Choosy())
    async with pubsub.subscribe("c") as subscription, topic.subscribe() as reader, topic.durable("d") as durable:
        for data in (1, 2):
            await pubsub.publish("c", data)
            await topic.publish(data)
        for items, where in ((subscription, "c"), (reader, "t"), (durable, "t")):
            gap, message = await take(items, 2)
            assert (gap, message.data) == (Gap("undecodable", 1, where), 2)
    assert "KeyError" in caplog.text
