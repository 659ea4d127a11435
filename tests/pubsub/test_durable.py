"""Durable subscriptions: at least once, competing consumers, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import Delivery, DurableInfo, EmbeddedServer, Gap, JSONCodec, ServerUnavailable, Topic, TopicFull
from aredis_patterns.pipelining import lane_of
from aredis_patterns.testing import FaultProxy, assert_round_trips, cancel_everywhere

from .conftest import take, until


async def settle_all(durable: Any, count: int) -> list[Any]:
    """Take and acknowledge so many; their data."""
    deliveries = await take(durable, count)
    assert all(await durable.ack_many(deliveries))
    return [delivery.data for delivery in deliveries]


async def test_the_server_keeps_the_place(client: Redis, namespace: str) -> None:
    topic = Topic(client, "t", namespace=namespace)
    await topic.publish("before")
    async with topic.durable("d") as durable:
        await topic.publish_many(range(10))
        assert await settle_all(durable, 4) == [0, 1, 2, 3]
    await topic.publish_many(range(10, 20))
    async with topic.durable("d", start="all") as durable:  # it exists: `start` does not count
        assert await settle_all(durable, 16) == list(range(4, 20))
        assert await topic.info() == await topic.info()
        info = await topic.info()
        assert (info.length, info.published, info.durables) == (21, 21, (DurableInfo("d", 0, 0, 0),))
    async with topic.durable("other", start="all") as other:
        assert (await settle_all(other, 1)) == ["before"]


async def test_a_message_goes_to_one_of_several_consumers(client: Redis, namespace: str) -> None:
    topic = Topic(client, "t", namespace=namespace)
    got: list[list[int]] = [[], [], []]

    async def consume(number: int, ready: asyncio.Event) -> None:
        async with topic.durable("d", prefetch=4) as durable:
            ready.set()
            async for delivery in durable:
                assert isinstance(delivery, Delivery)
                async with delivery:
                    await asyncio.sleep(0)
                got[number].append(delivery.data)

    ready = [asyncio.Event() for _ in got]
    tasks = [asyncio.ensure_future(consume(number, ready[number])) for number in range(3)]
    for event in ready:
        await event.wait()
    for first in range(0, 300, 10):
        await topic.publish_many(range(first, first + 10))
    await until(lambda: sum(map(len, got)) == 300)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(number for each in got for number in each) == list(range(300))
    assert all(each == sorted(each) for each in got)
    assert (await topic.info()).durables == (DurableInfo("d", 0, 0, 0),)


async def test_what_is_not_settled_comes_again_after_ack_wait(client: Redis, namespace: str) -> None:
    topic = Topic(client, "t", namespace=namespace)
    async with topic.durable("d", ack_wait=0.15) as one, topic.durable("d", ack_wait=0.15) as two:
        await topic.publish("work")
        (first,) = await take(one, 1)
        (second,) = await take(two, 1)
        assert (first.attempt, second.attempt, second.data) == (1, 2, "work")
        assert not await first.ack()  # the other consumer has it
        assert first.state == "lost"
        assert not await first.nack()
        assert not await first.reject()
        assert not await first.extend()
        assert await second.ack()
        assert await second.ack()  # a second time changes nothing
        assert repr(second).endswith("attempt 2, acked>")


async def test_a_late_ack_counts_when_nobody_else_has_it(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    async with topic.durable("d", ack_wait=0.02) as durable:
        await topic.publish(1)
        (delivery,) = await take(durable, 1)
        await asyncio.sleep(0.05)
        assert await delivery.ack()
        assert (await topic.info()).durables[0].unacked == 0


async def test_extend_keeps_a_message(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    async with topic.durable("d", ack_wait=0.3) as one, topic.durable("d", ack_wait=0.3) as two:
        await topic.publish(1)
        (delivery,) = await take(one, 1)
        waiting = asyncio.ensure_future(anext(two))
        for _ in range(4):
            await asyncio.sleep(0.1)
            assert await delivery.extend()
        assert not waiting.done()
        assert await delivery.ack()
        await topic.publish(2)
        assert (await waiting).data == 2


async def test_nack_with_delay_reject_and_dead_letters(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    async with topic.durable("d", max_deliveries=3) as durable:
        await topic.publish_many(["poison", "bad"])
        poison, bad = await take(durable, 2)
        assert await bad.reject("not for us")
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await poison.nack(delay=0.1)
        (again,) = await take(durable, 1)
        assert loop.time() - began >= 0.09
        assert (again.attempt, again.data) == (2, "poison")
        assert await again.nack()
        (third,) = await take(durable, 1)
        assert await third.nack()
        await topic.publish("after")
        assert (await take(durable, 1))[0].data == "after"
        letters = await topic.dead_letters("d")
        assert [(letter.number, letter.attempts, letter.reason, json.loads(letter.raw)) for letter in letters] == [
            (1, 3, "max_deliveries", "poison"),
            (2, 1, "not for us", "bad"),
        ]
        assert (await topic.info()).durables[0].dead == 2
    assert await topic.remove_durable("d")
    assert not await topic.remove_durable("d")
    assert (await topic.info()).durables == ()


async def test_async_with_acks_nacks_or_releases(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    async with topic.durable("d") as durable:
        await topic.publish("x")
        (delivery,) = await take(durable, 1)
        with pytest.raises(ZeroDivisionError):
            async with delivery:
                raise ZeroDivisionError
        (delivery,) = await take(durable, 1)
        assert delivery.attempt == 2

        async def work(held: Delivery[Any]) -> None:
            async with held:
                await asyncio.sleep(60)

        task = asyncio.ensure_future(work(delivery))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (delivery,) = await take(durable, 1)
        assert delivery.attempt == 2  # a cancelled attempt does not count
        async with delivery:
            pass
        assert delivery.state == "acked"
        assert (await topic.info()).durables[0].unacked == 0


async def test_prefetched_messages_are_given_back_uncounted(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    await topic.publish_many(range(10))
    async with topic.durable("d", start="all", prefetch=8) as durable:
        (first,) = await take(durable, 1)
        assert await first.ack()
        assert "7 fetched" in repr(durable)
    async with topic.durable("d") as durable:
        deliveries = await take(durable, 9)
        assert sorted(delivery.data for delivery in deliveries) == list(range(1, 10))
        assert {delivery.attempt for delivery in deliveries} == {1}


async def test_max_unacked_holds_for_all_consumers_together(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    async with topic.durable("d", max_unacked=3) as one, topic.durable("d", max_unacked=3) as two:
        await topic.publish_many(range(10))
        held = await take(one, 3)
        waiting = asyncio.ensure_future(anext(two))
        await until(lambda: _unacked(topic, 3))
        assert not waiting.done()
        assert await held[0].ack()
        assert (await asyncio.wait_for(waiting, 5)).data == 3  # woken by the ack, long before its timer


async def _unacked(topic: Topic[Any], count: int) -> bool:
    return (await topic.info()).durables[0].unacked == count


async def test_one_round_trip_for_a_batch(through_proxy: Redis, fault_proxy: FaultProxy, namespace: str) -> None:
    topic = Topic(through_proxy, "t", namespace=namespace)
    async with topic.durable("d", prefetch=100) as durable:
        await topic.publish("warm")
        await settle_all(durable, 1)
        await topic.publish_many(range(100))
        async with assert_round_trips(fault_proxy, 1, commands=1):
            deliveries = await take(durable, 100)
        async with assert_round_trips(fault_proxy, 1, commands=1):
            await durable.ack_many(deliveries)
        assert await durable.ack_many([]) == []


async def test_idle_consumers_send_nothing(through_proxy: Redis, fault_proxy: FaultProxy, namespace: str) -> None:
    topic = Topic(through_proxy, "t", namespace=namespace)
    async with topic.durable("d") as durable, topic.subscribe() as subscription:
        waiting = [asyncio.ensure_future(anext(each)) for each in (durable, subscription)]
        await until(lambda: durable._fetching is not None)
        await asyncio.sleep(0.05)
        async with fault_proxy.count() as counted:
            await asyncio.sleep(0.5)
        assert counted.commands - fault_proxy.statistics().commands.get("PING", 0) <= 0
        await topic.publish(1)
        assert (await waiting[0]).data == (await waiting[1]).data == 1


async def test_lost_replies_lose_and_double_nothing(
    through_proxy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    """Every fifth reply of a script is lost on the way: each message is handled exactly once all the same."""
    count = 2000 if os.environ.get("AREDIS_PATTERNS_LONG") else 300
    near = Topic(through_proxy, "t", namespace=namespace)
    await near.publish("warm")
    handled: list[int] = []
    async with near.durable("d", ack_wait=30) as durable:
        lost = fault_proxy.drop_replies("EVALSHA", probability=0.2)
        publishing = asyncio.ensure_future(_publish(near, count))
        while len(handled) < count:
            delivery = await anext(durable)
            assert isinstance(delivery, Delivery)
            handled.append(delivery.data)
            assert delivery.attempt == 1
            assert await delivery.ack()
        await publishing
        assert lost.applied > count / 10
        fault_proxy.restore()
        assert handled == list(range(count))
        assert (await near.info()).durables == (DurableInfo("d", 0, 0, 0),)


async def _publish(topic: Topic[Any], count: int) -> None:
    for number in range(count):
        await topic.publish(number)


WORKER = """
import asyncio, sys
from redis.asyncio import Redis
from aredis_patterns import Topic

