"""Publications are numbered so that the server remembers each for as long as it may be sent again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio import Redis

import aredis_patterns.pubsub._topic_publisher as publisher
from aredis_patterns import OutcomeUnknown, ServerUnavailable, Topic
from aredis_patterns.pipelining import lane_of
from aredis_patterns.pubsub._operations import WINDOW, Operations


@pytest.fixture
async def redis(redis_client: Redis) -> AsyncGenerator[Redis, None]:
    yield redis_client
    await lane_of(redis_client).aclose()


async def test_a_publication_that_others_pass_by_is_there_once(
    redis: Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic: Topic[Any] = Topic(redis, "t", namespace=namespace)
    run = publisher.topic_publish
    lost, again = asyncio.Event(), asyncio.Event()

    async def first_reply_is_lost(*args: Any, **options: Any) -> Any:
        done = await run(*args, **options)
        if options["operation"] == 1 and not lost.is_set():
            lost.set()
            await again.wait()
            raise OutcomeUnknown("the reply was lost")
        return done

    monkeypatch.setattr(publisher, "topic_publish", first_reply_is_lost)
    first = asyncio.create_task(topic.publish("first"))
    await lost.wait()
    others = [asyncio.create_task(topic.publish(number)) for number in range(WINDOW + 100)]
    await asyncio.wait(others[: WINDOW - 1])
    again.set()
    assert (await first).number == 1
    await asyncio.gather(*others)
    assert (await topic.info()).published == WINDOW + 101


async def test_a_deadline_that_passes_before_its_turn_says_that_nothing_was_sent(
    redis: Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic: Topic[Any] = Topic(redis, "t", namespace=namespace)
    feed = topic._core.feed()
    monkeypatch.setattr(feed, "operations", Operations(window=1))
    other = await feed.operations.begin()
    with pytest.raises(ServerUnavailable, match="not published"):
        await topic.publish(1, deadline=0.01)
    feed.operations.end(other)
    assert (await topic.publish(2, deadline=5)).number == 1


async def test_they_begin_in_the_order_of_asking_and_never_a_window_ahead() -> None:
    operations = Operations(window=3)
    assert [await operations.begin() for _ in range(3)] == [1, 2, 3]
    waiting = [asyncio.create_task(operations.begin()) for _ in range(4)]
    await asyncio.sleep(0)
    operations.end(2)
    operations.end(3)
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)  # 1 may still be sent again
    operations.end(1)
    assert await asyncio.gather(*waiting[:3]) == [4, 5, 6]
    assert not waiting[3].done()
    operations.end(4)
    assert await waiting[3] == 7


async def test_whoever_is_cancelled_leaves_the_turn_to_the_next() -> None:
    operations = Operations(window=1)
    first = await operations.begin()
    waiting = [asyncio.create_task(operations.begin()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    operations.end(first)
    waiting[1].cancel()  # it has got its turn, and does not know yet
    async with asyncio.timeout(10):
        assert await waiting[2] == 3
