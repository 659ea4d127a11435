"""Several processes take one lock, are killed and paused beyond its ttl, and nothing is lost that a fence accepted.

The counter is a plain GET, a pause, and a SET that carries the fencing token. The server refuses a token smaller than one
it has seen; so a holder that was paused and goes on after it lost its lock is refused, as it must be.

AREDIS_PATTERNS_LONG=1 makes it ten times as long.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import PipelinedRedis
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import LockError
from aredis_patterns.locks import Lock

TTL = 0.5
PROCESSES = 3
TASKS = 3
SECONDS = 50.0 if os.environ.get("AREDIS_PATTERNS_LONG") else 4.0

ACCEPT = """
local newest = tonumber(redis.call('GET', KEYS[2]) or 0)
local token = tonumber(ARGV[2])
if token < newest then
  redis.call('INCR', KEYS[4])
  return 0
end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('SET', KEYS[1], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[1] .. ':' .. ARGV[2])
return 1
"""
"""The resource: KEYS value, newest, log of accepted writes, count of refused ones; ARGV value, token."""

KEYS = ("torture:value", "torture:newest", "torture:log", "torture:refused")


def _work(url: str, fair: bool, seconds: float, seed: int) -> None:
    """One process: its tasks increment the counter under the lock until the time is over."""

    async def task(client: Redis, chance: random.Random, until: float) -> None:
        while time.monotonic() < until:
            with contextlib.suppress(LockError):
                async with Lock(client, "torture", ttl=TTL, fair=fair) as lease:
                    value = int(await client.get(KEYS[0]) or 0)
                    await asyncio.sleep(chance.uniform(0, 0.004))
                    await client.eval(ACCEPT, 4, *KEYS, value + 1, lease.fencing_token)

    async def run() -> None:
        chance, until = random.Random(seed), time.monotonic() + seconds
        async with PipelinedRedis.from_url(url) as client:
            await asyncio.gather(*(task(client, chance, until) for _ in range(TASKS)))

    asyncio.run(run())


async def _torment(url: str, fair: bool, client: Redis) -> tuple[float, float]:
    """Run, kill and pause for so long, and until each has happened. Returns the longest time without an accepted write,
    and by how much this machine delays us ourselves."""
    spawn, chance = multiprocessing.get_context("spawn"), random.Random(7)
    until = time.monotonic() + SECONDS
    seeds = iter(range(1000))

    def start() -> Any:
        child = spawn.Process(target=_work, args=(url, fair, 10 * SECONDS, next(seeds)), daemon=True)
        child.start()
        return child

    children = [start() for _ in range(PROCESSES)]
    killed = paused = seen = 0
    lag, longest, last, strike = 0.0, 0.0, time.monotonic(), time.monotonic() + 1
    try:
        while not await client.llen(KEYS[2]):
            await asyncio.sleep(0.02)
        last = time.monotonic()
        while time.monotonic() < until or min(killed, paused) < 1 or seen < 40:
            before = time.monotonic()
            await asyncio.sleep(0.02)
            written, now = await client.llen(KEYS[2]), time.monotonic()
            lag = max(lag, now - before - 0.02)
            longest = max(longest, now - last)
            if written != seen:
                seen, last = written, now
            if now < strike:
                continue
            strike = now + 0.6
            victim = chance.randrange(PROCESSES)
            child = children[victim]
            if not child.is_alive() or child.pid is None:
                children[victim] = start()
            elif killed <= paused:
                killed += 1
                os.kill(child.pid, signal.SIGKILL)
                children[victim] = start()
            else:
                paused += 1
                os.kill(child.pid, signal.SIGSTOP)
                asyncio.get_running_loop().call_later(TTL * 1.6, _go_on, child.pid)
        return longest, lag
    finally:
        for child in children:
            if child.pid is not None:
                _go_on(child.pid)
        await asyncio.sleep(TTL)
        for child in children:
            child.kill()
            child.join(10)


def _go_on(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(SECONDS * 2 + 60)
async def test_no_accepted_write_is_lost_while_holders_die_and_freeze(
    own_server: EmbeddedServer, own_client: Redis, fair: bool
) -> None:
    longest, lag = await _torment(own_server.url, fair, own_client)
    log = [tuple(map(int, entry.split(b":"))) for entry in await own_client.lrange(KEYS[2], 0, -1)]
    values, fences = [value for value, _ in log], [fence for _, fence in log]
    assert values == list(range(1, len(values) + 1)), "an update was lost"
    assert fences == sorted(set(fences)), "a fence came twice, or fell"
    # A machine that is busy with other things delays all processes; how much, we see in ourselves.
    assert longest < 2 * TTL + 1 + 10 * lag, f"no progress for {longest:.2f} s"
