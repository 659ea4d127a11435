"""The queues beside us in `benchmarks.queues`: each enqueues and processes no-op messages, as its own documentation says."""

from __future__ import annotations

import asyncio
import importlib
import logging
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis

__all__ = ["PEERS", "Peer", "available"]


class Peer:
    """One library. `handled` is called by each no-op handler that has run."""

    name = ""

    def __init__(self, url: str, handled: Callable[[], None]) -> None:
        self.url = url
        self.handled = handled

    async def begin(self, stack: AsyncExitStack) -> None:
        """Connect."""

    async def enqueue(self, number: int) -> None:
        """One message."""
        raise NotImplementedError

    async def enqueue_batch(self, count: int) -> bool:
        """`count` messages at once; 32 calls at a time, and False, where there is no way."""
        for at in range(0, count, 32):
            await asyncio.gather(*(self.enqueue(number) for number in range(at, min(at + 32, count))))
        return False

    async def work(self, concurrency: int) -> None:
        """Process until cancelled."""
        raise NotImplementedError

    async def clear(self) -> None:
        """Forget everything."""
        async with Redis.from_url(self.url) as client:
            await client.flushdb()


class Ours(Peer):
    name = "ours"

    async def begin(self, stack: AsyncExitStack) -> None:
        from aredis_patterns import PipelinedRedis, ReliableQueue

        client = await stack.enter_async_context(PipelinedRedis.from_url(self.url))
        self.queue: Any = await stack.enter_async_context(ReliableQueue(client, "bench"))
        self.busy: Any = await stack.enter_async_context(ReliableQueue(client, "bench"))

    async def enqueue(self, number: int) -> None:
        await self.queue.enqueue(number)

    async def enqueue_batch(self, count: int) -> bool:
        await self.queue.enqueue_many(range(count))
        return True

    async def work(self, concurrency: int) -> None:
        async def handle(message: Any) -> None:
            self.handled()

        await self.busy.process(handle, concurrency=concurrency)


class HandWritten(Peer):
    """RPUSH, BLMOVE into a processing list, LREM: the safe recipe, one loop per worker, redis-py as it comes."""

    name = "BLMOVE + LREM"

    async def begin(self, stack: AsyncExitStack) -> None:
        pool = BlockingConnectionPool.from_url(self.url, max_connections=100, timeout=None)
        self.client: Any = await stack.enter_async_context(Redis.from_pool(pool))

    async def enqueue(self, number: int) -> None:
        await self.client.rpush("jobs", str(number))

    async def enqueue_batch(self, count: int) -> bool:
        await self.client.rpush("jobs", *map(str, range(count)))
        return True

    async def work(self, concurrency: int) -> None:
        stopped = False

        async def loop() -> None:
            while not stopped:  # its BLMOVE swallows cancellations now and then
                item = await self.client.blmove("jobs", "processing", 1, "LEFT", "RIGHT")
                if item is not None:
                    self.handled()
                    await self.client.lrem("processing", 1, item)

        loops = [asyncio.create_task(loop()) for _ in range(concurrency)]
        try:
            await asyncio.gather(*loops)
        finally:
            stopped = True
            await asyncio.gather(*loops, return_exceptions=True)


class Saq(Peer):
    name = "saq"

    async def begin(self, stack: AsyncExitStack) -> None:
        saq = importlib.import_module("saq")
        self.worker_type: Any = saq.Worker
        self.queue: Any = saq.Queue.from_url(self.url)
        await self.queue.connect()
        stack.push_async_callback(self.queue.disconnect)

    async def enqueue(self, number: int) -> None:
        await self.queue.enqueue("noop", number=number)

    async def work(self, concurrency: int) -> None:
        async def noop(context: Any, *, number: int) -> None:
            self.handled()

        worker = self.worker_type(self.queue, functions=[("noop", noop)], concurrency=concurrency)
        await _until_cancelled(worker.start(), worker.stop)


class Arq(Peer):
    name = "arq"

    async def begin(self, stack: AsyncExitStack) -> None:
        connections: Any = importlib.import_module("arq.connections")
        self.settings: Any = connections.RedisSettings.from_dsn(self.url)
        self.pool: Any = await connections.create_pool(self.settings)
        stack.push_async_callback(self.pool.aclose)

    async def enqueue(self, number: int) -> None:
        await self.pool.enqueue_job("noop", number)

    async def work(self, concurrency: int) -> None:
        arq: Any = importlib.import_module("arq.worker")

        async def noop(context: Any, number: int) -> None:
            self.handled()

        worker = arq.Worker(
            [arq.func(noop, name="noop")],
            redis_settings=self.settings,
            max_jobs=concurrency,
            poll_delay=0.05,
            handle_signals=False,
            keep_result=0,
        )
        await _until_cancelled(worker.async_run(), worker.close)


class Streaq(Peer):
    name = "streaq"

    async def begin(self, stack: AsyncExitStack) -> None:
        self.streaq: Any = importlib.import_module("streaq")
        self.producer, self.noop = self._worker()
        await stack.enter_async_context(self.producer)

    def _worker(self) -> tuple[Any, Any]:
        worker = self.streaq.Worker(redis_url=self.url, concurrency=32, handle_signals=False)

        async def noop(number: int) -> None:
            self.handled()

        return worker, worker.task(ttl=0, name="noop")(noop)

    async def enqueue(self, number: int) -> None:
        await self.noop.enqueue(number)

    async def enqueue_batch(self, count: int) -> bool:
        await self.producer.enqueue_many([self.noop.enqueue(number) for number in range(count)])
        return True

    async def work(self, concurrency: int) -> None:
        worker, _ = self._worker()
        await worker.run_async()


class Taskiq(Peer):
    name = "taskiq-redis"

    async def begin(self, stack: AsyncExitStack) -> None:
        taskiq_redis: Any = importlib.import_module("taskiq_redis")
        self.broker: Any = taskiq_redis.RedisStreamBroker(self.url, queue_name=f"bench-{uuid.uuid4().hex[:6]}")

        async def noop(number: int) -> None:
            self.handled()

        self.task: Any = self.broker.register_task(noop, "noop")
        self.broker.is_worker_process = True
        await self.broker.startup()
        stack.push_async_callback(self.broker.shutdown)

    async def enqueue(self, number: int) -> None:
        await self.task.kiq(number)

    async def clear(self) -> None:
        """Its consumer group goes with the database, and is declared again."""
        await super().clear()
        await self.broker._declare_consumer_group()

    async def work(self, concurrency: int) -> None:
        receiver_module: Any = importlib.import_module("taskiq.receiver")
        receiver = receiver_module.Receiver(
            self.broker, max_async_tasks=concurrency, run_startup=False, validate_params=False
        )
        await receiver.listen(asyncio.Event())


PEERS: tuple[type[Peer], ...] = (Ours, HandWritten, Saq, Arq, Streaq, Taskiq)


async def _until_cancelled(run: Awaitable[None], stop: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(run)
    try:
        await asyncio.shield(task)
    finally:
        await stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def available(kind: type[Peer]) -> bool:
    """Whether its library is installed."""
    modules = {"saq": "saq", "arq": "arq", "streaq": "streaq", "taskiq-redis": "taskiq_redis"}
    try:
        if kind.name in modules:
            importlib.import_module(modules[kind.name])
    except ImportError:
        return False
    for name in ("saq", "arq", "arq.worker", "streaq", "taskiq", "taskiq_redis"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return True
