"""Real processes: one load for all, a leader that is killed, and a race of updates against readers.

AREDIS_PATTERNS_LONG=1 makes the race a minute long.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.caching import MISSING, Cache

LONG = bool(os.environ.get("AREDIS_PATTERNS_LONG"))
WORKER = Path(__file__).with_name("worker.py")

Start = Callable[..., Any]


@pytest.fixture
async def start(redis_url: str, namespace: str, redis_client: Redis) -> AsyncGenerator[Start, None]:
    """Start processes; they begin together when all are there. Nothing is left running."""
    running: list[asyncio.subprocess.Process] = []

    @asynccontextmanager
    async def begin(what: str, count: int, **options: Any) -> AsyncGenerator[list[asyncio.subprocess.Process], None]:
        options = {"url": redis_url, "namespace": namespace, "lease": 5.0, **options}
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(WORKER), what, json.dumps(options), stdout=asyncio.subprocess.PIPE
            )
            running.append(process)
        async with asyncio.timeout(30):
            while await redis_client.llen(f"{namespace}:ready") < count:
                await asyncio.sleep(0.02)
        await redis_client.set(f"{namespace}:go", 1)
        yield running

    yield begin
    for process in running:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()


async def results(processes: list[asyncio.subprocess.Process], within: float) -> list[dict[str, Any]]:
    async with asyncio.timeout(within):
        outputs = await asyncio.gather(*(process.communicate() for process in processes))
    return [json.loads(out) for out, _ in outputs if out]


async def test_four_processes_with_200_callers_each_load_once(
    start: Start, redis_client: Redis, namespace: str
) -> None:
    async with start("herd", 4, callers=200, seconds=1.0) as processes:
        answers = await results(processes, 20)
    assert [answer["values"] for answer in answers] == [200] * 4
    assert await redis_client.llen(f"{namespace}:loads") == 1


async def test_a_killed_leader_is_replaced_once(start: Start, redis_client: Redis, namespace: str) -> None:
    async with start("herd", 4, callers=200, seconds=1.0, lease=1.0) as processes:
        while not (loads := await redis_client.lrange(f"{namespace}:loads", 0, -1)):
            await asyncio.sleep(0.02)
        os.kill(int(loads[0]), signal.SIGKILL)
        killed = time.monotonic()
        answers = await results(processes, 20)
        # A lease, the load, and what starting and ending four interpreters costs on a busy machine.
        assert time.monotonic() - killed < 1.0 + 1.0 + 8.0
    assert [answer["values"] for answer in answers] == [200] * 3
    assert await redis_client.llen(f"{namespace}:loads") == 2


@pytest.mark.timeout(120)
async def test_no_read_is_older_than_the_last_finished_invalidation(
    start: Start, redis_client: Redis, namespace: str
) -> None:
    seconds = 60.0 if LONG else 2.5
    keys = 4
    cache: Cache[Any] = Cache(redis_client, "c", ttl=60, namespace=namespace, deadline=5)

    async def update(key: str, version: int) -> None:
        """Write the source, tell the cache in one of its ways, and only then call it finished."""
        way = random.choice(("invalidate", "write", "abort", "tag", "clear", "set", "delete"))
        row = f"{namespace}:row:{key}"
        if way in ("write", "abort"):
            async with cache.write(key) as write:
                await redis_client.set(row, version)
                if way == "write":
                    write.set(version, tags=[f"tag:{key}"])
        else:
            await redis_client.set(row, version)
            if way == "invalidate":
                await cache.invalidate(key)
            elif way == "tag":
                await cache.invalidate_tags(f"tag:{key}")
                await cache.invalidate(key)  # half of the entries bear no tag
            elif way == "clear":
                await cache.clear()
            elif way == "set":
                await cache.set(key, version)
            else:
                await cache.delete(key)
        await redis_client.set(f"{namespace}:floor:{key}", version)

    async def updater(key: str, until: float) -> int:
        version = 0
        while time.monotonic() < until:
            version += 1
            await update(key, version)
            await asyncio.sleep(random.choice((0, 0.002, 0.02)))
        return version

    async with start("race", 3, callers=16, seconds=seconds, keys=keys) as processes:
        until = time.monotonic() + seconds
        versions = await asyncio.gather(*(updater(str(key), until) for key in range(keys)))
        answers = await results(processes, seconds + 20)
    assert min(versions) > 20
    assert sum(answer["reads"] for answer in answers) > 500
    assert [answer["stale"] for answer in answers] == [[], [], []], answers


async def test_near_caches_of_two_processes_never_lag_beyond_the_cap(
    start: Start, redis_client: Redis, namespace: str
) -> None:
    """Foreign writes, expiry, a flush of the keys and killed tracking connections, while two processes read."""
    seconds, cap = (20.0 if LONG else 2.0), 0.5
    cache: Cache[Any] = Cache(redis_client, "c", ttl=60, namespace=namespace, deadline=5)
    await redis_client.set(f"{namespace}:written", "0 0")
    async with start("near", 2, seconds=seconds, cap=cap) as processes:
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            number += 1
            what = number % 5
            if what == 0:
                await redis_client.set(cache._keys.of("k").value, json.dumps({"n": number}))
            elif what == 1:
                await cache.set("k", {"n": number}, ttl=0.02)
            elif what == 2:
                await cache.clear()
            else:
                await cache.set("k", {"n": number})
            if number % 40 == 0:
                for row in await redis_client.client_list():
                    if "t" in row["flags"]:
                        with contextlib.suppress(Exception):
                            await redis_client.client_kill_filter(_id=row["id"])
            await redis_client.set(f"{namespace}:written", f"{number} {time.time()}")
            await asyncio.sleep(0.02)
        answers = await results(processes, seconds + 20)
    for answer in answers:
        assert answer["near"] > 100, answers
        assert answer["worst"] < cap, answers


async def test_racing_writers_leave_the_newest_value_or_none(
    redis_client: Redis, other_client: Redis, namespace: str
) -> None:
    """Brackets that overlap, end in either order, fail, or are cancelled."""
    caches = [
        Cache[Any](client, "c", ttl=60, namespace=namespace, deadline=5) for client in (redis_client, other_client)
    ]
    row = 0

    async def write(number: int) -> None:
        nonlocal row
        try:
            async with asyncio.timeout(random.choice((0.004, 10))), random.choice(caches).write("k") as bracket:
                await asyncio.sleep(random.choice((0, 0.001, 0.005)))
                mine = row = row + 1
                await asyncio.sleep(random.choice((0, 0.001, 0.005)))
                if number % 7 == 0:
                    raise ValueError("rolled back too late")
                bracket.set(mine)
        except (ValueError, TimeoutError):
            pass

    for _ in range(30):
        await asyncio.gather(*(write(number) for number in range(random.choice((1, 2, 3)))))
        for cache in caches:
            assert await cache.get("k") in (MISSING, row)
    for cache in caches:
        await cache.aclose()
