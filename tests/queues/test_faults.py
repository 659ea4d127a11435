"""Queues against their enemies: lost replies, killed connections, servers that restart or forget."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import OutcomeUnknown, PermissionDenied, QueueFull, ServerUnavailable
from aredis_patterns.queues import Backoff, ReliableQueue, _bell
from aredis_patterns.testing import FaultProxy

LONG = bool(os.environ.get("AREDIS_PATTERNS_LONG"))


async def until_handled(
    queue: ReliableQueue[Any], expected: int, *, concurrency: int = 16, within: float = 40.0
) -> Counter[Any]:
    """Process until so many different bodies were handled; how often each was."""
    handled: Counter[Any] = Counter()
    stop = asyncio.Event()

    async def handle(message: Any) -> None:
        handled[message.body] += 1
        if len(handled) >= expected:
            stop.set()

    async with asyncio.timeout(within):
        await queue.process(handle, concurrency=concurrency, stop=stop)
    return handled


async def test_every_fifth_reply_is_lost_and_each_message_is_handled_once(
    fault_proxy: FaultProxy, make_queue: Any, redis_client: Redis, namespace: str
) -> None:
    """2000 messages from end to end; afterwards nothing is left but counters."""
    count = 2000 if LONG else 600
    lost = fault_proxy.drop_replies("EVALSHA", probability=0.2)
    async with Redis.from_url(fault_proxy.url) as producing, Redis.from_url(fault_proxy.url) as consuming:
        producer, consumer = make_queue(client=producing), make_queue(client=consuming)
        sending = asyncio.gather(*(enqueue_all(producer, range(n, count, 3)) for n in range(3)))
        handled = await until_handled(consumer, count)
        await sending
        assert lost.applied > 20
        assert len(handled) == count
        assert handled.total() == count, f"handled twice: {[n for n, times in handled.items() if times > 1]}"
        lost.remove()
        stats = await make_queue().stats()
        assert (stats.ready, stats.in_flight, stats.delayed, stats.dead) == (0, 0, 0, 0)
        assert (stats.enqueued, stats.done, stats.expired) == (count, count, 0)
        await producer.aclose()
        await consumer.aclose()
    assert {key async for key in redis_client.scan_iter(f"{namespace}*")} <= {
        f"{namespace}:queue:{{jobs}}:counters".encode()
    }


async def enqueue_all(queue: ReliableQueue[Any], bodies: Any) -> None:
    for body in bodies:
        while True:
            try:
                await queue.enqueue(body)
                break
            except ServerUnavailable:  # surely not enqueued
                continue


async def test_lost_replies_of_enqueue_neither_double_nor_lose(fault_proxy: FaultProxy, make_queue: Any) -> None:
    lost = fault_proxy.drop_replies("EVALSHA", probability=0.4)
    async with Redis.from_url(fault_proxy.url) as client:
        queue = make_queue(client=client)
        ids = [await queue.enqueue(n) for n in range(120)]
        assert lost.applied > 20
        lost.remove()
        assert [each.id for each in await queue.peek(500)] == ids
        await queue.aclose()


async def test_a_lost_reply_of_one_enqueue_is_answered_with_the_same_id(
    fault_proxy: FaultProxy, make_queue: Any
) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        queue = make_queue(client=client)
        await queue.enqueue("first")
        lost = fault_proxy.drop_replies("EVALSHA", times=1)
        id = await queue.enqueue("second")
        assert lost.applied == 1
        assert [each.id for each in await queue.peek()][1:] == [id]
        await queue.aclose()


async def test_lost_replies_of_bounded_enqueue_dedup_and_transactions(
    fault_proxy: FaultProxy, make_queue: Any, redis_client: Redis, namespace: str
) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        queue = make_queue(client=client, maxlen=2)
        await queue.enqueue(0)
        fault_proxy.drop_replies("EVALSHA", times=1)
        assert not (await queue.enqueue(1, dedup_key="d")).deduplicated, "its own repetition is no duplicate"
        fault_proxy.drop_replies("EVALSHA", times=1)
        with pytest.raises(QueueFull):
            await queue.enqueue(2)
        message = await queue.dequeue()
        fault_proxy.drop_replies("EVALSHA", times=1)
        async with message.transaction() as tx:
            tx.execute("INCR", f"{namespace}:effects")
        assert await redis_client.get(f"{namespace}:effects") == b"1"
        fault_proxy.drop_replies("EVALSHA", times=1)
        message = await queue.dequeue()
        assert (message.body, message.attempt) == (1, 1)
        fault_proxy.drop_replies("EVALSHA", times=1)
        await message.ack()
        fault_proxy.drop_replies("EVALSHA", times=1)
        await queue.enqueue(3)
        message = await queue.dequeue()
        fault_proxy.drop_replies("EVALSHA", times=1)
        assert await message.nack(delay=0)
        assert (await queue.dequeue()).attempt == 2, "a repeated nack counts once"
        await queue.aclose()


async def test_connections_are_killed_all_the_time_and_everything_is_processed(
    redis_client: Redis, own_server: EmbeddedServer, own_client: Redis
) -> None:
    count = 500
    async with Redis.from_url(own_server.url) as client:
        queue: ReliableQueue[Any] = ReliableQueue(client, "jobs", lease=10)

        async def kill() -> None:
            while True:
                await own_client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await own_client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                await asyncio.sleep(0.05)

        killing = asyncio.create_task(kill())

        async def produce() -> None:
            for n in range(count):
                while True:
                    try:
                        await queue.enqueue(n, dedup_key=str(n))
                        break
                    except (OutcomeUnknown, ServerUnavailable):
                        continue
                await asyncio.sleep(0.001)

        producing = asyncio.create_task(produce())
        try:
            handled = await until_handled(queue, count)
        finally:
            killing.cancel()
            producing.cancel()
        assert handled == Counter(range(count))
        await queue.aclose()


async def test_scripts_are_flushed_all_the_time_and_nobody_notices(own_server: EmbeddedServer) -> None:
    async with Redis.from_url(own_server.url) as client:
        queue: ReliableQueue[Any] = ReliableQueue(client, "jobs")

        async def flush() -> None:
            while True:
                await client.script_flush()
                await asyncio.sleep(0.002)

        flushing = asyncio.create_task(flush())
        producing = asyncio.create_task(enqueue_all(queue, range(300)))
        handled = await until_handled(queue, 300)
        flushing.cancel()
        await producing
        assert handled == Counter(range(300))
        await queue.aclose()


async def test_the_server_restarts_twice_under_load() -> None:
    """With an append-only file nothing that was confirmed is lost, and consumers go on by themselves."""
    config = {"appendonly": "yes", "appendfsync": "always"}
    async with EmbeddedServer(config=config) as server, Redis.from_url(server.url) as client:
        queue: ReliableQueue[Any] = ReliableQueue(client, "jobs", lease=1)
        confirmed: set[int] = set()
        maybe: set[int] = set()
        handled: Counter[int] = Counter()
        stop = asyncio.Event()

        async def produce() -> None:
            for n in range(100_000):
                try:
                    await queue.enqueue(n)
                    confirmed.add(n)
                except (OutcomeUnknown, ServerUnavailable):
                    maybe.add(n)
                    await asyncio.sleep(0.01)
                if stop.is_set():
                    return
                await asyncio.sleep(0.0005)

        async def handle(message: Any) -> None:
            handled[message.body] += 1

        processing = asyncio.create_task(queue.process(handle, concurrency=8, stop=(halt := asyncio.Event())))
        producing = asyncio.create_task(produce())
        for _ in range(2):
            before = handled.total()
            await wait_for(lambda before=before: handled.total() > before + 30)  # type: ignore[misc]
            await server.restart()
        before = handled.total()
        await wait_for(lambda: handled.total() > before + 30)
        stop.set()
        await producing
        await wait_for(lambda: confirmed <= handled.keys())
        halt.set()
        await processing
        assert handled.keys() <= confirmed | maybe
        twice = [n for n, times in handled.items() if times > 1]
        assert len(twice) <= 2 * 16, "only what was in flight may come again"
        await queue.aclose()


async def wait_for(condition: Any, within: float = 20.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_server_that_forgets_everything_is_no_reason_to_stop(
    own_server: EmbeddedServer, own_client: Redis
) -> None:
    async with Redis.from_url(own_server.url) as client:
        queue: ReliableQueue[Any] = ReliableQueue(client, "jobs")
        waiting = asyncio.create_task(queue.dequeue())
        await asyncio.sleep(0.05)
        await queue.enqueue("gone")
        message = await waiting
        assert message is not None
        await own_client.flushall()
        await own_client.script_flush()
        with pytest.raises(Exception, match="lost"):
            await message.ack()
        waiting = asyncio.create_task(queue.dequeue())
        await asyncio.sleep(0.05)
        await queue.enqueue("new")
        message = await asyncio.wait_for(waiting, 8)
        assert message is not None and message.body == "new"
        await message.ack()
        await queue.aclose()


async def test_a_dead_process_that_was_called_does_not_wedge_the_others(
    make_queue: Any, redis_client: Redis, namespace: str
) -> None:
    """The message went to somebody who is not there: the next in line is called instead, in the same script."""
    queue = make_queue()
    waiting = asyncio.create_task(queue.dequeue())
    consumers = f"{namespace}:queue:{{jobs}}:consumers"
    await wait_for_key(redis_client, consumers)
    seconds, micros = await redis_client.time()
    ghost = (seconds + 5) * 1_000_000 + micros
    await redis_client.zadd(consumers, {"nobody:inbox:1 ghost": ghost, "expired:inbox:1 ghost": 1})
    await make_queue().enqueue(1)
    begin = asyncio.get_running_loop().time()
    message = await asyncio.wait_for(waiting, 8)
    assert message is not None
    assert asyncio.get_running_loop().time() - begin < 3


async def wait_for_key(client: Redis, key: str) -> None:
    async with asyncio.timeout(5):
        while not await client.exists(key):
            await asyncio.sleep(0.005)


async def test_nobody_was_called_and_the_message_is_found_all_the_same(
    make_queue: Any, redis_client: Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of addresses is gone: a look every five seconds (here: half a second) is what remains."""
    monkeypatch.setattr(_bell, "LOOK", 0.5)
    queue = make_queue()
    waiting = asyncio.create_task(queue.dequeue())
    consumers = f"{namespace}:queue:{{jobs}}:consumers"
    await wait_for_key(redis_client, consumers)
    await redis_client.delete(consumers)
    await make_queue().enqueue(1)
    message = await asyncio.wait_for(waiting, 10)
    assert message is not None


