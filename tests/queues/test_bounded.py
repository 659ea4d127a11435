"""Bounded queues: whole batches or nothing, and producers who wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.exceptions import QueueClosed, QueueFull


async def test_a_full_queue_refuses_whole_batches_and_says_how_much_room_there_is(make_queue: Any) -> None:
    queue = make_queue(maxlen=10)
    await queue.enqueue_many(range(8))
    with pytest.raises(QueueFull) as caught:
        await queue.enqueue_many(range(3))
    assert (caught.value.free, caught.value.wanted, caught.value.queue) == (2, 3, "jobs")
    assert (await queue.stats()).ready == 8
    await queue.enqueue_many(range(2))
    with pytest.raises(QueueFull):
        await queue.enqueue(1)


async def test_what_is_delayed_or_in_flight_takes_room_and_what_is_dead_does_not(make_queue: Any) -> None:
    queue = make_queue(maxlen=2)
    await queue.enqueue("later", delay=60)
    await queue.enqueue("now")
    message = await queue.dequeue()
    with pytest.raises(QueueFull):
        await queue.enqueue("third")
    await message.reject()
    await queue.enqueue("third")


async def test_a_producer_waits_for_room_and_goes_on_at_once(make_queue: Any) -> None:
    queue, consumer = make_queue(maxlen=3), make_queue()
    await queue.enqueue_many(range(3))
    waiting = [asyncio.create_task(queue.enqueue(n, wait=20)) for n in (3, 4)]
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in waiting)
    loop = asyncio.get_running_loop()
    for n in range(2):
        message = await consumer.dequeue()
        begin = loop.time()
        await message.ack()
        await asyncio.wait_for(asyncio.shield(waiting[n]), 4)
        assert loop.time() - begin < 2
    assert [each.body for each in await queue.peek()] == [2, 3, 4]


async def test_a_producer_gives_up_in_time(make_queue: Any) -> None:
    queue = make_queue(maxlen=1)
    await queue.enqueue(1)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    with pytest.raises(QueueFull):
        await queue.enqueue(2, wait=0.2)
    assert 0.19 < loop.time() - begin < 2
    assert (await queue.stats()).ready == 1


async def test_room_given_by_one_process_wakes_the_producers_of_all(make_queue: Any) -> None:
    """Ten producers, each an object of its own, and one consumer: nobody is forgotten."""
    producers = [make_queue(maxlen=2) for _ in range(10)]
    consumer = make_queue()
    sending = [asyncio.create_task(queue.enqueue(n, wait=None)) for n, queue in enumerate(producers)]
    seen = []
    async with asyncio.timeout(15):
        while len(seen) < 10:
            message = await consumer.dequeue()
            seen.append(message.body)
            await message.ack()
    await asyncio.gather(*sending)
    assert sorted(seen) == list(range(10))


async def test_the_bound_holds_under_pressure(make_queue: Any) -> None:
    queue, consumer = make_queue(maxlen=20), make_queue()
    most = 0
    done = asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not done.is_set():
            stats = await consumer.stats()
            most = max(most, stats.ready + stats.in_flight)

    async def handle(message: Any) -> None:
        seen.append(message.body)
        if len(seen) == 500:
            done.set()

    seen: list[int] = []
    watching = asyncio.create_task(watch())
    sending = [asyncio.create_task(queue.enqueue(n, wait=None)) for n in range(500)]
    await asyncio.wait_for(consumer.process(handle, concurrency=4, stop=done), 30)
    await asyncio.gather(*sending)
    await watching
    assert sorted(seen) == list(range(500))
    assert most <= 20


async def test_closing_ends_who_waits_for_room(make_queue: Any) -> None:
    queue = make_queue(maxlen=1)
    await queue.enqueue(1)
    waiting = asyncio.create_task(queue.enqueue(2, wait=None))
    await asyncio.sleep(0.1)
    await queue.aclose()
    with pytest.raises(QueueClosed):
        await waiting


async def test_large_batches_go_in_parts_unless_that_could_leave_half_of_one(make_queue: Any) -> None:
    queue, bounded = make_queue(), make_queue(maxlen=5000)
    ids = await queue.enqueue_many(range(2_500))
    assert ids == sorted(ids) and len(set(ids)) == 2_500
    with pytest.raises(ValueError, match="1000 messages at once"):
        await bounded.enqueue_many(range(1_001))
    assert await queue.enqueue_many([]) == []


@pytest.mark.parametrize(
    "options", [{"maxlen": 0}, {"maxlen": 1.5}, {"max_deliveries": 0}, {"lease": 0}, {"lease": -1}]
)
async def test_wrong_options_are_refused_at_once(make_queue: Any, options: Any, redis_client: Redis) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        make_queue(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 101},
        {"priority": 1.5},
        {"delay": -1},
        {"group": ""},
        {"ordering_key": "a\0b"},
        {"dedup_key": "x" * 501},
        {"wait": -1},
    ],
)
async def test_wrong_arguments_are_refused_before_any_io(make_queue: Any, options: Any) -> None:
    queue = make_queue()
    with pytest.raises(ValueError, match=next(iter(options))):
        await queue.enqueue(1, **options)
    assert queue.statistics().enqueued == 0
