"""Nobody who stops waiting takes anything along."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.exceptions import QueueFull
from aredis_patterns.queues import ReliableQueue, SimpleQueue
from aredis_patterns.testing import cancel_everywhere

LONG = bool(os.environ.get("AREDIS_PATTERNS_LONG"))
ROUNDS = 10_000 if LONG else 1_500


def is_ours(task: asyncio.Task[Any]) -> bool:
    """Turns and inboxes belong to the queue object, not to the caller."""
    return task.get_name().startswith(("queue", "listener", "inbox", "Task-")) or "lane" in repr(task)


async def test_cancelled_dequeues_lose_nothing(queue: ReliableQueue[Any]) -> None:
    """Cancelled at random moments while messages arrive: enqueued = acked + ready, and nothing in flight."""
    random.seed(7)
    enqueued = 0
    seen: list[int] = []

    async def produce() -> None:
        nonlocal enqueued
        while True:
            await queue.enqueue(enqueued)
            enqueued += 1
            await asyncio.sleep(random.random() * 0.001)

    async def consume() -> None:
        message = await queue.dequeue()
        assert message is not None
        async with message:
            seen.append(message.body)
            await asyncio.sleep(random.random() * 0.0005)

    producing = asyncio.create_task(produce())
    for _ in range(ROUNDS // 50):
        tasks = [asyncio.create_task(consume()) for _ in range(50)]
        for task in tasks:
            asyncio.get_running_loop().call_later(random.random() * 0.01, task.cancel)
        await asyncio.wait(tasks)
    producing.cancel()
    await asyncio.wait({producing})
    await queue._here().consumer.finish(5)
    stats = await queue.stats()
    assert (stats.in_flight, stats.delayed, stats.dead, stats.expired) == (0, 0, 0, 0)
    assert stats.enqueued == stats.done + stats.ready
    assert stats.enqueued in (enqueued, enqueued + 1)
    while (message := await queue.dequeue(0)) is not None:
        assert message.attempt == 1
        seen.append(message.body)
        await message.ack()
    assert set(range(enqueued)) <= set(seen)


async def test_waiting_with_wait_for_loses_nothing_and_opens_no_connections(
    make_queue: Any, redis_client: Redis
) -> None:
    queue, producer = make_queue(), make_queue()
    await producer.enqueue_many(range(3))
    assert len(await queue.dequeue_many(3)) == 3
    before = len(await redis_client.client_list())
    seen: list[int] = []
    sending = asyncio.create_task(send_slowly(producer, 150))
    while not sending.done() or (await producer.stats()).ready:
        try:
            message = await asyncio.wait_for(queue.dequeue(), 0.002)
        except TimeoutError:
            continue
        seen.append(message.body)
        await message.ack()
    await queue._here().consumer.finish(5)
    while (message := await queue.dequeue(0)) is not None:
        seen.append(message.body)
        await message.ack()
    assert sorted(seen) == list(range(150))
    assert len(await redis_client.client_list()) <= before + 2


async def send_slowly(queue: ReliableQueue[Any], count: int) -> None:
    for n in range(count):
        await queue.enqueue(n)
        await asyncio.sleep(0.002)


async def test_dequeue_cancelled_at_every_point(queue: ReliableQueue[Any]) -> None:
    await queue.enqueue("x")

    async def nothing_is_lost() -> None:
        await queue._here().consumer.finish(5)
        message = await queue.dequeue(2)
        assert message is not None, f"lost: {await queue.stats()}"
        assert (message.body, message.attempt) == ("x", 1)
        await message.release()

    async def held() -> None:
        async with await queue.dequeue() as message:  # type: ignore[union-attr]
            await message.release()

    assert await cancel_everywhere(held, check=nothing_is_lost, ignore_task=is_ours, may_finish=True) > 3


async def test_enqueue_cancelled_at_every_point_happens_once_or_not_at_all(queue: ReliableQueue[Any]) -> None:
    async def consistent() -> None:
        await queue._here().producer._turns.finish(5)
        stats = await queue.stats()
        assert stats.ready in (0, 1)
        await queue.clear()

    async def enqueue() -> None:
        await queue.enqueue("x")

    assert await cancel_everywhere(enqueue, check=consistent, ignore_task=is_ours, may_finish=True) > 1


async def test_a_producer_that_stops_waiting_for_room_leaves_nothing_behind(make_queue: Any) -> None:
    queue = make_queue(maxlen=1)
    await queue.enqueue("first")
    waiting = asyncio.create_task(queue.enqueue("second", wait=None))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.wait({waiting})
    await (await queue.dequeue()).ack()
    await asyncio.sleep(0.1)
    assert (await queue.stats()).ready == 0
    await queue.enqueue("third")
    with pytest.raises(QueueFull):
        await queue.enqueue("fourth")


async def test_a_cancelled_ack_is_sent_nevertheless(queue: ReliableQueue[Any]) -> None:
    await queue.enqueue(1)
    message = await queue.dequeue()
    assert message is not None
    ack = asyncio.create_task(message.ack())
    await asyncio.sleep(0)
    ack.cancel()
    await asyncio.wait({ack})
    await queue._here().consumer.finish(5)
    assert (await queue.stats()).done == 1


async def test_a_simple_queue_loses_nothing_to_cancelled_callers(redis_client: Redis, namespace: str) -> None:
    random.seed(3)
    async with SimpleQueue(redis_client, "clicks", namespace=namespace) as queue:
        seen: list[int] = []
        sent = 0

        async def produce() -> None:
            nonlocal sent
            while True:
                await queue.enqueue(sent)
                sent += 1
                await asyncio.sleep(0)

        async def take() -> None:
            item = await queue.dequeue()
            assert item is not None
            seen.append(item)

        producing = asyncio.create_task(produce())
        for _ in range(ROUNDS // 50):
            tasks = [asyncio.create_task(take()) for _ in range(50)]
            for task in tasks:
                asyncio.get_running_loop().call_later(random.random() * 0.005, task.cancel)
            await asyncio.wait(tasks)
        producing.cancel()
        await asyncio.wait({producing})
        await queue._sessions.here()._popping.finish(5)
        while (item := await queue.dequeue(0)) is not None:
            seen.append(item)
        assert sorted(seen)[:sent] == list(range(sent))
        assert len(seen) in (sent, sent + 1)


async def test_a_simple_dequeue_cancelled_at_every_point(redis_client: Redis, namespace: str) -> None:
    async with SimpleQueue(redis_client, "clicks", namespace=namespace) as queue:
        taken: list[str] = []

        async def take() -> None:
            await queue.enqueue("x")
            item = await queue.dequeue()
            assert item is not None
            taken.append(item)

        async def nothing_is_lost() -> None:
            await queue._sessions.here()._popping.finish(5)
            await queue._sessions.here()._pushing.finish(5)
            while (item := await queue.dequeue(0)) is not None:
                taken.append(item)
            assert await queue.size() == 0

        assert await cancel_everywhere(take, check=nothing_is_lost, ignore_task=is_ours, may_finish=True) > 3
