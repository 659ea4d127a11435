"""Losses: killed connections, silence, restarts, slow and raising subscribers. Nobody is lied to."""

from __future__ import annotations

import asyncio
import os
import socket
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from aredis_patterns import EmbeddedServer, Event, Gap, PubSub, Topic, WireClosed
from aredis_patterns.pipelining import PipelinedRedis, lane_of, listener_of
from aredis_patterns.testing import FaultProxy

from .conftest import take, until

LONG = bool(os.environ.get("AREDIS_PATTERNS_LONG"))


async def test_client_kill_is_a_gap_and_one_subscription_remains(
    client: Redis, redis_client: Redis, namespace: str
) -> None:
    pubsub = PubSub(client, namespace=namespace)
    async with pubsub.subscribe("a", "b") as subscription, pubsub.subscribe("*", pattern=True) as matched:
        for number in range(5):
            victims = await redis_client.client_list(_type="pubsub")
            for victim in victims:
                await redis_client.client_kill_filter(_id=victim["id"])
            await until(partial(_back_again, client, number + 1, subscription, matched))
            assert await pubsub.publish("a", number) == 2
            for each in (subscription, matched):
                (gap,) = await take(each, 1)
                assert (gap.reason, gap.missed) == ("reconnect", None)
                while isinstance(item := await anext(each), Gap):
                    pass  # one for each channel, unless they met in the buffer
                assert item.data == number
        numbers = await redis_client.pubsub_numsub(f"{namespace}:ps:a", f"{namespace}:ps:b")
        assert [count for _, count in numbers] == [1, 1]
        assert listener_of(client).statistics().reconnects >= 5


def _back_again(client: Redis, times: int, *subscriptions: Any) -> bool:
    return listener_of(client).statistics().reconnects >= times and all(each.live for each in subscriptions)


