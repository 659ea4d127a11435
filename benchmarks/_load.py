"""Load and measurement: callers in a loop for a bounded time, and what came out."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

Call = Callable[[int], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One peer, one workload, one number of callers, one round."""

    ops: float
    """Calls per second."""
    cpu: float
    """Microseconds of CPU of this process per call."""
    p50: float
    p99: float
    """Latency in milliseconds."""
    least: float
    most: float
    """Calls of the task with the fewest and with the most, as a share of the mean."""
    errors: int

    def as_dict(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


async def load(call: Call, callers: int, seconds: float) -> Sample:
    """`callers` tasks call in a loop for `seconds`. The clock is read once per call, by everybody alike."""
    counts = [0] * callers
    latencies: list[float] = []
    errors = 0
    clock = time.perf_counter
    start = clock()
    stop = start + seconds

    async def caller(number: int) -> None:
        nonlocal errors
        now = start
        while now < stop:
            try:
                await call(number)
            except Exception:
                errors += 1
            before, now = now, clock()
            counts[number] += 1
            latencies.append(now - before)

    cpu = time.process_time()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    elapsed = clock() - start
    cpu = time.process_time() - cpu
    total = max(1, sum(counts))
    latencies.sort()
    mean = total / callers
    return Sample(
        ops=(total - errors) / elapsed,
        cpu=cpu / total * 1e6,
        p50=latencies[len(latencies) // 2] * 1e3,
        p99=latencies[int(len(latencies) * 0.99)] * 1e3,
        least=min(counts) / mean,
        most=max(counts) / mean,
        errors=errors,
    )


def median(values: list[float]) -> float:
    """The middle value; what a noisy machine does to one round hardly moves it."""
    return statistics.median(values)
