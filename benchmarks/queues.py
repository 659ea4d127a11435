"""Queues: how fast messages go in, are processed and are picked up, and what waiting costs.

    python -m benchmarks.queues [--quick]

Beside us: saq, arq, streaq and taskiq-redis, each with its own client as its documentation shows it, and the safe recipe
written by hand (BLMOVE into a processing list, LREM). Handlers do nothing, 32 at a time, in one process, which is also
that of the producer. Every peer has a database of its own on one server. Ratios are within a round.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import Redis

from benchmarks._load import Sample, load, median
from benchmarks._queue_peers import PEERS, Peer, available
from benchmarks._report import Contest, Outcome, Target, main

CONCURRENCY = 32
BATCH = 500
RECIPE = "BLMOVE + LREM"
MESSAGES = {"ours": 20_000, RECIPE: 2_500, "taskiq-redis": 1_200, "saq": 800, "streaq": 1_200, "arq": 300}
"""How many each one processes per round: about a second of its time."""


@dataclass
class Meter:
    """Counts what was handled."""

    count: int = 0
    expected: int = 0
    first: float = 0.0
    last: float = 0.0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def expect(self, count: int) -> None:
        self.count, self.expected, self.first = 0, count, 0.0
        self.done.clear()

    def handled(self) -> None:
        self.last = time.perf_counter()
        if not self.count:
            self.first = self.last
        self.count += 1
        if self.count >= self.expected:
            self.done.set()


@dataclass
class Rival:
    peer: Peer
    meter: Meter
    database: int
    pick_ups: list[float] = field(default_factory=list)
    idle: float | None = None
    commands: float | None = None
    """Per message, from enqueueing a batch to the last ack."""


async def run(url: str, stack: AsyncExitStack, contest: Contest) -> Outcome:
    contest.baseline = RECIPE
    rivals: list[Rival] = []
    for number, kind in enumerate(PEERS, 1):
        if available(kind):
            meter = Meter()
            peer = kind(urlunsplit(urlsplit(url)._replace(path=f"/{number}")), meter.handled)
            await peer.begin(stack)
            rivals.append(Rival(peer, meter, number))
    control = await stack.enter_async_context(Redis.from_url(url))
    for _ in range(contest.rounds):
        for rival in rivals:
            await enqueueing(rival, contest)
            await processing(rival, contest)
    for rival in rivals:
        await picking_up(rival, control)
    await idling(rivals, control, 2.0 if contest.quick else 10.0)
    return judge(rivals, contest)


def keep(contest: Contest, workload: str, callers: int, name: str, sample: Sample) -> None:
    contest.cells.setdefault((workload, callers, name), []).append(sample)


async def enqueueing(rival: Rival, contest: Contest) -> None:
    peer = rival.peer
    for callers in (1, CONCURRENCY):
        await load(peer.enqueue, callers, contest.seconds / 10)
        keep(contest, "enqueue one", callers, peer.name, await load(peer.enqueue, callers, contest.seconds / 2))
        await peer.clear()
    begin, cpu, sent = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begin < contest.seconds / 2:
        await peer.enqueue_batch(BATCH)
        sent += BATCH
    keep(contest, "enqueue 500 at once", 1, peer.name, rate(sent, time.perf_counter() - begin, cpu))
    await peer.clear()


async def processing(rival: Rival, contest: Contest) -> None:
    peer, meter = rival.peer, rival.meter
    count = MESSAGES[peer.name] // (4 if contest.quick else 1)
    for at in range(0, count, BATCH):
        await peer.enqueue_batch(min(BATCH, count - at))
    meter.expect(count)
    cpu = time.process_time()
    work = asyncio.create_task(peer.work(CONCURRENCY))
    try:
        async with asyncio.timeout(30):
            await meter.done.wait()
    finally:
        sample = rate(meter.count - 1, meter.last - meter.first, cpu)
        await end(work)
    keep(contest, "process", CONCURRENCY, peer.name, sample)
    await peer.clear()


async def end(work: asyncio.Task[None]) -> None:
    """Cancel a worker; one that does not listen is left behind."""
    work.cancel()
    await asyncio.wait({work}, timeout=5)


async def idling(rivals: list[Rival], control: Redis, seconds: float) -> None:
    """What idle workers say to the server, all of them at the same time."""
    works = [asyncio.create_task(rival.peer.work(CONCURRENCY)) for rival in rivals]
    for rival in rivals:
        rival.meter.expect(1)
        await rival.peer.enqueue(0)
        await rival.meter.done.wait()
    await asyncio.sleep(1)
    async with Overheard(control) as heard:
        await asyncio.sleep(seconds)
        for rival in rivals:
            rival.idle = heard.by_database.get(rival.database, 0) / seconds
    for rival, work in zip(rivals, works, strict=True):
        await end(work)
        await rival.peer.clear()


async def picking_up(rival: Rival, control: Redis) -> None:
    """How long a message waits for an idle worker, and what a batch costs from one end to the other."""
    peer, meter = rival.peer, rival.meter
    work = asyncio.create_task(peer.work(CONCURRENCY))
    meter.expect(1)
    await peer.enqueue(0)
    await meter.done.wait()
    await asyncio.sleep(0.7)
    for _ in range(40):
        meter.expect(1)
        begin = time.perf_counter()
        await peer.enqueue(0)
        await meter.done.wait()
        rival.pick_ups.append((meter.last - begin) * 1e3)
        await asyncio.sleep(0.01)
    async with Overheard(control) as heard:
        meter.expect(BATCH)
        await peer.enqueue_batch(BATCH)
        await meter.done.wait()
        await asyncio.sleep(0.1)
        rival.commands = heard.by_database.get(rival.database, 0) / BATCH
    await end(work)
    await peer.clear()


class Overheard:
    """Commands that clients send, as MONITOR shows them; what scripts do inside does not count."""

    def __init__(self, control: Redis) -> None:
        self.by_database: Counter[int] = Counter()
        self._control = control

    async def __aenter__(self) -> Overheard:
        self._stack = AsyncExitStack()
        self._monitor = await self._stack.enter_async_context(self._control.monitor())
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._stack.aclose()

    async def _listen(self) -> None:
        async for heard in self._monitor.listen():
            if heard["client_type"] != "lua":
                self.by_database[int(heard["db"])] += 1


def rate(count: int, seconds: float, cpu: float) -> Sample:
    spent = time.process_time() - cpu
    return Sample(count / seconds if seconds > 0 else 0.0, spent / max(1, count) * 1e6, 0, 0, 1, 1, 0)


def judge(rivals: list[Rival], contest: Contest) -> Outcome:
    others = [rival.peer.name for rival in rivals if rival.peer.name != "ours"]
    libraries = [name for name in others if name != RECIPE]
    ours = next(rival for rival in rivals if rival.peer.name == "ours")
    pick_up = {rival.peer.name: median(rival.pick_ups) for rival in rivals}
    best = min((value for name, value in pick_up.items() if name != "ours"), default=None)
    best_library = min((pick_up[name] for name in libraries), default=None)
    return Outcome(
        [
            Target("process, against the recipe", contest.ratio("process", CONCURRENCY, "ours", RECIPE), least=3),
            Target("process, against saq", contest.ratio("process", CONCURRENCY, "ours", "saq"), least=8),
            Target(
                "enqueue one, 32 callers, best library",
                contest.ratio_to_best("enqueue one", CONCURRENCY, "ours", libraries),
                least=4,
            ),
            Target(
                "enqueue one, 32 callers, best of all",
                contest.ratio_to_best("enqueue one", CONCURRENCY, "ours", others),
                least=4,
            ),
            Target(
                "enqueue 500, best library",
                contest.ratio_to_best("enqueue 500 at once", 1, "ours", libraries),
                least=10,
            ),
            Target("commands per message, in and out", ours.commands, most=2),
            Target("idle commands per second", ours.idle, most=0.5),
            Target("pick-up when idle, p50, best library", best_library and pick_up["ours"] / best_library, most=1),
            Target("pick-up when idle, p50, best of all", best and pick_up["ours"] / best, most=1),
        ],
        {
            "pick-up when idle, p50 in ms": {name: round(value, 2) for name, value in pick_up.items()},
            "idle commands per second": {rival.peer.name: round(rival.idle or 0, 2) for rival in rivals},
            "commands per message, from enqueue to ack": {
                rival.peer.name: round(rival.commands or 0, 2) for rival in rivals
            },
        },
    )


if __name__ == "__main__":
    libraries = ("redis", "hiredis", "saq", "arq", "streaq", "coredis", "taskiq-redis", "taskiq")
    sys.exit(main("queues", __doc__, run, libraries=libraries))
