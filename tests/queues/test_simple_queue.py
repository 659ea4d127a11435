"""`SimpleQueue`: in order, at most once, and nothing lost to the network or to callers who leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns._core.codecs import JSONCodec, RawCodec
from aredis_patterns.exceptions import DecodeError, EncodeError, QueueClosed, ServerUnavailable
from aredis_patterns.queues import SimpleQueue
from aredis_patterns.testing import FaultProxy, assert_round_trips, no_leaked_keys


@pytest.fixture
async def queue(redis_client: Redis, namespace: str) -> AsyncGenerator[SimpleQueue[Any], None]:
    async with SimpleQueue(redis_client, "clicks", namespace=namespace) as queue:
        yield queue


async def test_first_in_first_out(queue: SimpleQueue[Any]) -> None:
    assert await queue.enqueue("a") == 1
    assert await queue.enqueue_many(["b", "c"]) == 3
    assert await queue.size() == 3
    assert [await queue.dequeue() for _ in range(3)] == ["a", "b", "c"]
    assert await queue.dequeue(0) is None
    assert await queue.dequeue(0.01) is None


async def test_many_at_once(queue: SimpleQueue[Any]) -> None:
    assert await queue.enqueue_many(range(2_500)) == 2_500
    first = await queue.dequeue_many(700)
    assert first == list(range(700))
    assert await queue.dequeue() == 700
    rest = await queue.dequeue_many(1000) + await queue.dequeue_many(1000)
    assert rest == list(range(701, 2_500))
    assert await queue.enqueue_many([]) == 0


async def test_what_was_taken_ahead_and_not_wanted_goes_back_in_order(queue: SimpleQueue[Any]) -> None:
    waiting = asyncio.create_task(queue.dequeue_many(10))
    await asyncio.sleep(0.05)
    await queue.enqueue_many(range(5))
    assert await waiting == [0, 1, 2, 3, 4]
    waiting_many = [asyncio.create_task(queue.dequeue()) for _ in range(3)]
    await asyncio.sleep(0.05)
    for task in waiting_many:
        task.cancel()
    await queue.enqueue_many(range(5))
    await asyncio.sleep(0.05)
    assert await queue.dequeue_many(10) == [0, 1, 2, 3, 4]


async def test_iteration(queue: SimpleQueue[Any]) -> None:
    await queue.enqueue_many("abc")
    seen: list[str] = []
    async for item in queue:
        seen.append(item)
        if len(seen) == 3:
            break
    assert seen == ["a", "b", "c"]


async def test_lost_replies_neither_lose_nor_double(fault_proxy: FaultProxy, namespace: str) -> None:
    lost = fault_proxy.drop_replies("EVALSHA", probability=0.2)
    async with Redis.from_url(fault_proxy.url) as client:
        queue: SimpleQueue[Any] = SimpleQueue(client, "clicks", namespace=namespace)
        seen: list[int] = []

        async def produce() -> None:
            for n in range(150):
                while True:
                    try:
                        await queue.enqueue(n)
                        break
                    except ServerUnavailable:
                        continue

        producing = asyncio.create_task(produce())
        async with asyncio.timeout(30):
            while len(seen) < 150:
                item = await queue.dequeue()
                assert item is not None
                seen.append(item)
        await producing
        assert lost.applied > 5
        lost.remove()
        assert seen == list(range(150))
        assert await queue.dequeue(0) is None
        await queue.aclose()


async def test_one_round_trip_per_call(redis_url: str, namespace: str) -> None:
    async with FaultProxy(redis_url) as proxy, Redis.from_url(proxy.url) as client:
        queue: SimpleQueue[Any] = SimpleQueue(client, "clicks", namespace=namespace)
        await queue.enqueue(0)
        await queue.dequeue()
        async with assert_round_trips(proxy, 1):
            await asyncio.gather(*(queue.enqueue(n) for n in range(20)))
        async with assert_round_trips(proxy, 1):
            await asyncio.gather(*(queue.dequeue() for _ in range(20)))
        await queue.aclose()


@dataclass
class Click:
    page: str


async def test_typed_and_raw_items(redis_client: Redis, namespace: str) -> None:
    async with SimpleQueue(redis_client, "typed", codec=JSONCodec(Click), namespace=namespace) as typed:
        await typed.enqueue(Click("/"))
        assert await typed.dequeue() == Click("/")
        await redis_client.rpush(f"{namespace}:list:{{typed}}", b"7")  # type: ignore[misc]
        with pytest.raises(DecodeError):
            await typed.dequeue(0)
        assert await typed.dequeue(0) is None, "it is gone: at most once"
    async with SimpleQueue(redis_client, "raw", codec=RawCodec(), namespace=namespace) as raw:
        await raw.enqueue(b"\x00\xff")
        assert await raw.dequeue() == b"\x00\xff"


async def test_bad_input_is_refused_before_any_io(queue: SimpleQueue[Any], redis_client: Redis, namespace: str) -> None:
    async with no_leaked_keys(redis_client, namespace):
        with pytest.raises(ValueError, match="None"):
            await queue.enqueue(None)
        with pytest.raises(EncodeError):
            await queue.enqueue_many([1, object()])
        with pytest.raises(ValueError, match="count"):
            await queue.dequeue_many(0)


async def test_closing_leaves_nothing_and_ends_what_waits(redis_client: Redis, namespace: str) -> None:
    async with no_leaked_keys(redis_client, namespace):
        queue: SimpleQueue[Any] = SimpleQueue(redis_client, "clicks", namespace=namespace)
        await queue.enqueue(1)
        assert await queue.dequeue() == 1
        waiting = asyncio.create_task(queue.dequeue())
        await asyncio.sleep(0.1)
        await queue.aclose()
        with pytest.raises(QueueClosed):
            await waiting


async def test_a_second_event_loop_has_a_session_of_its_own(redis_url: str, namespace: str) -> None:
    client = Redis.from_url(redis_url)
    queue: SimpleQueue[Any] = SimpleQueue(client, "clicks", namespace=namespace)

    def elsewhere() -> Any:
        async def go() -> Any:
            mine = Redis.from_url(redis_url)
            other: SimpleQueue[Any] = SimpleQueue(mine, "clicks", namespace=namespace)
            await other.enqueue("from there")
            await other.aclose()
            await mine.aclose()

        return asyncio.run(go())

    await queue.enqueue("from here")
    await asyncio.to_thread(elsewhere)
    assert [await queue.dequeue(), await queue.dequeue()] == ["from here", "from there"]
    await queue.clear()
    await queue.aclose()
    await client.aclose()


async def test_an_item_that_cannot_be_read_takes_no_others_along(redis_client: Redis, namespace: str) -> None:
    async with SimpleQueue(redis_client, "clicks", namespace=namespace) as queue:
        await queue.enqueue_many([1, 2])
        await redis_client.rpush(f"{namespace}:list:{{clicks}}", b"{broken")  # type: ignore[misc]
        await queue.enqueue(3)
        assert await queue.dequeue_many(10) == [1, 2]
        with pytest.raises(DecodeError):
            await queue.dequeue_many(10)
        assert await queue.dequeue_many(10) == [3]
