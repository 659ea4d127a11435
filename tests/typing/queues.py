"""A tour of the queues. Never run; mypy and pyright must accept it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from redis.asyncio import Redis

from aredis_patterns import (
    Backoff,
    DeadLetter,
    JSONCodec,
    Message,
    MessageId,
    Patterns,
    QueueStatistics,
    QueueStats,
    ReliableQueue,
    SimpleQueue,
    StoredMessage,
)


@dataclass
class Mail:
    to: str


async def reliable(client: Redis) -> None:
    plain = ReliableQueue(client, "jobs")
    assert_type(plain, ReliableQueue[Any])
    queue = ReliableQueue(
        client,
        "mails",
        codec=JSONCodec(Mail),
        lease=timedelta(seconds=10),
        max_deliveries=None,
        backoff=Backoff(first=0.5, longest=60),
        maxlen=1000,
        dead_letter=False,
        dedup_window=60,
    )
    assert_type(queue, ReliableQueue[Mail])
    id = await queue.enqueue(
        Mail("ada"), delay=1, priority=3, group="acme", ordering_key="ada", dedup_key="1", headers={"a": "b"}, wait=None
    )
    assert_type(id, MessageId)
    await queue.enqueue(Mail("bob"), at=datetime.now(UTC))
    assert_type(await queue.enqueue_many([Mail("eve")], wait=2), list[MessageId])
    message = await queue.dequeue(timeout=0)
    assert_type(message, Message[Mail] | None)
    assert message is not None
    await message.extend(60)
    assert_type(await message.nack(delay=0, reason="later"), bool)
    async with message:
        assert_type(message.body, Mail)
    async with message.transaction() as tx:
        tx.execute("INCR", "counter")
    async for each in queue.consume(prefetch=10):
        await each.ack()

    async def handle(message: Message[Mail]) -> None:
        print(message.body.to)

    await queue.process(handle, concurrency=10, shutdown_grace=5)
    await queue.ack_many(await queue.dequeue_many(10))
    assert_type(await queue.stats(), QueueStats)
    assert_type(queue.statistics(), QueueStatistics)
    assert_type(await queue.peek(3), list[StoredMessage])
    assert_type(await queue.dead_letters.list(), list[DeadLetter])
    assert_type(await queue.dead_letters.redrive([id]), int)
    assert_type(await queue.cancel(id), bool)


async def simple(client: Redis, p: Patterns) -> None:
    async with SimpleQueue(client, "clicks", codec=JSONCodec(Mail)) as queue:
        assert_type(await queue.enqueue(Mail("ada")), int)
        assert_type(await queue.dequeue(timeout=1), Mail | None)
        assert_type(await queue.dequeue_many(10), list[Mail])
        async for mail in queue:
            assert_type(mail, Mail)
    assert_type(p.queue("jobs", lease=5), ReliableQueue[Any])
    assert_type(p.simple_queue("jobs"), SimpleQueue[Any])
