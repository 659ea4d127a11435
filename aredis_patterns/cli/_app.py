"""The commands and their options."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from aredis_patterns.cli._ping import ping_server
from aredis_patterns.exceptions import PatternError

app = typer.Typer(
    help="Redis patterns for asyncio: try them, and look at the server under them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

URL = Annotated[str | None, typer.Option(help="A Redis or Valkey server; default: a private embedded one.")]


@app.callback()
def _commands() -> None:
    """Redis patterns for asyncio: try them, and look at the server under them."""


@app.command()
def demo(
    url: URL = None,
    once: Annotated[bool, typer.Option("--once", help="Send real traffic, print a report, and end.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 takes a free one.")] = 0,
) -> None:
    """Serve a small rate-limited web service on a real server; with --once, prove its limits and end."""
    try:
        from aredis_patterns.cli._demo import run_demo
    except ModuleNotFoundError as error:
        _fail(f"the demo needs {error.name}; install it with: pip install 'aredis-patterns[demo]'")
    else:
        _run(run_demo(url=url, once=once, port=port, console=Console()))


@app.command()
def ping(
    url: Annotated[str, typer.Argument(help="redis://, rediss://, unix://, redis+cluster:// or embedded://")] = "",
) -> None:
    """Say which server answers at URL (default: $AREDIS_PATTERNS_URL, or localhost) and how fast."""
    target = url or os.environ.get("AREDIS_PATTERNS_URL") or "redis://localhost:6379"
    _run(ping_server(target, console=Console()))


@app.command()
def worker(
    handler: Annotated[str, typer.Argument(help="module:function, an async function that takes a message")],
    queue: Annotated[str, typer.Option(help="The queue whose messages it handles.")],
    url: Annotated[str, typer.Option(help="The server; default: $AREDIS_PATTERNS_URL, or localhost.")] = "",
    namespace: Annotated[str, typer.Option(help="What the keys begin with.")] = "ap",
    concurrency: Annotated[int, typer.Option(min=1, help="Messages at a time.")] = 32,
    prefetch: Annotated[int | None, typer.Option(min=0, help="Messages ahead; default: as many.")] = None,
    lease: Annotated[float, typer.Option(min=0.1, help="Seconds until what a dead worker had comes back.")] = 30.0,
    max_deliveries: Annotated[int, typer.Option(min=1, help="Failures until a message is dead.")] = 5,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that running handlers have at the end.")] = 30.0,
) -> None:
    """Handle the messages of a queue until SIGTERM or Ctrl-C; then finish what is running and give back the rest."""
    from aredis_patterns.cli._worker import run_worker

    target = url or os.environ.get("AREDIS_PATTERNS_URL") or "redis://localhost:6379"
    _run(
        run_worker(
            handler,
            queue,
            url=target,
            namespace=namespace,
            concurrency=concurrency,
            prefetch=prefetch,
            grace=grace,
            options={"lease": lease, "max_deliveries": max_deliveries},
            console=Console(),
        )
    )


def _run(work: Coroutine[Any, Any, bool]) -> None:
    """Exit code 0 when the work says so. Errors that a user can act on are one line."""
    try:
        fine = asyncio.run(work)
    except (PatternError, ValueError, OSError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        fine = True
    raise typer.Exit(0 if fine else 1)


def _fail(message: str) -> NoReturn:
    typer.echo(f"aredis-patterns: {message}", err=True)
    raise typer.Exit(1)