async def test_the_connection_that_listens_is_killed_and_the_message_is_found_at_once(
    own_server: EmbeddedServer, own_client: Redis
) -> None:
    async with Redis.from_url(own_server.url) as client:
        queue: ReliableQueue[Any] = ReliableQueue(client, "jobs")
        for n in range(20):
            waiting = asyncio.create_task(queue.dequeue())
            await wait_for_key(own_client, "ap:queue:{jobs}:consumers")
            async with own_client.pipeline(transaction=False) as pipe:
                pipe.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                await asyncio.gather(pipe.execute(), queue.enqueue(n))
            message = await asyncio.wait_for(waiting, 4)
            assert message is not None and message.body == n
            await message.ack()
        await queue.aclose()


async def test_without_permission_for_channels_it_polls(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.execute_command(
        "ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all", "resetchannels", "-@dangerous"
    )
    async with Redis.from_url(own_server.url, username="worker", password="secret") as client:
        queue: ReliableQueue[Any] = ReliableQueue(client, "jobs")
        waiting = asyncio.create_task(queue.dequeue())
        await asyncio.sleep(0.1)
        await queue.enqueue(1)
        message = await asyncio.wait_for(waiting, 5)
        assert message is not None
        await message.ack()
        await queue.aclose()


async def test_what_the_server_refuses_for_good_is_raised_everywhere(
    own_server: EmbeddedServer, own_client: Redis
) -> None:
    await own_client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+@connection")
    async with Redis.from_url(own_server.url, username="reader", password="secret") as client:
        queue: ReliableQueue[Any] = ReliableQueue(client, "jobs")

        async def handle(message: Any) -> None: ...

        with pytest.raises(PermissionDenied):
            await queue.enqueue(1)
        with pytest.raises(PermissionDenied):
            await queue.dequeue(5)
        with pytest.raises(PermissionDenied):
            await asyncio.wait_for(queue.process(handle), 5)
        await queue.aclose()


async def test_a_server_that_is_away_is_an_error_for_producers_and_a_wait_for_consumers(
    own_server: EmbeddedServer,
) -> None:
    async with Redis.from_url(own_server.url) as client:
        queue: ReliableQueue[Any] = ReliableQueue(client, "jobs", deadline=1)
        await queue.enqueue(0)
        message = await queue.dequeue()
        assert message is not None
        await message.ack()
        waiting = asyncio.create_task(queue.dequeue())
        await asyncio.sleep(0.05)
        await own_server.kill()
        with pytest.raises((ServerUnavailable, OutcomeUnknown)):
            await queue.enqueue(1)
        with pytest.raises((ServerUnavailable, OutcomeUnknown)):
            await queue.dequeue(0)
        assert await queue.dequeue(0.05) is None
        assert not waiting.done()
        await own_server.restart()
        await enqueue_all(queue, [2])
        message = await asyncio.wait_for(waiting, 8)
        assert message is not None and message.body == 2
        await message.ack()
        await queue.aclose()


async def test_a_silent_server_is_noticed_within_the_deadline(fault_proxy: FaultProxy, make_queue: Any) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        queue = make_queue(client=client, deadline=0.3)
        await queue.enqueue(0)
        fault_proxy.black_hole()
        begin = asyncio.get_running_loop().time()
        with pytest.raises((OutcomeUnknown, ServerUnavailable)):
            await queue.enqueue(1)
        with pytest.raises((OutcomeUnknown, ServerUnavailable)):
            await queue.dequeue(0)
        assert asyncio.get_running_loop().time() - begin < 5
        fault_proxy.restore()
        message = await asyncio.wait_for(queue.dequeue(), 15)
        assert (message.body, message.attempt) == (0, 1), "the turn that was lost is repeated, not a new one"
        await message.ack()
        await queue.aclose()


@pytest.mark.parametrize("options", [{"protocol": 2}, {"protocol": 3}, {"protocol": 2, "decode_responses": True}])
async def test_any_client_will_do(redis_url: str, make_queue: Any, options: dict[str, Any]) -> None:
    async with Redis.from_url(redis_url, **options) as client:
        queue = make_queue(client=client, backoff=Backoff(first=0.01, longest=0.01))
        await queue.enqueue({"ü": 1}, headers={"a": "b"}, priority=1)
        message = await queue.dequeue()
        await message.nack(reason="ö")
        message = await queue.dequeue(2)
        assert (message.body, message.headers, message.attempt) == ({"ü": 1}, {"a": "b"}, 2)
        await message.reject("ä")
        assert (await queue.dead_letters.list())[0].last_reason == "ä"
        await queue.aclose()