async def main(url, namespace):
    topic = Topic(Redis.from_url(url), "t", namespace=namespace)
    async with topic.durable("d", ack_wait=0.5, prefetch=8) as durable:
        print("ready", flush=True)
        async for delivery in durable:
            print(delivery.data, flush=True)
            await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_consumer_loses_nothing(redis_url: str, redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    async with topic.durable("d", ack_wait=0.5):
        await topic.publish_many(range(20))
    pipe = asyncio.subprocess.PIPE
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, redis_url, namespace, stdout=pipe)
    assert worker.stdout is not None
    assert [await worker.stdout.readline() for _ in range(2)] == [b"ready\n", b"0\n"]
    worker.kill()
    await worker.wait()
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with topic.durable("d", ack_wait=0.5) as durable:
        deliveries = await take(durable, 20)
        assert loop.time() - began < 0.5 + 1
        attempts = {delivery.data: delivery.attempt for delivery in deliveries}
        assert sorted(attempts) == list(range(20))
        assert sorted(attempts.values()) == [1] * 12 + [2] * 8  # what the dead one held, and nothing else


async def test_cancelled_reads_lose_nothing(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    await topic.publish_many(range(3000))
    got: list[int] = []
    async with topic.durable("d", start="all", prefetch=2) as durable:

        async def read_one() -> None:
            delivery = await anext(durable)
            got.append(delivery.data)
            await delivery.ack()

        runs = await cancel_everywhere(read_one, ignore_task=lambda task: "aredis-patterns" in task.get_name())
        assert runs > 5
        held = (await topic.info()).durables[0].unacked
        seen = len(set(got))
        assert seen == len(got)
        for _ in range(50):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0)
        assert held <= runs + 4


