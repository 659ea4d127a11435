"""`aredis-patterns demo`: a private server, a real web service, real requests, and a report that can fail."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI
from rich import box
from rich.console import Console
from rich.table import Table

from aredis_patterns.cli._demo_app import LIMITS, make_app
from aredis_patterns.cli._showcase import BUYERS, MAILS, READERS, SCORES, Check, Showcase
from aredis_patterns.cli._traffic import Line, send_traffic
from aredis_patterns.hub import Patterns
from aredis_patterns.pipelining import LaneStatistics


async def run_demo(*, url: str | None, once: bool, port: int, console: Console) -> bool:
    """Serve until interrupted, or once with traffic; True when every number is what the limits say."""
    namespace = f"demo-{time.time_ns():x}"  # a server that others use, too, keeps its keys to itself
    async with AsyncExitStack() as stack:
        patterns = await stack.enter_async_context(Patterns.from_url(url or "embedded://", namespace=namespace))
        await patterns.ping()
        app, showcase = make_app(patterns), Showcase(patterns)
        app.include_router(showcase.router())
        console.print(f"Server: [bold]{await patterns.server_name()}[/] ({'embedded' if url is None else 'given'})")
        async with serving(app, port) as (server, address):
            _say_where(console, address)
            if not once:
                async with showcase.worker():
                    await server.stopped.wait()
                return True
            async with httpx.AsyncClient(
                base_url=address, timeout=10, limits=httpx.Limits(max_connections=64)
            ) as client:
                start = time.perf_counter()
                lines = await send_traffic(client, app)
                checks = await showcase.check(client)
                elapsed = time.perf_counter() - start
            _report(console, lines, checks, patterns.statistics(), elapsed)
            for limiter in app.state.limiters.values():
                for line in lines:
                    await limiter.reset(line.user)
    return all(line.exact for line in lines) and all(check.exact for check in checks)


class Server(uvicorn.Server):
    """uvicorn, with events instead of flags to poll."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.stopped = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.stopped.set()
        await super().shutdown(sockets=sockets)


@asynccontextmanager
async def serving(app: FastAPI, port: int) -> AsyncGenerator[tuple[Server, str], None]:
    """The application on 127.0.0.1, from ready to shut down."""
    listener = socket.create_server(("127.0.0.1", port))
    server = Server(uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=2))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield server, f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ready.cancel()
        server.should_exit = True
        await task
        listener.close()


def _say_where(console: Console, address: str) -> None:
    console.print(f"Serving on [bold]{address}[/] (its pages: {address}/docs). Try:")
    for name, limit in LIMITS.items():
        query = "?cost=3" if name == "api" else ""
        console.print(
            f"  curl -i -H 'x-user: me' '{address}/{name}{query}'   [dim]# {limit} per user[/]", highlight=False
        )
    for path in ("profile/ada", "buy", "mail/1", "score/ada?points=3"):
        verb = "" if path.startswith("profile") else "-X POST "
        console.print(f"  curl -i {verb}'{address}/{path}'", highlight=False)
    console.print()


def _report(console: Console, lines: list[Line], checks: list[Check], wire: LaneStatistics, elapsed: float) -> None:
    table = Table(title="What was allowed, of what had to be", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("endpoint", no_wrap=True)
    table.add_column("user", no_wrap=True)
    for column in ("sent", "allowed", "refused", "gone", "left", "p50", "p99 ms"):
        table.add_column(column, justify="right")
    table.add_column("")
    for line in lines:
        latencies = sorted(line.latencies)
        p50, p99 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
        counts = (line.sent, f"{line.allowed}/{line.expected}", line.refused, line.hung_up, line.remaining)
        times = (f"{p50 * 1e3:.0f}", f"{p99 * 1e3:.0f}")
        verdict = _verdict(line.exact)
        table.add_row(f"/{line.endpoint}", line.user, *map(str, counts), *times, verdict)
    console.print(table)
    for endpoint, what in dict.fromkeys((line.endpoint, line.what) for line in lines):
        console.print(f"  /{endpoint}: {what}", highlight=False)
    console.print(_table_of(checks))
    requests = sum(line.sent for line in lines) + READERS + BUYERS + MAILS + SCORES
    console.print(
        f"\n{requests} HTTP requests in {elapsed:.2f} s. On the wire: {wire.commands} commands in {wire.flushes} "
        f"writes ({wire.mean_batch:.1f} per write) on one connection."
    )
    wrong = sum(not line.exact for line in lines) + sum(not check.exact for check in checks)
    good = "[bold green]Every limit held, to the unit; one load, no lost update, no lost mail.[/]"
    console.print(f"[bold red]{wrong} lines are wrong.[/]" if wrong else good)


def _table_of(checks: list[Check]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("endpoint", "what was sent", "what came of it", ""):
        table.add_column(column)
    for check in checks:
        table.add_row(f"/{check.endpoint}", check.what, check.found, _verdict(check.exact))
    return table


def _verdict(exact: bool) -> str:
    return "[green]exact[/]" if exact else "[bold red]WRONG[/]"
