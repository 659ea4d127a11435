"""What does a cache hit cost, and a cold load? Run: python -m benchmarks.caching [--quick] [--check]

Hits of a row of 1 kB in JSON: all callers on one key (identical reads of one process may share a round trip), and each on
one of 1000 keys. Then one cold key whose loader takes 300 ms, asked for by 50 callers in each of 3 processes: the commands
that went over the wire, counted by a proxy, and the runs of the loader.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from typing import Any

from aredis_patterns.testing import FaultProxy
from benchmarks._caches import PEERS, ROW, Get, Load, ours, ours_near, ours_typed
from benchmarks._report import Contest, Outcome, Target, main

KEYS = 1000
PROCESSES, CALLERS, SECONDS = 3, 50, 0.3


async def run(url: str, stack: AsyncExitStack, contest: Contest) -> Outcome:
    async def load() -> dict[str, Any]:
        return ROW

    contest.baseline = "GET + json by hand"
    everybody = {"ours": ours, "ours, typed": ours_typed, **PEERS}
    for name, make in everybody.items():
        get = await warmed(make, url, stack, load)
        contest.add("one key", name, lambda number, get=get: get("0"))
        contest.add("1000 keys", name, lambda number, get=get: get(str(number % KEYS)), callers=(100, 1000))
    near = await warmed(ours_near, url, stack, load)
    await asyncio.sleep(0.1)
    contest.add("one key", "ours, near", lambda number: near("0"))
    await contest.measure()

    peers = list(PEERS)
    targets = [
        Target(
            f"{workload}, {callers} callers, ours, typed / best peer",
            best(contest, workload, callers, peers),
            least=least,
        )
        for workload, callers, least in (
            ("one key", 1, 1.3),
            ("one key", 100, 6.0),
            ("one key", 1000, 3.0),
            ("1000 keys", 100, 6.0),
            ("1000 keys", 1000, 3.0),
        )
    ]
    value = contest.ratio_to_best("one key", 1, "ours, near", peers)
    targets.append(Target("one key, 1 caller, near / best peer", value, least=100))
    loads = {name: await cold_load(name, url) for name in ("ours", *PEERS)}
    targets.append(Target("cold load: commands of ours", loads["ours"]["commands"], most=12))
    targets.append(Target("cold load: runs of our loader", loads["ours"]["loads"], most=1))
    return Outcome(targets, {"cold load, 3 processes of 50 callers, loader 0.3 s": loads})


def best(contest: Contest, workload: str, callers: int, peers: list[str]) -> float | None:
    return contest.ratio_to_best(workload, callers, "ours, typed", peers)


async def warmed(make: Any, url: str, stack: AsyncExitStack, load: Load) -> Get:
    get: Get = await make(url, stack, load)
    for start in range(0, KEYS, 50):
        await asyncio.gather(*(get(str(number)) for number in range(start, start + 50)))
    return get


async def cold_load(name: str, url: str) -> dict[str, int]:
    """The commands and the loads of one cold key."""
    async with FaultProxy(url) as proxy:
        processes = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks._caches", name, proxy.url, str(CALLERS), str(SECONDS)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(PROCESSES)
        ]
        try:
            for process in processes:
                assert process.stdout is not None
                assert await process.stdout.readline() == b"ready\n"
            async with proxy.count() as counted:
                answers = await asyncio.gather(*(told(process) for process in processes))
            return {"commands": counted.commands, "loads": sum(answer["loads"] for answer in answers)}
        finally:
            for process in processes:
                await process.communicate(b"\n")


async def told(process: asyncio.subprocess.Process) -> dict[str, int]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"go\n")
    answer: dict[str, int] = json.loads(await process.stdout.readline())
    return answer


if __name__ == "__main__":
    sys.exit(
        main(
            "caching", __doc__, run, libraries=("redis", "hiredis", "msgspec", "cashews", "aiocache", "fastapi-cache2")
        )
    )