async def test_a_gap_after_trimming_is_exact_for_what_was_new_and_what_was_held(
    redis_client: Redis, namespace: str
) -> None:
    topic = Topic(redis_client, "t", namespace=namespace, maxlen=10)
    async with topic.durable("d", ack_wait=0.1, prefetch=3) as durable:
        await topic.publish_many(range(5))
        await take(durable, 3)  # held, and never settled
        await topic.publish_many(range(5, 30))
        await asyncio.sleep(0.12)
        # 0 to 2 were held and are gone, 3 to 19 were never fetched.
        missed = 0
        data: list[int] = []
        while len(data) < 10:
            (item,) = await take(durable, 1)
            if isinstance(item, Gap):
                assert item.reason == "trimmed"
                missed += item.missed or 0
            else:
                data.append(item.data)
                await item.ack()
        assert data == list(range(20, 30))
        assert missed == 20


async def test_flushall_is_reported_and_consuming_goes_on(own_client: Redis) -> None:
    topic = Topic(own_client, "t")
    async with topic.durable("d") as durable:
        await topic.publish_many(range(3))
        assert await settle_all(durable, 3) == [0, 1, 2]
        await own_client.flushall()
        await own_client.script_flush()
        await topic.publish("after")
        gap, delivery = await take(durable, 2)
        assert gap == Gap("reset", None, "t")
        assert (delivery.data, await delivery.ack()) == ("after", True)
    await lane_of(own_client).aclose()


