"""How much does one shared, ordered lane give? Run: python -m benchmarks.wire [--quick] [--uvloop] [--check]

Every round asks every peer the same, one after the other, so that a machine whose speed drifts hits all alike. What counts
is the ratio within a round; the table shows the medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sys
import tracemalloc
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.pipelining import PipelinedRedis
from benchmarks._load import Sample, load, median
from benchmarks._peers import Peer, peers

CALLERS = (1, 10, 100, 1000)
WORKLOADS = ("GET", "EVALSHA")
RESULTS = Path(__file__).parent / "results"
Cells = dict[tuple[str, str, int], list[Sample]]


def baseline(callers: int) -> str:
    """What people would use there: at 1000 the default pool of redis-py raises errors."""
    return "stock" if callers < 1000 else "stock, blocking pool of 50"


def takes_part(peer: str, callers: int) -> bool:
    if peer == "stock":
        return callers < 1000
    return peer != "stock, blocking pool of 50" or callers >= 100


async def measure(url: str, rounds: int, seconds: float, console: Console) -> Cells:
    """Ask every peer in turn, round by round."""
    cells: Cells = {}
    async with AsyncExitStack() as stack:
        everybody = await peers(url, stack)
        plan: list[tuple[Peer, str, int]] = [
            (peer, workload, callers)
            for _ in range(rounds)
            for workload in WORKLOADS
            for callers in CALLERS
            for peer in everybody
            if takes_part(peer.name, callers)
        ]
        columns = (TextColumn("{task.description:<44}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=len(plan))
            for peer, workload, callers in plan:
                progress.update(task, description=f"{workload} {callers} callers: {peer.name}")
                call = peer.get if workload == "GET" else peer.evalsha
                await load(call, callers, seconds / 10)
                cells.setdefault((peer.name, workload, callers), []).append(await load(call, callers, seconds))
                progress.advance(task)
    return cells


def ratio(cells: Cells, mine: str, theirs: str, workload: str, callers: int, field: str = "ops") -> float | None:
    """The median over the rounds of mine / theirs."""
    left, right = cells.get((mine, workload, callers)), cells.get((theirs, workload, callers))
    if not left or not right:
        return None
    return median(
        [getattr(a, field) / getattr(b, field) for a, b in zip(left, right, strict=True) if getattr(b, field)]
    )


async def fairness(url: str, seconds: float) -> dict[str, tuple[float, float]]:
    """100 tasks on one client: the calls of the task with the fewest and the most, as a share of the mean."""
    async with AsyncExitStack() as stack:
        found: dict[str, tuple[float, float]] = {}
        for peer in await peers(url, stack):
            if peer.name in ("ours", "stock, blocking pool of 50"):
                sample = await load(peer.get, 100, seconds)
                found[peer.name] = (sample.least, sample.most)
        return found


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


def targets(cells: Cells, fair: dict[str, tuple[float, float]]) -> list[tuple[str, str, float | None, bool]]:
    """What was promised, what was measured, and whether it holds here."""
    rows: list[tuple[str, str, float | None, bool]] = []

    def at_least(what: str, value: float | None, least: float) -> None:
        rows.append((what, f"at least {least:g}x", value, value is not None and value >= least))

    for workload in WORKLOADS:
        at_least(f"{workload}, 100 callers, vs stock", ratio(cells, "ours", "stock", workload, 100), 8)
    for workload in WORKLOADS:
        theirs = baseline(1000)
        at_least(f"{workload}, 1000 callers, vs blocking pool", ratio(cells, "ours", theirs, workload, 1000), 20)
    for workload in WORKLOADS:
        at_least(f"{workload}, 100 callers, vs valkey-glide", ratio(cells, "ours", "valkey-glide", workload, 100), 3)
    for workload in WORKLOADS:
        at_least(f"{workload}, 1 caller, vs stock", ratio(cells, "ours", "stock", workload, 1), 1)
    for workload in WORKLOADS:
        cpu = ratio(cells, "stock", "ours", workload, 100, "cpu")
        at_least(f"{workload}, 100 callers, CPU of stock / ours", cpu, 6)
    least, most = fair["ours"]
    rows.append(("fairness, 100 tasks: least / mean", "at least 0.5", least, least >= 0.5))
    rows.append(("fairness, 100 tasks: most / mean", "at most 2", most, most <= 2))
    return rows


def show(cells: Cells, console: Console) -> None:
    for workload in WORKLOADS:
        table = Table(title=f"{workload}: calls per second (ratio to stock; CPU us per call)")
        table.add_column("client")
        for callers in CALLERS:
            table.add_column(f"{callers} callers", justify="right")
        for name in dict.fromkeys(key[0] for key in cells):
            row = [name]
            for callers in CALLERS:
                samples = cells.get((name, workload, callers))
                if not samples:
                    row.append("-")
                    continue
                against = ratio(cells, name, baseline(callers), workload, callers)
                ops, cpu = median([s.ops for s in samples]), median([s.cpu for s in samples])
                errors = sum(s.errors for s in samples)
                row.append(f"{ops:,.0f} ({against:.1f}x; {cpu:.1f})" + (f" {errors} errors" if errors else ""))
            table.add_row(*row, style="bold" if name == "ours" else None)
        console.print(table)


def picture(cells: Cells, path: Path) -> None:
    """Ratios to stock as bars."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    names = [name for name in dict.fromkeys(key[0] for key in cells) if not name.startswith("stock")]
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), sharey=True)
    for axis, workload in zip(axes, WORKLOADS, strict=True):
        for at, name in enumerate(names):
            values = [ratio(cells, name, baseline(callers), workload, callers) or 0 for callers in CALLERS]
            places = [index + (at - len(names) / 2) * 0.16 for index in range(len(CALLERS))]
            axis.bar(places, values, 0.15, label=name)
        axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set_xticks(range(len(CALLERS)), [f"{callers}" for callers in CALLERS])
        axis.set_xlabel("concurrent callers")
        axis.set_title(workload)
    axes[0].set_ylabel("calls per second / redis.asyncio")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


