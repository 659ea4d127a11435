"""What every benchmark shares: rounds, ratios within a round, a progress bar, tables, JSON and a picture.

    async def run(url: str, stack: AsyncExitStack, contest: Contest) -> Outcome:
        client = await stack.enter_async_context(Redis.from_url(url))
        contest.add("hit", "ours", lambda n: limiter.hit(f"user:{n}"), callers=(1, 100, 1000))
        contest.add("hit", "stock", ..., callers=(1, 100))
        await contest.measure()
        return Outcome([Target("hit, 100 callers", contest.ratio("hit", 100, "ours", "stock"), least=8)])

    if __name__ == "__main__":
        sys.exit(main("ratelimit", __doc__, run, libraries=("redis", "limits")))

Every round asks everybody the same, one after the other, so that a machine whose speed drifts hits all alike. What counts is
the ratio within a round; tables show the medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from aredis_patterns.embedded import EmbeddedServer
from benchmarks._load import Call, Sample, load, median

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Target:
    """What was promised and what was measured. `least` or `most` bounds `value`; None was not measured."""

    what: str
    value: float | None
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        return (
            self.value is not None
            and (self.least is None or self.value >= self.least)
            and (self.most is None or self.value <= self.most)
        )

    @property
    def bound(self) -> str:
        return f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a benchmark found: its targets, and other numbers by name."""

    targets: Sequence[Target]
    figures: dict[str, Any] = field(default_factory=dict)


