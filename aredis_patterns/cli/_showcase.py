"""The other half of the demo: endpoints on a cache, a lock, a queue and a leaderboard, and requests that would show it if one
of them were wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import APIRouter, Response

from aredis_patterns.hub import Patterns
from aredis_patterns.queues import Message

LOAD_SECONDS = 0.2
READERS, BUYERS, MAILS, SCORES = 60, 40, 50, 30


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report: what was sent, what must come of it, what came."""

    endpoint: str
    what: str
    expected: str
    found: str

    @property
    def exact(self) -> bool:
        return self.expected == self.found


class Showcase:
    """Four patterns behind HTTP, and what has happened to them."""

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns
        self.loads = 0
        self.mailed: Counter[int] = Counter()
        self._all_mailed = asyncio.Event()
        self._profiles = patterns.cache("profiles", ttl=60)
        self._mails = patterns.queue("mails")
        self._board = patterns.leaderboard("demo")
        self._stock_key = f"{patterns.namespace}:stock"

    def router(self) -> APIRouter:
        router = APIRouter()

        @router.get("/profile/{user}")
        async def profile(user: str) -> Any:
            """A slow query behind a cache: one load, however many ask."""
            return await self._profiles.get_or_load(user, self._load)

        @router.post("/buy")
        async def buy() -> dict[str, int]:
            """Read, think, write, under a lock: no update is lost."""
            async with self.patterns.lock("stock", ttl=10):
                sold = int(await self.patterns.client.get(self._stock_key) or 0)
                await asyncio.sleep(0.001)
                await self.patterns.client.set(self._stock_key, sold + 1, ex=600)
            return {"sold": sold + 1}

        @router.post("/mail/{number}", status_code=202)
        async def mail(number: int) -> Response:
            """Work for a worker: the answer does not wait for it."""
            await self._mails.enqueue(number)
            return Response(status_code=202)

        @router.post("/score/{user}")
        async def score(user: str, points: int) -> dict[str, int | None]:
            """A leaderboard: the answer carries the new rank."""
            update = await self._board.increment_score(user, points)
            return {"rank": update.rank}

        return router

    async def _load(self) -> dict[str, str]:
        self.loads += 1
        await asyncio.sleep(LOAD_SECONDS)
        return {"name": "Ada"}

    @asynccontextmanager
    async def worker(self) -> AsyncGenerator[None, None]:
        """A worker in this process, as `aredis-patterns worker` is one in another."""
        stop = asyncio.Event()
        work = asyncio.create_task(self._mails.process(self._send, concurrency=8, stop=stop))
        try:
            yield
        finally:
            stop.set()
            await work

    async def _send(self, message: Message[int]) -> None:
        await asyncio.sleep(0.005)
        self.mailed[message.body] += 1
        if len(self.mailed) == MAILS:
            self._all_mailed.set()

    async def check(self, client: httpx.AsyncClient) -> list[Check]:
        """Send everything at once over real sockets; returns the lines of the report."""
        async with self.worker():
            await asyncio.gather(
                _times(READERS, lambda _: client.get("/profile/ada")),
                _times(BUYERS, lambda _: client.post("/buy")),
                _times(MAILS, lambda number: client.post(f"/mail/{number}")),
                _times(SCORES, lambda number: client.post(f"/score/user-{number % 3}?points={number}")),
            )
            async with asyncio.timeout(20):
                await self._all_mailed.wait()
        sold = await self.patterns.client.get(self._stock_key)
        best = (await self._board.get_top(1))[0]
        left = await self._mails.stats()
        await self._board.clear()  # the only key here without a TTL
        handled = f"{len(self.mailed)} mails, {max(self.mailed.values())} time each, {left.ready} left"
        slow = f"{READERS} at once for a value that takes {LOAD_SECONDS} s"
        leader = f"{best.member} leads with {best.score:g}"
        return [
            Check("profile", slow, "1 load", f"{self.loads} load"),
            Check("buy", f"{BUYERS} read, think, write under a lock", f"{BUYERS} sold", f"{int(sold or 0)} sold"),
            Check("mail", f"{MAILS} to a queue, handled by a worker", f"{MAILS} mails, 1 time each, 0 left", handled),
            Check("score", f"{SCORES} increments for 3 users", "user-2 leads with 155", leader),
        ]


async def _times(count: int, request: Callable[[int], Awaitable[httpx.Response]]) -> None:
    for answer in await asyncio.gather(*(request(number) for number in range(count))):
        answer.raise_for_status()
