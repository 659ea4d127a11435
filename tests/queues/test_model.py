"""Any story of enqueues, takes, decisions and lapses of leases agrees with a model of a few lines."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from aredis_patterns.queues import ReliableQueue
from aredis_patterns.queues._models import QueueModel

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("enqueue"),
            st.sampled_from([0, 0, 0, 5, -5]),
            st.sampled_from([None, None, "a", "b"]),
            st.sampled_from([None, None, "k", "l"]),
        ),
        st.tuples(st.just("take"), st.integers(1, 3)),
        st.tuples(st.sampled_from(["ack", "nack", "reject", "release", "expire", "cancel"]), st.integers(0, 9)),
        st.tuples(st.just("redrive")),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(story=STEPS)
def test_the_scripts_do_what_the_model_does(redis_url: str, namespace: str, story: list[Any]) -> None:
    async def tell() -> None:
        async with Redis.from_url(redis_url) as client:
            queue: ReliableQueue[Any] = ReliableQueue(
                client, uuid.uuid4().hex, namespace=namespace, max_deliveries=2, lease=60
            )
            try:
                await follow(client, queue, QueueModel(max_deliveries=2), story)
            finally:
                await queue.aclose()
                await queue.clear()

    asyncio.run(tell())


async def follow(client: Redis, queue: ReliableQueue[Any], model: QueueModel, story: list[Any]) -> None:
    held: dict[str, Any] = {}
    known: list[str] = []
    for step in story:
        if step[0] == "enqueue":
            _, priority, group, key = step
            id = await queue.enqueue(len(known), priority=priority, group=group, ordering_key=key)
            model.enqueue(id, priority=priority, group=group, key=key)
            known.append(id)
        elif step[0] == "take":
            messages = await queue.dequeue_many(step[1], timeout=0)
            expected = model.take(step[1])
            assert [(message.id, message.attempt) for message in messages] == expected
            held |= {message.id: message for message in messages}
        elif step[0] == "redrive":
            assert await queue.dead_letters.redrive() == model.redrive()
        elif step[0] == "cancel":
            if known:
                id = known[step[1] % len(known)]
                assert await queue.cancel(id) is model.cancel(id)
        elif held:
            id = sorted(held)[step[1] % len(held)]
            message = held.pop(id)
            await decide(client, queue, message, step[0])
            getattr(model, step[0])(id)
        stats = await queue.stats()
        assert (stats.ready, stats.in_flight, stats.dead, stats.parked) == model.sizes()


async def decide(client: Redis, queue: ReliableQueue[Any], message: Any, how: str) -> None:
    if how == "ack":
        await message.ack()
    elif how == "nack":
        assert await message.nack(delay=0)
    elif how == "reject":
        assert await message.reject()
    elif how == "release":
        assert await message.release()
    else:
        await client.zadd(queue._keys.leases, {message.id: 1}, xx=True)
        await queue.requeue_expired()
