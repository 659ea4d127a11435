"""Several queue objects on one server: what one of them does not need any more, another one gets at once."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis

from aredis_patterns.queues import ReliableQueue, SimpleQueue, _bell


async def registered(client: Redis, key: str, count: int = 1) -> None:
    """So many callers can be woken."""
    async with asyncio.timeout(10):
        while await client.zcard(key) < count:
            await asyncio.sleep(0.005)


async def test_every_queue_of_a_client_can_be_woken(
    make_queue: Any, redis_client: Redis, namespace: str, monkeypatch: Any
) -> None:
    """Not only the one that opened the inbox; without an address it would poll."""
    monkeypatch.setattr(_bell, "POLL", 60.0)
    monkeypatch.setattr(_bell, "LOOK", 60.0)
    for name in ("first", "second", "third"):
        queue = make_queue(name)
        waiting = asyncio.create_task(queue.dequeue())
        await registered(redis_client, f"{namespace}:queue:{{{name}}}:consumers")
        await queue.enqueue(name)
        message = await asyncio.wait_for(waiting, 10)
        assert message.body == name
        await message.ack()
    async with SimpleQueue(redis_client, "fourth", namespace=namespace) as simple:
        item = asyncio.create_task(simple.dequeue())
        await registered(redis_client, f"{namespace}:list:{{fourth}}:consumers")
        await simple.enqueue(4)
        assert await asyncio.wait_for(item, 10) == 4


async def test_room_that_a_cancelled_producer_was_called_for_goes_to_the_next(
    make_queue: Any, redis_client: Redis, namespace: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(_bell, "LOOK", 60.0)
    first, second, consumer = make_queue(maxlen=1), make_queue(maxlen=1), make_queue()
    await first.enqueue(0)
    producers = f"{namespace}:queue:{{jobs}}:producers"
    gives_up = asyncio.create_task(first.enqueue(1, wait=None))
    await registered(redis_client, producers, 1)
    waits = asyncio.create_task(second.enqueue(2, wait=None))
    await registered(redis_client, producers, 2)
    gives_up.cancel()
    await asyncio.wait({gives_up})
    await (await consumer.dequeue()).ack()
    await asyncio.wait_for(waits, 10)
    assert [each.body for each in await consumer.peek()] == [2]


async def test_a_closed_producer_is_not_called(
    make_queue: Any, redis_client: Redis, namespace: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(_bell, "LOOK", 60.0)
    first, second, consumer = make_queue(maxlen=1), make_queue(maxlen=1), make_queue()
    await first.enqueue(0)
    producers = f"{namespace}:queue:{{jobs}}:producers"
    closed = asyncio.create_task(first.enqueue(1, wait=None))
    await registered(redis_client, producers, 1)
    waits = asyncio.create_task(second.enqueue(2, wait=None))
    await registered(redis_client, producers, 2)
    await first.aclose()
    await asyncio.wait({closed})
    await (await consumer.dequeue()).ack()
    await asyncio.wait_for(waits, 10)


async def test_what_a_full_worker_postpones_is_picked_up_by_an_idle_one(
    make_queue: Any, redis_client: Redis, namespace: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(_bell, "LOOK", 60.0)
    full, idle = make_queue(lease=60), make_queue(lease=60)
    await full.enqueue("again")
    message = await full.dequeue()
    waiting = asyncio.create_task(idle.dequeue())
    await registered(redis_client, f"{namespace}:queue:{{jobs}}:consumers")
    await message.nack(delay=0.1)
    again = await asyncio.wait_for(waiting, 10)
    assert (again.body, again.attempt) == ("again", 2)


async def test_whoever_knows_when_a_message_is_due_looks_although_he_is_busy(
    make_queue: Any, redis_client: Redis, namespace: str, monkeypatch: Any
) -> None:
    """The delayed message calls the first one only, and the first one then takes something else."""
    monkeypatch.setattr(_bell, "LOOK", 60.0)
    consumers = f"{namespace}:queue:{{jobs}}:consumers"
    first, second, producer = make_queue(lease=60), make_queue(lease=60), make_queue()
    taking = asyncio.create_task(first.dequeue())
    await registered(redis_client, consumers, 1)
    await producer.enqueue("later", delay=1)
    await asyncio.sleep(0.1)  # the first one has looked, and knows
    await registered(redis_client, consumers, 1)
    await producer.enqueue("now")
    assert (await asyncio.wait_for(taking, 10)).body == "now"
    waiting = asyncio.create_task(second.dequeue())
    message = await asyncio.wait_for(waiting, 10)
    assert message.body == "later"


async def test_somebody_idle_notices_a_death_within_a_lease_and_a_second(
    make_queue: Any, redis_client: Redis, namespace: str
) -> None:
    """He had looked when nothing was leased: a short lease is then over before his next look was due."""
    dies, idle = make_queue(lease=0.5), make_queue(lease=0.5)
    waiting = asyncio.create_task(idle.dequeue())
    consumers = f"{namespace}:queue:{{jobs}}:consumers"
    await registered(redis_client, consumers)
    await redis_client.delete(consumers)  # the call goes to the other one
    await dies.enqueue(1)
    held = await dies.dequeue(0)
    if held is not None:  # else the idle one has just looked by himself
        dies._here().consumer._leases.close()
        message = await asyncio.wait_for(waiting, 3)
        assert message.attempt == 2
        await message.ack()
    else:
        await (await waiting).ack()


def test_one_queue_object_in_two_event_loops(redis_url: str, namespace: str) -> None:
    """With a stock client that outlives both: nothing of the first loop is in the way of the second."""
    client = Redis.from_url(redis_url)
    queue: ReliableQueue[Any] = ReliableQueue(client, "jobs", namespace=namespace, maxlen=10)

    async def work(n: int) -> None:
        waiting = asyncio.create_task(queue.dequeue())
        await queue.enqueue(n, delay=0.05)
        message = await asyncio.wait_for(waiting, 10)
        assert message is not None and message.body == n
        async with message:
            pass
        assert (queue.statistics().enqueued, queue.statistics().acked) == (1, 1), "counted per loop"
        assert (await queue.stats()).done == n
        if n == 2:
            await queue.clear()
            await queue.aclose()

    asyncio.run(work(1))
    asyncio.run(work(2))
