"""Queues on a real Cluster: one slot per queue, and consumers on other nodes are woken."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest
from redis.asyncio import RedisCluster

from aredis_patterns.queues import ReliableQueue, SimpleQueue
from aredis_patterns.testing import LocalCluster


@pytest.fixture(scope="module")
def cluster() -> Generator[LocalCluster, None, None]:
    with LocalCluster() as cluster:
        yield cluster


async def test_everything_about_a_queue_is_in_one_slot(cluster: LocalCluster) -> None:
    async with RedisCluster.from_url(cluster.url) as client:
        for name in ("a", "b:c", "{d}", "ü"):
            queue: ReliableQueue[Any] = ReliableQueue(client, name, maxlen=10)
            await queue.enqueue(1, ordering_key="k", group="g", dedup_key=f"d {name}", priority=2)
            message = await queue.dequeue(2)
            assert message is not None
            async with message.transaction() as tx:
                tx.execute("INCR", queue._keys.messages.replace(":messages", ":effect"))
            await queue.enqueue(2)
            message = await queue.dequeue(2)
            assert message is not None
            await message.reject()
            assert await queue.dead_letters.redrive() == 1
            assert len(await queue.peek()) == 1
            assert (await queue.stats()).ready == 1
            await queue.pause()
            assert await queue.resume()
            await queue.clear()
            await queue.aclose()


async def test_consumers_are_woken_from_other_nodes(cluster: LocalCluster) -> None:
    async with RedisCluster.from_url(cluster.url) as mine, RedisCluster.from_url(cluster.url) as theirs:
        for name in ("one", "two", "three", "four"):
            producer: ReliableQueue[Any] = ReliableQueue(mine, name)
            consumer: ReliableQueue[Any] = ReliableQueue(theirs, name)
            simple: SimpleQueue[Any] = SimpleQueue(theirs, name)
            waiting = [asyncio.create_task(each.dequeue()) for each in (consumer, simple)]
            await asyncio.sleep(0.3)
            begin = asyncio.get_running_loop().time()
            await producer.enqueue("x")
            await SimpleQueue(mine, name).enqueue("y")
            message, item = await asyncio.wait_for(asyncio.gather(*waiting), 4)
            assert asyncio.get_running_loop().time() - begin < 3
            assert (message.body, item) == ("x", "y")
            await message.ack()
            for each in (producer, consumer, simple):
                await each.aclose()
