"""How many decisions per second? Run: python -m benchmarks.ratelimit [--quick] [--uvloop] [--check]

Many keys that admit and one hot key that refuses, in one process, against `limits`, `throttled-py`, `pyrate-limiter` and a
hand-written EVALSHA on stock redis-py. Everybody may keep 50 connections or more. Then end to end: FastAPI behind uvicorn, with
and without the dependency, over kept HTTP connections.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack

from benchmarks import _limiters as limiters
from benchmarks._http import getter, service
from benchmarks._report import Contest, Outcome, Target, main

MANY, HOT, HTTP = "many keys", "one hot refused key", "FastAPI"
PEERS = ("EVALSHA by hand", "EVALSHA, blocking pool", "limits", "throttled-py", "pyrate-limiter")
KEYS = [f"user:{number}" for number in range(1000)]


async def run(url: str, stack: AsyncExitStack, contest: Contest) -> Outcome:
    contest.baseline = "EVALSHA by hand"
    everybody = [
        peer
        for make in (limiters.ours, limiters.hand_written, limiters.limits, limiters.throttled, limiters.pyrate)
        for peer in await make(url, stack)
    ]
    for peer in everybody:
        if peer.name != "ours, deny cache":
            contest.add(MANY, peer.name, lambda n, hit=peer.ample: hit(KEYS[n]), callers=peer.callers)
        await peer.scarce("hot")
        contest.add(HOT, peer.name, lambda n, hit=peer.scarce: hit("hot"), callers=peer.callers)
    port = await service("benchmarks._limited_app", url, stack)
    for name, path in (("without a limiter", "/plain"), ("ours", "/limited")):
        contest.add(HTTP, name, await getter(port, path, 64, stack), callers=(64,))
    await contest.measure()

    def best(workload: str, callers: int, mine: str = "ours") -> float | None:
        return contest.ratio_to_best(workload, callers, mine, PEERS)

    targets = [
        Target(f"{MANY}, {callers} callers, vs the best peer", best(MANY, callers), least=least)
        for callers, least in ((1, 1.3), (100, 8), (1000, 12))
    ]
    targets += [
        Target(
            f"{HOT}, {callers} callers, deny cache vs the best peer", best(HOT, callers, "ours, deny cache"), least=100
        )
        for callers in (1, 100, 1000)
    ]
    kept = contest.ratio(HTTP, 64, "ours", "without a limiter")
    targets.append(Target("FastAPI + uvicorn, 64 connections, with the dependency / without", kept, least=0.8))
    return Outcome(targets)


if __name__ == "__main__":
    libraries = ("redis", "hiredis", "limits", "throttled-py", "pyrate-limiter")
    sys.exit(main("ratelimit", __doc__, run, libraries=libraries))