async def test_the_server_restarts_twice(tmp_path: Any) -> None:
    config = {"appendonly": "yes", "appendfsync": "always", "dir": str(tmp_path)}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    async with Redis(port=port) as client:
        topic = Topic(client, "t")
        durable, subscription = topic.durable("d", ack_wait=0.3), topic.subscribe()
        for round_number in range(3):
            async with EmbeddedServer(config=config, port=port):
                if round_number == 0:
                    await durable
                    await subscription
                await topic.publish_many(range(round_number * 10, round_number * 10 + 10))
                wanted = set(range(round_number * 10, round_number * 10 + 10))
                while wanted:
                    (delivery,) = await take(durable, 1)
                    assert isinstance(delivery, Delivery)
                    await delivery.ack()
                    wanted.discard(delivery.data)
                assert [item.data for item in await take(subscription, 10)] == list(
                    range(round_number * 10, round_number * 10 + 10)
                )
        await lane_of(client).aclose()


async def test_interest_never_cuts_a_live_durable(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace, maxlen=10, retention="interest")
    await topic.publish_many(range(25))  # nobody is interested: the oldest go
    assert (await topic.info()).length <= 25
    async with topic.durable("slow") as slow, topic.durable("quick") as quick:
        await topic.publish_many(range(10))
        assert await settle_all(quick, 10) == list(range(10))
        with pytest.raises(TopicFull) as full:
            await topic.publish_many(["no", "room"])
        assert (full.value.free, full.value.topic) == (0, "t")
        deliveries = await take(slow, 10)
        assert await deliveries[1].ack()
        with pytest.raises(TopicFull):
            await topic.publish("the oldest is still held")
        assert await deliveries[0].ack()
        await topic.publish_many(["now", "there is"])
        with pytest.raises(TopicFull):
            await topic.publish("no more")
        assert all(await slow.ack_many(deliveries[2:]))
        assert await settle_all(slow, 2) == ["now", "there is"]
        for number in range(100):
            await topic.publish(number)
            await settle_all(slow, 1)
            await settle_all(quick, 3 if number == 0 else 1)
        assert (await topic.info()).length <= 10


async def test_a_dead_durable_stops_holding_up_the_topic(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace, maxlen=5, retention="interest")
    async with topic.durable("gone", ack_wait=0.05, inactive_after=0.1):
        await topic.publish_many(range(5))
        with pytest.raises(TopicFull):
            await topic.publish("full")
    await asyncio.sleep(0.15)
    await topic.publish("room")
    async with topic.durable("gone", start="all") as durable:
        assert await settle_all(durable, 5) == [1, 2, 3, 4, "room"]