async def run(options: argparse.Namespace, console: Console) -> int:
    async with AsyncExitStack() as stack:
        url = options.url
        if url is None:
            server = EmbeddedServer(port=0, unix_socket=False)
            url = (await stack.enter_async_context(server)).url
        async with Redis.from_url(url) as client:
            info: dict[str, Any] = await client.info("server")
        rounds, seconds = (2, 0.2) if options.quick else (options.rounds, options.seconds)
        cells = await measure(url, rounds, seconds, console)
        fair = await fairness(url, 0.5 if options.quick else 1.5)
        memory = await memory_per_call(url)
    show(cells, console)
    table = Table(title="Targets")
    for column in ("what", "target", "measured", "met"):
        table.add_column(column)
    rows = targets(cells, fair)
    for what, target, value, met in rows:
        table.add_row(what, target, "-" if value is None else f"{value:.2f}", "yes" if met else "no")
    console.print(table)
    theirs = fair.get("stock, blocking pool of 50")
    if theirs:
        console.print(
            f"Fairness of stock with a blocking pool of 50: least {theirs[0]:.2f}, most {theirs[1]:.2f} of the mean"
        )
    console.print(f"Memory per waiting call: {memory:,.0f} bytes (task and coroutine included)")
    save(cells, rows, fair, memory, info, options)
    return 1 if options.check and not all(met for *_, met in rows) else 0


def save(
    cells: Cells,
    rows: list[tuple[str, str, float | None, bool]],
    fair: dict[str, tuple[float, float]],
    memory: float,
    info: dict[str, Any],
    options: argparse.Namespace,
) -> None:
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    libraries = {}
    for name in ("redis", "hiredis", "valkey-glide", "coredis"):
        with contextlib.suppress(Exception):
            libraries[name] = version(name)
    document = {
        "machine": {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()},
        "server": {key: info[key] for key in ("server_name", "redis_version", "valkey_version") if key in info},
        "libraries": libraries,
        "loop": "uvloop" if options.uvloop else "asyncio",
        "cells": [
            {"client": name, "workload": workload, "callers": callers, "rounds": [s.as_dict() for s in samples]}
            for (name, workload, callers), samples in cells.items()
        ],
        "targets": [
            {"what": what, "target": target, "measured": value and round(value, 2), "met": met}
            for what, target, value, met in rows
        ],
        "fairness": fair,
        "bytes_per_waiting_call": round(memory),
    }
    (folder / "wire.json").write_text(json.dumps(document, indent=1) + "\n")
    with contextlib.suppress(ImportError):
        picture(cells, folder / "wire.svg")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="redis://host:port of a server to use; default: an embedded one of its own")
    parser.add_argument("--quick", action="store_true", help="two short rounds, to see that it works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.8, help="per cell and round")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--check", action="store_true", help="exit 1 unless every target is met")
    parser.add_argument("--out", default=str(RESULTS / "local"), help="folder for wire.json and wire.svg")
    options = parser.parse_args()
    console = Console()
    if options.uvloop:
        import uvloop

        return uvloop.run(run(options, console))
    return asyncio.run(run(options, console))


if __name__ == "__main__":
    sys.exit(main())
