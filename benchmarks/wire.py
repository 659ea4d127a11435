"""How much does one shared, ordered lane give? Run: python -m benchmarks.wire [--quick] [--uvloop] [--check]

GET and a small limiter by EVALSHA, against redis-py as people use it, valkey-glide, coredis and bare futures.
"""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from contextlib import AsyncExitStack

from redis.asyncio import Redis

from aredis_patterns.pipelining import PipelinedRedis
from benchmarks._load import load
from benchmarks._peers import Peer, peers
from benchmarks._report import Contest, Outcome, Target, main

CALLERS = (1, 10, 100, 1000)
WORKLOADS = ("GET", "EVALSHA")
POOL = "stock, blocking pool of 50"


def callers_of(peer: str) -> tuple[int, ...]:
    """At 1000 the default pool of redis-py raises errors; a blocking pool is for many."""
    return {"stock": (1, 10, 100), POOL: (100, 1000)}.get(peer, CALLERS)


async def fairness(everybody: list[Peer], seconds: float) -> dict[str, tuple[float, float]]:
    """100 tasks on one client: the calls of the task with the fewest and the most, as a share of the mean."""
    samples = {peer.name: await load(peer.get, 100, seconds) for peer in everybody if peer.name in ("ours", POOL)}
    return {name: (round(sample.least, 3), round(sample.most, 3)) for name, sample in samples.items()}


async def memory_per_call(url: str, calls: int = 10_000) -> float:
    """Bytes that one more waiting call needs: future, entry, packed command, task and coroutine frames."""
    async with PipelinedRedis.from_url(url, max_in_flight=2 * calls) as redis, Redis.from_url(url) as other:
        await redis.get("bench:value")
        await other.client_pause(60_000, all=False)  # writes wait, UNPAUSE does not
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        tasks = [asyncio.create_task(redis.set(f"bench:{number}", 1, ex=60)) for number in range(calls)]
        await asyncio.sleep(0.3)
        used = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        await other.client_unpause()
        await asyncio.gather(*tasks)
    return used / calls


async def run(url: str, stack: AsyncExitStack, contest: Contest) -> Outcome:
    everybody = await peers(url, stack)
    for peer in everybody:
        for workload, call in zip(WORKLOADS, (peer.get, peer.evalsha), strict=True):
            contest.add(workload, peer.name, call, callers=callers_of(peer.name))
    await contest.measure()
    fair = await fairness(everybody, 0.5 if contest.quick else 1.5)
    memory = await memory_per_call(url)
    targets: list[Target] = []
    for workload in WORKLOADS:
        at = lambda callers, theirs, workload=workload: contest.ratio(workload, callers, "ours", theirs)  # noqa: E731
        cpu = contest.ratio(workload, 100, "stock", "ours", "cpu")
        targets += [
            Target(f"{workload}, 100 callers, vs stock", at(100, "stock"), least=8),
            Target(f"{workload}, 1000 callers, vs blocking pool", at(1000, POOL), least=20),
            Target(f"{workload}, 100 callers, vs valkey-glide", at(100, "valkey-glide"), least=3),
            Target(f"{workload}, 1 caller, vs stock", at(1, "stock"), least=1),
            Target(f"{workload}, 100 callers, CPU of stock / ours", cpu, least=6),
        ]
    targets += [
        Target("fairness, 100 tasks: least / mean", fair["ours"][0], least=0.5),
        Target("fairness, 100 tasks: most / mean", fair["ours"][1], most=2),
    ]
    return Outcome(targets, {"fairness (least, most)": fair, "bytes per waiting call": round(memory)})


if __name__ == "__main__":
    sys.exit(main("wire", __doc__, run, libraries=("redis", "hiredis", "valkey-glide", "coredis")))
