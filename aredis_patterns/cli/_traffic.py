"""Real traffic for the demo: several users, bursts, costs, a slow endpoint, clients that hang up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field

import httpx
from fastapi import FastAPI

USERS = ("user-1", "user-2", "user-3")


@dataclass(slots=True)
class Line:
    """One line of the report: what one user sent to one endpoint, and what must come of it."""

    user: str
    endpoint: str
    what: str
    expected: int
    """Requests that the limit allows."""
    left: int
    """Units that must remain afterwards, by the limiter's own word."""
    sent: int = 0
    allowed: int = 0
    refused: int = 0
    hung_up: int = 0
    remaining: int = -1
    latencies: list[float] = field(default_factory=list[float])

    @property
    def exact(self) -> bool:
        """Whether the numbers are what the limit says, to the unit."""
        return self.allowed == self.expected and self.remaining == self.left and self.settled == self.sent

    @property
    def settled(self) -> int:
        return self.allowed + self.refused + self.hung_up


async def send_traffic(client: httpx.AsyncClient, app: FastAPI) -> list[Line]:
    """Everything at once, over real sockets; returns the lines of the report."""
    lines: list[Line] = []
    async with asyncio.TaskGroup() as group:
        for user in USERS:
            for work in (_burst(client, user), _search(client, user), _costs(client, user)):
                group.create_task(_collect(lines, app, work))
        group.create_task(_collect(lines, app, _hang_up(client, app, USERS[0])))
    return sorted(lines, key=lambda line: (line.endpoint, line.user))


async def _collect(lines: list[Line], app: FastAPI, work: Awaitable[Line]) -> None:
    line = await work
    line.remaining = (await app.state.limiters[line.endpoint].peek(line.user)).remaining
    lines.append(line)


async def _burst(client: httpx.AsyncClient, user: str) -> Line:
    line = Line(user, "hello", "12 at once, limit 5 an hour", expected=5, left=0)
    await asyncio.gather(*(_get(client, line, "/hello") for _ in range(12)))
    return line


async def _search(client: httpx.AsyncClient, user: str) -> Line:
    line = Line(user, "search", "3 bursts of 4, limit 8 in any hour", expected=8, left=0)
    for _ in range(3):
        await asyncio.gather(*(_get(client, line, "/search") for _ in range(4)))
    return line


async def _costs(client: httpx.AsyncClient, user: str) -> Line:
    line = Line(user, "api", "6 that cost 3, then 2 that cost 1; a bucket of 10 tokens", expected=4, left=0)
    await asyncio.gather(*(_get(client, line, "/api?cost=3") for _ in range(6)))
    await asyncio.gather(*(_get(client, line, "/api?cost=1") for _ in range(2)))
    return line


async def _hang_up(client: httpx.AsyncClient, app: FastAPI, user: str) -> Line:
    line = Line(user, "slow", "4 hang up half way and are charged, then 5; limit 6 an hour", expected=2, left=0)
    app.state.slow_released.clear()  # however busy the machine is, nobody is answered before hanging up
    leaving = [asyncio.create_task(_get(client, line, "/slow")) for _ in range(4)]
    for _ in leaving:
        await app.state.slow_started.acquire()  # the server is working on it
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    app.state.slow_released.set()
    await asyncio.gather(*(_get(client, line, "/slow") for _ in range(5)))
    return line


async def _get(client: httpx.AsyncClient, line: Line, path: str) -> None:
    line.sent += 1
    start = time.perf_counter()
    try:
        answer = await client.get(path, headers={"x-user": line.user})
    except asyncio.CancelledError:
        line.hung_up += 1
        raise
    line.latencies.append(time.perf_counter() - start)
    if answer.status_code == 200:
        line.allowed += 1
    elif answer.status_code == 429 and int(answer.headers["retry-after"]) > 0:
        line.refused += 1
