"""Waiting costs next to nothing, and ends at once."""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.queues import ReliableQueue, SimpleQueue


async def commands(client: Redis) -> int:
    """Commands the server has executed, without what scripts do inside."""
    found = await client.info("commandstats")
    return sum(found.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval", "ping", "subscribe"))


async def test_two_hundred_idle_consumers_share_two_connections_and_hardly_say_a_word(
    own_server: EmbeddedServer, own_client: Redis
) -> None:
    async with Redis.from_url(own_server.url, max_connections=3) as client:
        queue: ReliableQueue[Any] = ReliableQueue(client, "jobs")
        waiting = [asyncio.create_task(queue.dequeue()) for _ in range(200)]
        await asyncio.sleep(0.3)
        before = await commands(own_client)
        await asyncio.sleep(2)
        spent = await commands(own_client) - before
        assert spent <= 2, f"{spent / 2} commands per second"
        assert len(await own_client.client_list()) <= 1 + 2
        await queue.enqueue_many(range(200))
        messages = await asyncio.wait_for(asyncio.gather(*waiting), 5)
        assert [message.body for message in messages if message] == list(range(200)), "in the order of asking"
        await queue.ack_many([message for message in messages if message])
        await queue.aclose()


async def test_a_new_message_is_picked_up_at_once(make_queue: Any) -> None:
    """Measured in the benchmark; here only that nobody polls."""
    producer, consumer = make_queue(), make_queue()
    latencies: list[float] = []
    await producer.enqueue(0)
    await (await consumer.dequeue()).ack()
    for n in range(40):
        waiting = asyncio.create_task(consumer.dequeue())
        await asyncio.sleep(0.01)
        begin = time.perf_counter()
        await producer.enqueue(n)
        message = await waiting
        latencies.append(time.perf_counter() - begin)
        await message.ack()
    assert statistics.median(latencies) < 0.05


async def test_many_consumers_in_many_processes_are_all_kept_busy(make_queue: Any) -> None:
    """Each enqueue calls one of them; who gets something calls the next one while there is more."""
    consumers = [make_queue() for _ in range(8)]
    waiting = [asyncio.create_task(queue.dequeue()) for queue in consumers]
    await asyncio.sleep(0.2)
    await make_queue().enqueue_many(range(8))
    messages = await asyncio.wait_for(asyncio.gather(*waiting), 3)
    assert sorted(message.body for message in messages) == list(range(8))


@pytest.mark.parametrize("kind", ["delay", "at", "nack"])
async def test_delayed_messages_are_in_time(make_queue: Any, kind: str) -> None:
    queue = make_queue()
    lateness: list[float] = []
    for pause in (0.03, 0.05, 0.11, 0.25):
        for _ in range(3):
            if kind == "nack":
                await queue.enqueue(0)
                message = await queue.dequeue()
                due = time.time() + pause
                await message.nack(delay=pause)
            else:
                due = time.time() + pause
                at = datetime.now(UTC) + timedelta(seconds=pause)
                await queue.enqueue(0, **({"delay": pause} if kind == "delay" else {"at": at}))
            message = await queue.dequeue(10)
            lateness.append(time.time() - due)
            await message.ack()
    assert min(lateness) >= -0.005, "never early"
    assert statistics.median(lateness) < 0.1


async def test_a_message_that_is_due_earlier_wakes_in_time(make_queue: Any) -> None:
    consumer, producer = make_queue(), make_queue()
    waiting = asyncio.create_task(consumer.dequeue())
    await producer.enqueue("late", delay=30)
    await asyncio.sleep(0.1)
    begin = time.monotonic()
    await producer.enqueue("early", delay=0.2)
    message = await asyncio.wait_for(waiting, 10)
    assert message.body == "early"
    assert 0.19 < time.monotonic() - begin < 2


async def test_a_mass_of_due_messages_does_not_hold_up_the_server(make_queue: Any, redis_client: Redis) -> None:
    queue = make_queue()
    await queue.enqueue_many(range(10_000), delay=0.3)
    await asyncio.sleep(0.3)
    await redis_client.config_resetstat()
    seen = 0
    while seen < 10_000:
        messages = await queue.dequeue_many(500)
        seen += len(messages)
        await queue.ack_many(messages)
    found = (await redis_client.info("commandstats"))["cmdstat_evalsha"]
    assert found["usec_per_call"] < 20_000


async def test_pick_up_of_a_simple_queue_and_of_what_others_push(
    redis_client: Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aredis_patterns.queues import _bell

    monkeypatch.setattr(_bell, "LOOK", 0.3)
    async with SimpleQueue(redis_client, "clicks", namespace=namespace) as queue:
        waiting = asyncio.create_task(queue.dequeue())
        await asyncio.sleep(0.05)
        await queue.enqueue({"page": 1})
        assert await asyncio.wait_for(waiting, 2) == {"page": 1}
        waiting = asyncio.create_task(queue.dequeue())
        await asyncio.sleep(0.05)
        await redis_client.rpush(f"{namespace}:list:{{clicks}}", b'"from outside"')  # type: ignore[misc]
        assert await asyncio.wait_for(waiting, 5) == "from outside"