async def test_a_black_hole_is_noticed_by_the_heartbeat(
    through_proxy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    near, far = PubSub(through_proxy, namespace=namespace), PubSub(redis_client, namespace=namespace)
    async with near.subscribe("x") as subscription:
        fault_proxy.black_hole()
        for number in range(3):
            await far.publish("x", number)  # into the dark
        await until(lambda: not subscription.live)
        fault_proxy.restore()
        assert await take(subscription, 1) == [Gap("reconnect", None, "x")]
        await far.publish("x", "again")
        assert (await take(subscription, 1))[0].data == "again"


async def test_the_server_restarts_twice_under_load(namespace: str) -> None:
    """What was published in between is lost, as pub/sub does; a gap stands in its place and the rest is in order."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    stop = asyncio.Event()
    publishing = asyncio.ensure_future(_publish_until(port, namespace, stop))
    async with Redis(port=port) as client:
        subscription = None
        for _ in range(3):
            async with EmbeddedServer(port=port):
                if subscription is None:
                    subscription = await PubSub(client, namespace=namespace, buffer=100_000).subscribe("x")
                else:
                    while not isinstance(await anext(subscription), Gap):
                        pass
                numbers = [event.data for event in await take(subscription, 50)]
                assert numbers == list(range(numbers[0], numbers[0] + 50))
            await until(lambda: not listener_of(client).statistics().connections)
        stop.set()
        await publishing
        await lane_of(client).aclose()


async def _publish_until(port: int, namespace: str, stop: asyncio.Event) -> None:
    async with Redis(port=port) as client:
        pubsub, number = PubSub(client, namespace=namespace), 0
        while not stop.is_set():
            try:
                await pubsub.publish("x", number)
                number += 1
            except ConnectionError:
                await asyncio.sleep(0.01)
        await lane_of(client).aclose()


async def test_a_thousand_subscribers_and_one_is_stuck(redis_url: str, redis_client: Redis, namespace: str) -> None:
    """999 get everything in order; the stuck one gets an exact gap; nothing piles up, here or in Redis."""
    messages, buffer = (50_000 if LONG else 3000), 500
    async with PipelinedRedis.from_url(redis_url, client_name=namespace) as client:
        pubsub = PubSub(client, namespace=namespace, buffer=buffer)
        stuck = await pubsub.subscribe("x")
        others = [await pubsub.subscribe("x") for _ in range(999)]
        counts: list[int] = []
        readers = [asyncio.ensure_future(_read_in_order(other, messages, counts)) for other in others]
        for first in range(0, messages, 100):
            assert await pubsub.publish_many([("x", number) for number in range(first, first + 100)]) == [1] * 100
        await asyncio.gather(*readers)
        assert counts == [messages] * 999
        assert stuck.statistics().buffered == buffer
        ours = [each for each in await redis_client.client_list() if each["name"] == namespace]
        assert [each["omem"] for each in ours] == ["0"] * 2
        gap, *rest = await take(stuck, 1 + buffer)
        assert gap == Gap("slow", messages - buffer, "x")
        assert [event.data for event in rest] == list(range(messages - buffer, messages))
        await pubsub.aclose()


async def _read_in_order(subscription: Any, count: int, counts: list[int]) -> None:
    expected = 0
    async for event in subscription:
        assert event.data == expected
        expected += 1
        if expected == count:
            break
    counts.append(expected)


async def test_a_handler_that_raises_or_hangs_hurts_nobody(redis_client: Redis, namespace: str) -> None:
    errors: list[tuple[str, Any]] = []
    gaps: list[Gap] = []
    handled: list[Any] = []
    hanging = asyncio.Event()

    def raises(event: Event[Any]) -> None:
        raise ValueError(f"no {event.data}")

    async def on_error(error: Exception, event: Event[Any]) -> None:
        errors.append((str(error), event.data))

    async def hangs(event: Event[Any]) -> None:
        await hanging.wait()

    async def works(event: Event[Any]) -> None:
        handled.append(event.data)

    async with PubSub(redis_client, namespace=namespace) as pubsub:
        raising = await pubsub.listen("x", raises, on_error=on_error)
        hung = await pubsub.listen("x", hangs, buffer=2, on_gap=gaps.append)
        working = await pubsub.listen("x", works)
        for number in range(10):
            await pubsub.publish("x", number)
        await until(lambda: len(handled) == 10 and len(errors) == 10)
        assert errors == [(f"no {number}", number) for number in range(10)]
        assert (raising.failed, working.handled) == (10, 10)
        hanging.set()
        await until(lambda: hung.handled == 3)
        assert gaps == [Gap("slow", 7, "x")]


async def test_a_failing_handler_is_in_the_log_with_its_channel(
    redis_client: Redis, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with PubSub(redis_client, namespace=namespace) as pubsub:

        def wrong(item: object) -> None:
            raise ZeroDivisionError

        async with await pubsub.listen("room", wrong, on_gap=wrong) as listening:
            await pubsub.publish("room", 1)
            await until(lambda: listening.failed)
            assert "'room' failed" in caplog.text
            listening.subscription.note(Gap("slow", 1))
            await until(lambda: "a hook of" in caplog.text)
            assert "1 failed" in repr(listening)


async def test_concurrency_bounds_how_many_handlers_run(redis_client: Redis, namespace: str) -> None:
    running = most = 0
    go = asyncio.Event()

    async def handle(event: Event[Any]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go.wait()
        running -= 1

    async with PubSub(redis_client, namespace=namespace) as pubsub:
        listening = await pubsub.listen("x", handle, concurrency=4)
        await pubsub.publish_many([("x", number) for number in range(20)])
        await until(lambda: running == 4)
        go.set()
        await until(lambda: listening.handled == 20)
        assert most == 4
        listening.subscription.close()
        await listening.wait()


async def test_closing_a_listening_waits_for_its_handlers(redis_client: Redis, namespace: str) -> None:
    ended: list[str] = []
    begun = asyncio.Event()

    async def handle(event: Event[Any]) -> None:
        try:
            begun.set()
            await asyncio.sleep(60)
        finally:
            ended.append(event.data)

    async with PubSub(redis_client, namespace=namespace) as pubsub:
        for concurrency in (1, 5):
            listening = await pubsub.listen("x", handle, concurrency=concurrency)
            await pubsub.publish("x", "a")
            await begun.wait()
            begun.clear()
            await listening.aclose()
            await listening.aclose()
    assert ended == ["a", "a"]


async def test_a_handler_that_is_cancelled_from_within_does_not_end_the_listening(
    client: Redis, namespace: str
) -> None:
    """What a handler waits for may be cancelled by others: that is its failure, and not the end."""
    pubsub, got, errors = PubSub(client, namespace=namespace), list[int](), list[Exception]()

    async def handle(event: Event[int]) -> None:
        got.append(event.data)
        if event.data == 1:
            other = asyncio.ensure_future(asyncio.sleep(60))
            other.cancel()
            await other

    async with await pubsub.listen("c", handle, on_error=lambda error, event: errors.append(error)) as listening:
        await pubsub.publish("c", 1)
        await pubsub.publish("c", 2)
        await until(lambda: got == [1, 2])
        assert (listening.failed, [type(error) for error in errors]) == (1, [RuntimeError])


async def test_readers_end_when_the_client_is_closed_during_an_outage(
    through_proxy: Redis, fault_proxy: FaultProxy, namespace: str
) -> None:
    pubsub, topic = PubSub(through_proxy, namespace=namespace), Topic(through_proxy, "t", namespace=namespace)
    async with pubsub.subscribe("c") as subscription, topic.subscribe() as reader, asyncio.timeout(10):
        readers = [asyncio.ensure_future(anext(each)) for each in (subscription, reader)]
        fault_proxy.refuse_connections()
        fault_proxy.kill_connections()
        await until(lambda: not subscription.live)
        await lane_of(through_proxy).aclose()
        for reading in readers:
            with pytest.raises(WireClosed):
                await reading
