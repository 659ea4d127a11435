"""Runs `aredis-patterns top`: the live view, or one frame of it for machines and logs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rich.console import Console

from aredis_patterns.cli._frame import Frame, Watcher
from aredis_patterns.cli._inspect import Output, connected
from aredis_patterns.cli._rows import TABLES
from aredis_patterns.cli._tables import bytes_of, count_of, printable, seconds_of, table_of
from aredis_patterns.cli._top import TopApp

__all__ = ["run_top"]


async def run_top(
    url: str, output: Output, *, namespace: str, metrics: Sequence[str], interval: float, once: bool
) -> int:
    """Until somebody presses q; with `once` two looks, an interval apart, so that rates are known."""
    async with connected(url, namespace) as patterns:
        watcher = Watcher(patterns.client, namespace, metrics)
        where = url.rpartition("@")[2].partition("?")[0]  # a password may stand in either
        if not once:
            await TopApp(watcher.look, interval=interval, where=where).run_async()
            return 0
        await watcher.look()
        await asyncio.sleep(interval)
        frame = await watcher.look()
    if output.as_json:
        output.document(frame)
    else:
        _print(frame, output.console)
    return 0


def _print(frame: Frame, console: Console) -> None:
    ratio = "-" if frame.hit_ratio is None else f"{frame.hit_ratio:.1%}"
    console.print(
        f"{frame.server}, up {seconds_of(frame.uptime)}: {count_of(frame.operations)} commands/s, "
        f"{bytes_of(frame.used)} in {count_of(frame.keys)} keys, hit ratio {ratio}, {count_of(frame.clients)} connections",
        highlight=False,
    )
    for problem in frame.problems:
        console.print(printable(problem), style="yellow", markup=False)
    for table in TABLES:
        rows = table.rows(frame)
        if rows:
            console.print(table_of(table.title, table.columns, rows))
