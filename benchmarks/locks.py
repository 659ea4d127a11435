"""What does a lock cost, and how soon has the next one got it? Run: python -m benchmarks.locks [--quick]

Three questions. How many uncontended cycles (acquire and release) per second, for one task and for 100 tasks with a key
each: `cycle` makes the lock where it is used, `cycle of one object` made it before. How long do 10 and 100 tasks take to
have one lock in turn. How long after its release has another process got it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import multiprocessing
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from redis.asyncio import Redis

from aredis_patterns import Lock, PipelinedRedis
from benchmarks._load import median
from benchmarks._report import Contest, Outcome, Target, main

TTL = 10.0
HAND_OVERS = 60
HOLD = 0.004
"""Seconds for which each of two processes holds the lock, so that the other one waits."""

Make = Callable[[str], AbstractAsyncContextManager[Any]]
"""A lock of this key, as each library wants it to be used."""


async def makers(url: str, stack: AsyncExitStack) -> dict[str, Make]:
    """Who takes part."""
    ours = await stack.enter_async_context(PipelinedRedis.from_url(url))
    stock = await stack.enter_async_context(Redis.from_url(url))
    found: dict[str, Make] = {
        "ours": lambda key: Lock(ours, key, ttl=TTL),
        "ours, fair": lambda key: Lock(ours, key, ttl=TTL, fair=True),
        "redis-py": lambda key: stock.lock(key, timeout=TTL),
    }
    if importlib.util.find_spec("pottery"):
        import pottery

        found["pottery"] = lambda key: pottery.AIORedlock(key=key, masters={stock}, auto_release_time=TTL)
    if importlib.util.find_spec("coredis"):
        import coredis
        from coredis.patterns.lock import Lock as CoredisLock

        client: Any = await stack.enter_async_context(coredis.Redis.from_url(url))
        found["coredis"] = lambda key: CoredisLock(client, key, timeout=TTL)
    return found


async def in_turn(make: Make, tasks: int, key: str) -> float:
    """Seconds until so many tasks, that all want one lock, have had it."""

    async def turn() -> None:
        async with make(key):
            pass

    await turn()
    start = time.perf_counter()
    await asyncio.gather(*(turn() for _ in range(tasks)))
    return time.perf_counter() - start


def _alternate(url: str, name: str, hand_overs: int, begin: Any, found: Any) -> None:
    """One of two processes: wait, hold, release, at once wait again. Reports when it wanted, had and gave back."""

    async def run() -> None:
        events: list[tuple[float, float, float]] = []
        async with AsyncExitStack() as stack:
            make = (await makers(url, stack))[name]
            async with make(f"bench:warm:{time.monotonic_ns()}"):
                pass
            await asyncio.to_thread(begin.wait)
            for _ in range(hand_overs):
                wanted = time.monotonic()
                async with make("bench:between"):
                    had = time.monotonic()
                    await asyncio.sleep(HOLD)
                    gave = time.monotonic()
                events.append((wanted, had, gave))
        found.put(events)

    asyncio.run(run())


def between_processes(url: str, name: str, hand_overs: int) -> float | None:
    """Milliseconds from the release in one process to the body in another that was waiting: the median."""
    spawn = multiprocessing.get_context("spawn")
    begin, found = spawn.Barrier(2), spawn.Queue()
    children = [spawn.Process(target=_alternate, args=(url, name, hand_overs, begin, found)) for _ in range(2)]
    for child in children:
        child.start()
    turns = [(*event, number) for number in range(2) for event in found.get(timeout=60)]
    for child in children:
        child.join(10)
    turns.sort(key=lambda turn: turn[1])
    took = [
        (later[1] - earlier[2]) * 1000
        for earlier, later in itertools.pairwise(turns)
        if earlier[3] != later[3] and later[0] < earlier[2]
    ]
    return median(took) if took else None


async def messages_per_release(url: str, stock: Redis, processes: int = 5, tasks: int = 100) -> float:
    """Wake-up messages per release while several clients compete, fair: each release has somebody to wake."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(PipelinedRedis.from_url(url)) for _ in range(processes)]
        locks = [Lock(client, "bench:messages", fair=True) for client in clients]

        async def turn(number: int) -> None:
            async with locks[number % processes]:
                pass

        await asyncio.gather(*map(turn, range(tasks)))
        await stock.config_resetstat()
        await asyncio.gather(*map(turn, range(tasks)))
        stats: dict[str, Any] = await stock.info("commandstats")
        return float(stats["cmdstat_publish"]["calls"]) / tasks


async def run(url: str, stack: AsyncExitStack, contest: Contest) -> Outcome:
    contest.baseline = "redis-py"
    everybody = await makers(url, stack)
    for name, make in everybody.items():

        async def cycle(number: int, make: Make = make) -> None:
            async with make(f"bench:{number}"):
                pass

        contest.add("cycle", name, cycle, callers=(1, 100))
    for name in ("ours", "redis-py"):
        kept = {number: everybody[name](f"bench:{number}") for number in range(100)}

        async def cycle_of_one(number: int, kept: dict[int, AbstractAsyncContextManager[Any]] = kept) -> None:
            async with kept[number]:
                pass

        contest.add("cycle of one object", name, cycle_of_one, callers=(1, 100))
    await contest.measure()

    rounds = 1 if contest.quick else 3
    turns: dict[str, dict[str, float]] = {}
    for number in range(rounds):
        for tasks in (10,) if contest.quick else (10, 100):
            for name, make in everybody.items():
                if tasks == 100 and not name.startswith("ours") and (name != "redis-py" or number):
                    continue  # it takes them too long; once is enough to see how long
                took = await in_turn(make, tasks, f"bench:turn:{tasks}")
                best = turns.setdefault(f"{tasks} tasks", {})
                best[name] = min(best.get(name, took), took)
    handed = {
        name: await asyncio.to_thread(between_processes, url, name, 10 if contest.quick else HAND_OVERS)
        for name in ("ours", "ours, fair", "redis-py")
    }
    stock = await stack.enter_async_context(Redis.from_url(url))
    messages = await messages_per_release(url, stock)
    ten = turns["10 tasks"]
    return Outcome(
        [
            Target("cycles, 1 task, vs redis-py", contest.ratio("cycle", 1, "ours", "redis-py"), least=1.5),
            Target("cycles, 100 keys, vs redis-py", contest.ratio("cycle", 100, "ours", "redis-py"), least=8),
            Target(
                "one object, 1 task, vs redis-py",
                contest.ratio("cycle of one object", 1, "ours", "redis-py"),
                least=1.5,
            ),
            Target(
                "one object, 100 keys, vs redis-py",
                contest.ratio("cycle of one object", 100, "ours", "redis-py"),
                least=8,
            ),
            Target("10 tasks in turn, redis-py / ours", ten["redis-py"] / ten["ours"], least=50),
            Target("messages per release", messages, most=1.2),
        ],
        {
            "one lock in turn, ms in all": {
                what: {name: round(took * 1000, 2) for name, took in by_name.items()} for what, by_name in turns.items()
            },
            "between two processes, ms (median)": {
                name: None if value is None else round(value, 2) for name, value in handed.items()
            },
        },
    )


if __name__ == "__main__":
    sys.exit(main("locks", __doc__, run, libraries=("redis", "hiredis", "pottery", "coredis")))