async def test_undecodable_goes_to_the_dead_letters(
    redis_client: Redis, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    anything = Topic(redis_client, "t", namespace=namespace)
    strict = Topic(redis_client, "t", namespace=namespace, codec=JSONCodec(int))
    async with strict.durable("d") as durable:
        await anything.publish_many([1, "two", 3])
        one, gap, three = await take(durable, 3)
        assert (one.data, gap, three.data) == (1, Gap("undecodable", 1, "t"), 3)
        letters = await strict.dead_letters("d")
        assert [(letter.reason, letter.raw) for letter in letters] == [("undecodable", b'"two"')]
    assert "left out" in caplog.text


async def test_every_key_of_a_durable_has_a_life(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    await topic.publish_many(range(5))
    async with topic.durable("d", start="all", inactive_after=60) as durable:
        one, two, three, *_ = await take(durable, 5)
        await one.nack()
        await two.reject()
        three.release()
        await take(durable, 2)
        lives = {
            key.decode(): await redis_client.pttl(key)
            async for key in redis_client.scan_iter(match=f"{namespace}*")
            if key.decode() not in (topic._core.stream, topic._core.keys.counter)
        }
        assert len(lives) == 9
        assert all(0 < life <= 120_000 for life in lives.values()), lives


async def test_bad_input_is_refused_before_any_io(redis_client: Redis) -> None:
    topic = Topic(redis_client, "t")
    for options in (
        {"ack_wait": 0},
        {"max_deliveries": 0},
        {"max_unacked": -1},
        {"prefetch": True},
        {"inactive_after": 1},
        {"gaps": "x"},
        {"start": "soon"},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            topic.durable("d", **options)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="empty"):
        topic.durable("")
    with pytest.raises(RuntimeError, match="not open"):
        await anext(topic.durable("d"))


async def test_several_tasks_may_read_one_durable(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    got: list[int] = []
    async with topic.durable("d") as durable:

        async def work() -> None:
            async for delivery in durable:
                assert isinstance(delivery, Delivery)
                async with delivery:
                    got.append(delivery.data)

        tasks = [asyncio.ensure_future(work()) for _ in range(5)]
        await topic.publish_many(range(200))
        await until(lambda: len(got) == 200)
        assert sorted(got) == list(range(200))
    await asyncio.gather(*tasks)


async def test_a_durable_that_is_at_work_does_not_expire(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    keys = topic._core.keys
    await topic.publish_many(range(3))
    async with topic.durable("d", start="all", ack_wait=60, inactive_after=60, prefetch=2) as durable:
        first, second = await take(durable, 2)
        for work in (first.extend, second.ack):
            for key in (keys.durable("d").state, keys.durable("d").leases, keys.floors, keys.durables):
                await redis_client.pexpire(key, 5_000)  # as if nobody had fetched for long
            assert await work()
            for key in (keys.durable("d").state, keys.durable("d").leases, keys.floors, keys.durables):
                assert await redis_client.pttl(key) > 30_000
        assert await first.ack()
        assert await settle_all(durable, 1) == [2]


async def test_durables_that_nobody_came_back_to_leave_no_trace(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    keys = topic._core.keys
    async with topic.durable("live"):
        for number in range(3):
            async with topic.durable(f"gone {number}", ack_wait=0.02, inactive_after=0.02):
                pass
        await asyncio.sleep(0.05)
        async with topic.durable("live"):
            assert await redis_client.zrange(keys.durables, 0, -1) == [b"live"]
            assert await redis_client.hkeys(keys.floors) == [b"live"]


async def test_where_an_existing_durable_would_have_begun_is_no_gap(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace, maxlen=3)
    trimmed = str((await topic.publish_many(range(10)))[0].id)
    async with topic.durable("d", start=trimmed) as durable:
        gap, delivery = await take(durable, 2)
        assert (gap, delivery.data) == (Gap("trimmed", None, "t"), 7)
        assert await delivery.ack()
    async with topic.durable("d", start=trimmed) as durable:
        assert await settle_all(durable, 2) == [8, 9]


async def test_what_was_released_is_not_settled_by_whom_it_left(client: Redis, namespace: str) -> None:
    topic = Topic(client, "t", namespace=namespace)
    async with topic.durable("d") as one, topic.durable("d") as two:
        await topic.publish("work")
        (first,) = await take(one, 1)
        first.release()
        (second,) = await take(two, 1)
        assert first.attempt == second.attempt == 1  # the server cannot tell them apart
        assert not await first.ack()
        assert not await first.nack()
        assert not await first.reject()
        assert not await first.extend()
        assert await one.ack_many([first]) == [False]
        assert (await topic.info()).durables == (DurableInfo("d", 0, 1, 0),)
        assert await second.ack()


async def test_a_message_that_cannot_be_read_while_the_network_fails_ends_nothing(
    through_proxy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    anything = Topic(redis_client, "t", namespace=namespace)
    strict = Topic(through_proxy, "t", namespace=namespace, codec=JSONCodec(int))
    async with strict.durable("d", ack_wait=0.1) as durable:
        durable._calls.settle = _fails_once(durable._calls.settle)
        await anything.publish_many(["one", 2])
        items = await take(durable, 2)
        assert items[0] == Gap("undecodable", 1, "t")
        assert items[1].data == 2
        assert await items[1].ack()
        assert await take(durable, 1) == [Gap("undecodable", 1, "t")]  # it came again
        await until(lambda: _dead(strict))


def _fails_once(settle: Any) -> Any:
    failures = [ServerUnavailable("nobody is there")]

    async def settle_or_fail(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return await settle(*args)

    return settle_or_fail


async def _dead(topic: Topic[Any]) -> bool:
    return len(await topic.dead_letters("d")) == 1
