"""The commands and their options."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Annotated, Any, NoReturn

import typer
from redis.exceptions import RedisError
from rich.console import Console

from aredis_patterns.cli._inspect import Output, run_doctor, run_keys, run_ping, run_slowlog
from aredis_patterns.exceptions import PatternError
from aredis_patterns.monitoring._options import ScanOptions
from aredis_patterns.monitoring._redaction import check_redaction

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


URL_ARGUMENT = Annotated[
    str, typer.Argument(help="redis://, rediss://, unix://, redis+cluster:// or embedded://", metavar="[URL]")
]
JSON = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")]
NAMESPACE = Annotated[str, typer.Option(help="Whose keys: what `namespace` is in the application.")]
_DEFAULT = "Default URL: $AREDIS_PATTERNS_URL, or localhost."


@app.command(epilog=_DEFAULT)
def ping(url: URL_ARGUMENT = "", as_json: JSON = False) -> None:
    """Say which server answers at URL and how fast."""
    _run(run_ping(_target(url), _output(as_json)))


@app.command(epilog=f"Exit codes: 0 fine, 1 could not look, 3 findings. {_DEFAULT}")
def doctor(
    url: URL_ARGUMENT = "",
    namespace: NAMESPACE = "ap",
    fail_on: Annotated[
        str, typer.Option(help="What exit code 3 needs: critical, warning, info or never.", metavar="LEVEL")
    ] = "warning",
    as_json: JSON = False,
) -> None:
    """Look for what is wrong with the server, and say how to mend it. Changes nothing."""
    _one_of("--fail-on", fail_on, ("critical", "warning", "info", "never"))
    _run(run_doctor(_target(url), _output(as_json), namespace=namespace, fail_on=fail_on))


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

    _run(
        run_worker(
            handler,
            queue,
            url=_target(url),
            namespace=namespace,
            concurrency=concurrency,
            prefetch=prefetch,
            grace=grace,
            options={"lease": lease, "max_deliveries": max_deliveries},
            console=Console(),
        )
    )


@app.command(epilog=_DEFAULT)
def keys(
    url: URL_ARGUMENT = "",
    match: Annotated[str, typer.Option(help="A glob pattern of keys.")] = "*",
    kind: Annotated[str | None, typer.Option("--type", help="Only keys of this type: string, hash, zset, ...")] = None,
    group: Annotated[str | None, typer.Option(help="A regular expression; its groups name the group of a key.")] = None,
    rate: Annotated[float, typer.Option(help="Keys per second at most.")] = 5_000,
    top: Annotated[int, typer.Option(help="How many of the biggest keys to show.")] = 20,
    samples: Annotated[int, typer.Option(help="Elements of a collection to measure; 0 for all.")] = 5,
    max_keys: Annotated[int | None, typer.Option(help="End after so many keys.")] = None,
    as_json: JSON = False,
) -> None:
    """Find big keys and groups of keys, gently: idle times stay as they are."""
    options = ScanOptions(kind=kind, group=group, rate=rate, top=top, samples=samples, max_keys=max_keys)
    _run(run_keys(_target(url), _output(as_json), match=match, options=options))


@app.command(epilog=_DEFAULT)
def slowlog(
    url: URL_ARGUMENT = "",
    limit: Annotated[int, typer.Option(help="How many entries of each server; -1 for all.")] = 32,
    show: Annotated[
        str, typer.Option(help="values: hide values; all: hide keys, too; none: hide nothing.", metavar="WHAT")
    ] = "values",
    as_json: JSON = False,
) -> None:
    """Show the commands that were slow, values hidden."""
    _one_of("--show", show, ("values", "all", "none"))
    _run(run_slowlog(_target(url), _output(as_json), limit=limit, redact=check_redaction(show)))


@app.command(epilog=_DEFAULT)
def top(
    url: URL_ARGUMENT = "",
    namespace: NAMESPACE = "ap",
    metrics: Annotated[
        list[str] | None, typer.Option(help="A /metrics URL of an application; may be given more than once.")
    ] = None,
    interval: Annotated[float, typer.Option(help="Seconds between looks.", min=0.1)] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look twice, an interval apart, print, and end.")] = False,
    as_json: JSON = False,
) -> None:
    """Watch servers and patterns live: traffic, memory, slow commands, locks, queues, limits, caches."""
    try:
        from aredis_patterns.cli._watch import run_top
    except ModuleNotFoundError as error:
        _fail(f"the live view needs {error.name}; install it with: pip install 'aredis-patterns[tui]'")
    else:
        _run(
            run_top(
                _target(url),
                _output(as_json),
                namespace=namespace,
                metrics=metrics or [],
                interval=interval,
                once=once or as_json,
            )
        )


def _target(url: str) -> str:
    return url or os.environ.get("AREDIS_PATTERNS_URL") or "redis://localhost:6379"


def _output(as_json: bool) -> Output:
    return Output(Console(), Console(stderr=True), as_json)


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise typer.BadParameter(f"{option} is one of {', '.join(allowed)}, got {value!r}")


def _run(work: Coroutine[Any, Any, bool | int]) -> None:
    """Exit with the code that the work returns (True is 0). Errors that a user can act on are one line."""
    try:
        result = asyncio.run(work)
    except (PatternError, RedisError, ValueError, OSError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        result = True
    raise typer.Exit(int(not result) if isinstance(result, bool) else result)


def _fail(message: str) -> NoReturn:
    typer.echo(f"aredis-patterns: {message}", err=True)
    raise typer.Exit(1)
