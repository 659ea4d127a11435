"""Queues of one test each, and what is left of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol

import pytest
from redis.asyncio import Redis

from aredis_patterns.queues import ReliableQueue


class MakeQueue(Protocol):
    """A queue on a client, closed after the test."""

    def __call__(self, name: str = "jobs", *, client: Redis | None = None, **options: Any) -> ReliableQueue[Any]: ...


@pytest.fixture
async def make_queue(redis_client: Redis, namespace: str) -> AsyncGenerator[MakeQueue, None]:
    """Queues on the server of the suite."""
    made: list[ReliableQueue[Any]] = []

    def make(name: str = "jobs", *, client: Redis | None = None, **options: Any) -> ReliableQueue[Any]:
        options.setdefault("namespace", namespace)
        options.setdefault("lease", 10)
        queue: ReliableQueue[Any] = ReliableQueue(client or redis_client, name, **options)
        made.append(queue)
        return queue

    yield make
    for queue in made:
        await queue.aclose()


@pytest.fixture
async def queue(make_queue: MakeQueue) -> ReliableQueue[Any]:
    """A queue with a lease of ten seconds."""
    return make_queue()


async def eventually(condition: Callable[[], Awaitable[object]], *, within: float = 10.0) -> None:
    """Wait for what another process or the server does: nothing in this process tells when."""
    async with asyncio.timeout(within):
        while not await condition():
            await asyncio.sleep(0.01)
