"""How many messages reach the subscribers of one process? Run: python -m benchmarks.pubsub [--quick] [--uvloop] [--check]

16 tasks publish as fast as they are answered, on one channel; 100 and 1000 tasks subscribe to it and count what they get.
Publishers and subscribers share one process, as in a web application. Ours decodes each message (JSON); the others get the
bytes as they come.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from broadcaster import Broadcast
from redis.asyncio import Redis

from aredis_patterns import PipelinedRedis, PubSub, Topic
from benchmarks._load import Sample, median
from benchmarks._report import Contest, Outcome, Target, main

SUBSCRIBERS = (100, 1000)
PUBLISHERS = 16
MESSAGE = {"id": 123456, "kind": "order", "state": "paid", "total": 99.5}
TEXT = json.dumps(MESSAGE)
CHANNEL = "bench"
PEERS = ("broadcaster", "redis-py, a PubSub each", "redis-py, one PubSub by hand")
WORKLOAD = "fan-out"

Publish = Callable[[], Awaitable[Any]]
Setup = Callable[[str, int, list[int]], "Any"]
"""`async with setup(url, subscribers, counts) as publish`: subscriber number n counts in `counts[n]`."""


@asynccontextmanager
async def crew(tasks: list[Any]) -> AsyncIterator[None]:
    running = [asyncio.create_task(task) for task in tasks]
    await asyncio.sleep(0.05)
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def count_batches(subscription: Any, counts: list[int], number: int) -> None:
    async for events in subscription.batches():
        counts[number] += len(events)


async def count(subscription: Any, counts: list[int], number: int) -> None:
    async for _ in subscription:
        counts[number] += 1


@asynccontextmanager
async def ours(
    url: str, subscribers: int, counts: list[int], *, count: Any = count, **options: Any
) -> AsyncIterator[Publish]:
    async with PipelinedRedis.from_url(url, client_name="ours") as redis, PubSub(redis, **options) as pubsub:
        subscriptions = [await pubsub.subscribe(CHANNEL) for _ in range(subscribers)]
        async with crew([count(each, counts, number) for number, each in enumerate(subscriptions)]):
            yield lambda: pubsub.publish(CHANNEL, MESSAGE)
        missed = sum(each.statistics().missed for each in subscriptions)
        assert missed == 0, f"{missed} messages were dropped"


@asynccontextmanager
async def our_numbered(url: str, subscribers: int, counts: list[int]) -> AsyncIterator[Publish]:
    async with ours(url, subscribers, counts, sequence=True) as publish:
        yield publish


@asynccontextmanager
async def our_batches(url: str, subscribers: int, counts: list[int]) -> AsyncIterator[Publish]:
    async with ours(url, subscribers, counts, count=count_batches) as publish:
        yield publish


@asynccontextmanager
async def our_topic(url: str, subscribers: int, counts: list[int]) -> AsyncIterator[Publish]:
    async with PipelinedRedis.from_url(url) as redis:
        topic = Topic(redis, CHANNEL, maxlen=1000)
        subscriptions = [await topic.subscribe() for _ in range(subscribers)]
        async with crew([count(each, counts, number) for number, each in enumerate(subscriptions)]):
            yield lambda: topic.publish(MESSAGE)
        for each in subscriptions:
            each.close()


@asynccontextmanager
async def by_broadcaster(url: str, subscribers: int, counts: list[int]) -> AsyncIterator[Publish]:
    async def subscriber(number: int) -> None:
        async with broadcast.subscribe(CHANNEL) as events:
            async for _ in events:
                counts[number] += 1

    # Its reader starts before its first subscription is confirmed and ends at once, so that needs a channel to sacrifice; and
    # two first subscribers at the same time would break it.
    async with (
        Broadcast(url) as broadcast,
        broadcast.subscribe("sacrifice"),
        broadcast.subscribe(CHANNEL),
        crew([subscriber(number) for number in range(subscribers)]),
    ):
        yield lambda: broadcast.publish(CHANNEL, TEXT)


@asynccontextmanager
async def by_a_pubsub_each(url: str, subscribers: int, counts: list[int]) -> AsyncIterator[Publish]:
    async with Redis.from_url(url, max_connections=subscribers + PUBLISHERS) as redis:
        pubsubs = [redis.pubsub(ignore_subscribe_messages=True) for _ in range(subscribers)]
        for pubsub in pubsubs:
            await pubsub.subscribe(CHANNEL)
        async with crew([count(each.listen(), counts, number) for number, each in enumerate(pubsubs)]):
            yield lambda: redis.publish(CHANNEL, TEXT)
        for pubsub in pubsubs:
            await pubsub.aclose()


@asynccontextmanager
async def by_hand(url: str, subscribers: int, counts: list[int]) -> AsyncIterator[Publish]:
    async with Redis.from_url(url) as redis:
        pubsub = redis.pubsub(ignore_subscribe_messages=True)
        await pubsub.subscribe(CHANNEL)
        queues: list[asyncio.Queue[Any]] = [asyncio.Queue() for _ in range(subscribers)]

        async def read() -> None:
            async for message in pubsub.listen():
                for queue in queues:
                    queue.put_nowait(message["data"])

        async def subscriber(number: int) -> None:
            queue = queues[number]
            while True:
                await queue.get()
                counts[number] += 1

        async with crew([read(), *(subscriber(number) for number in range(subscribers))]):
            yield lambda: redis.publish(CHANNEL, TEXT)
        await pubsub.aclose()


SETUPS: dict[str, Setup] = {
    "ours": ours,
    "ours, in batches": our_batches,
    "ours, numbered": our_numbered,
    "ours, Topic": our_topic,
    "broadcaster": by_broadcaster,
    "redis-py, a PubSub each": by_a_pubsub_each,
    "redis-py, one PubSub by hand": by_hand,
}


async def deliver(setup: Setup, url: str, subscribers: int, seconds: float) -> Sample:
    """Publish for so long; what was delivered meanwhile."""
    counts = [0] * subscribers
    latencies: list[float] = []
    clock = time.perf_counter
    async with setup(url, subscribers, counts) as publish:
        stop = clock() + seconds

        async def publisher() -> None:
            now = clock()
            while now < stop:
                await publish()
                before, now = now, clock()
                latencies.append(now - before)

        start, cpu = clock(), time.process_time()
        await asyncio.gather(*(publisher() for _ in range(PUBLISHERS)))
        elapsed, delivered, cpu = clock() - start, sum(counts), time.process_time() - cpu
        mean = delivered / subscribers
        latencies.sort()
        return Sample(
            ops=delivered / elapsed,
            cpu=cpu / max(1, delivered) * 1e6,
            p50=median(latencies) * 1000,
            p99=latencies[int(len(latencies) * 0.99)] * 1000,
            least=min(counts) / max(1, mean),
            most=max(counts) / max(1, mean),
            errors=0,
        )


async def connections(url: str) -> int:
    """How many ours needs for 1000 subscribers and 16 publishers."""
    counts = [0] * 1000
    async with ours(url, 1000, counts) as publish, Redis.from_url(url) as redis:
        await asyncio.gather(*(publish() for _ in range(PUBLISHERS)))
        return sum(client["name"] == "ours" for client in await redis.client_list())


async def run(url: str, stack: AsyncExitStack, contest: Contest) -> Outcome:
    contest.baseline = "redis-py, one PubSub by hand"
    for _ in range(contest.rounds):
        for subscribers in SUBSCRIBERS:
            for name, setup in SETUPS.items():
                await deliver(setup, url, subscribers, contest.seconds / 10)
                sample = await deliver(setup, url, subscribers, contest.seconds)
                contest.cells.setdefault((WORKLOAD, subscribers, name), []).append(sample)
    targets = [
        Target(
            f"{subscribers} subscribers, delivered per second vs the best peer",
            contest.ratio_to_best(WORKLOAD, subscribers, "ours", PEERS),
            least=5,
        )
        for subscribers in SUBSCRIBERS
    ]
    targets += [
        Target(
            f"{subscribers} subscribers that read in batches",
            contest.ratio_to_best(WORKLOAD, subscribers, "ours, in batches", PEERS),
            least=5,
        )
        for subscribers in SUBSCRIBERS
    ]
    targets.append(Target("connections of ours", float(await connections(url)), most=2))
    return Outcome(targets)


if __name__ == "__main__":
    sys.exit(main("pubsub", __doc__, run, libraries=("redis", "hiredis", "broadcaster")))