class Contest:
    """Who is asked what, and what came out. `ours` is printed in bold; `baseline` is what ratios in tables refer to."""

    def __init__(self, console: Console, *, rounds: int, seconds: float, quick: bool) -> None:
        self.console = console
        self.rounds = rounds
        self.seconds = seconds
        self.quick = quick
        self.baseline = "stock"
        self._plan: list[tuple[str, int, str, Call]] = []
        self.cells: dict[tuple[str, int, str], list[Sample]] = {}

    def add(self, workload: str, name: str, call: Call, *, callers: Sequence[int] = (1, 100, 1000)) -> None:
        """`call(number)` is what each of so many concurrent callers does in a loop."""
        self._plan.extend((workload, count, name, call) for count in callers)

    async def measure(self) -> None:
        """Ask everybody, round by round; those of one workload and number of callers directly after each other."""
        order = list(dict.fromkeys(workload for workload, _, _, _ in self._plan))
        plan, self._plan = sorted(self._plan, key=lambda cell: (order.index(cell[0]), cell[1])), []
        columns = (TextColumn("{task.description:<44}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task("", total=len(plan) * self.rounds)
            for _ in range(self.rounds):
                for workload, callers, name, call in plan:
                    progress.update(task, description=f"{workload}, {callers} callers: {name}")
                    await load(call, callers, self.seconds / 10)
                    sample = await load(call, callers, self.seconds)
                    self.cells.setdefault((workload, callers, name), []).append(sample)
                    progress.advance(task)

    def ratio(self, workload: str, callers: int, mine: str, theirs: str, of: str = "ops") -> float | None:
        """The median over the rounds of mine / theirs; None when either was not asked."""
        left, right = self.cells.get((workload, callers, mine)), self.cells.get((workload, callers, theirs))
        if not left or not right:
            return None
        pairs = [(getattr(a, of), getattr(b, of)) for a, b in zip(left, right, strict=True)]
        return median([a / b for a, b in pairs if b]) if any(b for _, b in pairs) else None

    def ratio_to_best(self, workload: str, callers: int, mine: str, peers: Sequence[str]) -> float | None:
        """Against the peer that was best in the medians. Peers that were not asked do not count."""
        best = max(
            (name for name in peers if (workload, callers, name) in self.cells),
            key=lambda name: self.median(workload, callers, name),
            default=None,
        )
        return None if best is None else self.ratio(workload, callers, mine, best)

    def median(self, workload: str, callers: int, name: str, of: str = "ops") -> float:
        return median([getattr(sample, of) for sample in self.cells[workload, callers, name]])

    def names(self, workload: str) -> list[str]:
        return list(dict.fromkeys(name for at, _, name in self.cells if at == workload))

    def workloads(self) -> list[str]:
        return list(dict.fromkeys(workload for workload, _, _ in self.cells))

    def callers(self, workload: str) -> list[int]:
        return sorted({count for at, count, _ in self.cells if at == workload})

    # showing ----------------------------------------------------------------------------------------------------------

    def show(self) -> None:
        for workload in self.workloads():
            counts = self.callers(workload)
            table = Table(title=f"{workload}: calls per second (ratio to {self.baseline}; CPU us per call)")
            table.add_column("")
            for count in counts:
                table.add_column(f"{count} callers", justify="right")
            for name in self.names(workload):
                cells = [self._cell(workload, count, name) for count in counts]
                table.add_row(name, *cells, style="bold" if name.startswith("ours") else None)
            self.console.print(table)

    def _cell(self, workload: str, callers: int, name: str) -> str:
        samples = self.cells.get((workload, callers, name))
        if not samples:
            return "-"
        ratio = self.ratio(workload, callers, name, self.baseline)
        against = "" if ratio is None else f"{ratio:.1f}x; "
        errors = sum(sample.errors for sample in samples)
        told = (
            f"{self.median(workload, callers, name):,.0f} ({against}{self.median(workload, callers, name, 'cpu'):.1f})"
        )
        return told + (f" {errors} errors" if errors else "")

    def as_rows(self) -> list[dict[str, Any]]:
        return [
            {
                "workload": workload,
                "callers": callers,
                "name": name,
                "ops": round(self.median(workload, callers, name)),
                "cpu_us": round(self.median(workload, callers, name, "cpu"), 2),
                "p99_ms": round(self.median(workload, callers, name, "p99"), 2),
                "errors": sum(sample.errors for sample in samples),
            }
            for (workload, callers, name), samples in self.cells.items()
        ]

    def picture(self, path: Path) -> None:
        """Calls per second relative to the baseline, or absolute where there is none; one panel per workload."""
        import matplotlib

        matplotlib.use("svg")
        from matplotlib import pyplot

        panels = self.workloads()
        figure, axes = pyplot.subplots(1, len(panels), figsize=(5.5 * len(panels), 4), squeeze=False)
        for axis, workload in zip(axes[0], panels, strict=True):
            counts, names = self.callers(workload), self.names(workload)
            width = 0.8 / len(names)
            for at, name in enumerate(names):
                values = [self.ratio(workload, count, name, self.baseline) or 0 for count in counts]
                places = [index + (at - (len(names) - 1) / 2) * width for index in range(len(counts))]
                axis.bar(places, values, width * 0.95, label=name)
            axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
            axis.set_xticks(range(len(counts)), [str(count) for count in counts])
            axis.set_xlabel("concurrent callers")
            axis.set_title(workload)
            axis.legend(fontsize=7)
        axes[0][0].set_ylabel(f"calls per second / {self.baseline}")
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


Run = Callable[[str, AsyncExitStack, Contest], Awaitable[Outcome]]


def main(name: str, doc: str | None, run: Run, *, libraries: Sequence[str] = ("redis", "hiredis")) -> int:
    """Read the options, run, show, save to `results/<name>.json` and `.svg`; the exit code."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="redis://host:port of a server to use; default: an embedded one of its own")
    parser.add_argument("--quick", action="store_true", help="two short rounds, to see that it works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.8, help="per cell and round")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--check", action="store_true", help="exit 1 unless every target is met")
    parser.add_argument("--out", default=str(RESULTS / "local"), help="folder for the results")
    options = parser.parse_args()
    if options.uvloop:
        import uvloop

        return uvloop.run(_run(name, run, libraries, options))
    return asyncio.run(_run(name, run, libraries, options))


async def _run(name: str, run: Run, libraries: Sequence[str], options: argparse.Namespace) -> int:
    console = Console(width=150 if not Console().is_terminal else None)
    rounds, seconds = (2, 0.2) if options.quick else (options.rounds, options.seconds)
    contest = Contest(console, rounds=rounds, seconds=seconds, quick=options.quick)
    async with AsyncExitStack() as stack:
        url = options.url
        if url is None:
            url = (await stack.enter_async_context(EmbeddedServer(port=0, unix_socket=False))).url
        async with Redis.from_url(url) as client:
            server: dict[str, Any] = await client.info("server")
        outcome = await run(url, stack, contest)
    contest.show()
    table = Table(title="Targets")
    for column in ("what", "target", "measured", "met"):
        table.add_column(column)
    for target in outcome.targets:
        value = "-" if target.value is None else f"{target.value:.2f}"
        table.add_row(target.what, target.bound, value, "yes" if target.met else "no")
    console.print(table)
    for what, value in outcome.figures.items():
        console.print(f"{what}: {value}")
    _save(name, contest, outcome, server, libraries, options)
    return 1 if options.check and not all(target.met for target in outcome.targets) else 0


def _save(
    name: str,
    contest: Contest,
    outcome: Outcome,
    server: dict[str, Any],
    libraries: Sequence[str],
    options: argparse.Namespace,
) -> None:
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()},
        "server": {key: server[key] for key in ("server_name", "redis_version", "valkey_version") if key in server},
        "libraries": {library: found for library in libraries if (found := _version(library)) is not None},
        "loop": "uvloop" if options.uvloop else "asyncio",
        "rounds": contest.rounds,
        "cells": contest.as_rows(),
        "targets": [
            {
                "what": target.what,
                "target": target.bound,
                "measured": None if target.value is None else round(target.value, 2),
                "met": target.met,
            }
            for target in outcome.targets
        ],
        "figures": outcome.figures,
    }
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    if contest.cells:
        with contextlib.suppress(ImportError):
            contest.picture(folder / f"{name}.svg")


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
