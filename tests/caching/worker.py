"""One process of the multi-process tests. Run by `test_processes.py`: python worker.py <what> <json options>."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from typing import Any

from redis.asyncio import Redis

from aredis_patterns.caching import Cache, NearCache


async def ready(source: Redis, name: str) -> None:
    """Tell the test, and wait for the others."""
    await source.rpush(f"{name}:ready", os.getpid())
    while not await source.exists(f"{name}:go"):
        await asyncio.sleep(0.01)


async def herd(cache: Cache[Any], source: Redis, options: dict[str, Any]) -> dict[str, Any]:
    """Many callers on one cold key."""
    name = options["namespace"]

    async def load() -> str:
        await source.rpush(f"{name}:loads", os.getpid())
        await asyncio.sleep(options["seconds"])
        return "value"

    await ready(source, name)
    values = await asyncio.gather(*(cache.get_or_load("cold", load) for _ in range(options["callers"])))
    return {"values": values.count("value")}


async def race(cache: Cache[Any], source: Redis, options: dict[str, Any]) -> dict[str, Any]:
    """Readers that look for a value older than the last invalidation that had finished when they asked."""
    name, until = options["namespace"], time.monotonic() + options["seconds"]
    reads, stale = 0, []

    async def reader(number: int) -> None:
        nonlocal reads
        key = str(number % options["keys"])

        async def load() -> int:
            row = int(await source.get(f"{name}:row:{key}") or 0)
            await asyncio.sleep(random.choice((0, 0, 0.001, 0.005, 0.02)))
            return row

        while time.monotonic() < until:
            floor = int(await source.get(f"{name}:floor:{key}") or 0)
            value = await cache.get_or_load(key, load, tags=[f"tag:{key}"] if number % 2 else [])
            reads += 1
            if value < floor:
                stale.append([key, value, floor])
            await asyncio.sleep(random.choice((0, 0, 0.001)))

    await ready(source, name)
    await asyncio.gather(*(reader(number) for number in range(options["callers"])))
    return {"reads": reads, "stale": stale[:5], "statistics": repr(cache.statistics())}


async def near(cache: Cache[Any], source: Redis, options: dict[str, Any]) -> dict[str, Any]:
    """A reader with a near cache: the most by which a read lagged behind a finished write."""
    name, until = options["namespace"], time.monotonic() + options["seconds"]
    worst, reads = 0.0, 0
    await ready(source, name)
    while time.monotonic() < until:
        value = await cache.get("k")
        reads += 1
        newest, written = (await source.get(f"{name}:written")).split()
        if value and value["n"] < int(newest):
            worst = max(worst, time.time() - float(written))
        if reads % 20 == 0:
            await asyncio.sleep(0)
    return {"reads": reads, "worst": worst, "near": cache.statistics().near_hits}


async def main() -> None:
    what, options = sys.argv[1], json.loads(sys.argv[2])
    local = NearCache(ttl_cap=options["cap"], heartbeat=0.2) if what == "near" else None
    async with Redis.from_url(options["url"]) as client, Redis.from_url(options["url"]) as source:
        cache: Cache[Any] = Cache(
            client, "c", ttl=60, namespace=options["namespace"], near=local, lease=options["lease"], deadline=5
        )
        async with cache:
            result = await {"herd": herd, "race": race, "near": near}[what](cache, source, options)
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main())
