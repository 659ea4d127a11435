"""`aredis-patterns doctor`, `keys`, `slowlog` and `ping`: one question, one answer, for people or for machines."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from aredis_patterns._core.diagnosis import translate
from aredis_patterns.cli._frame import as_json
from aredis_patterns.cli._tables import bytes_of, command_text, count_of, printable, seconds_of, table_of
from aredis_patterns.hub import Patterns
from aredis_patterns.monitoring import Finding, KeyReport, KeyScan, ScanProgress
from aredis_patterns.monitoring._options import ScanOptions
from aredis_patterns.monitoring._redaction import Redaction

__all__ = ["Output", "run_doctor", "run_keys", "run_ping", "run_slowlog"]

ROUNDS: Final = 20
FINDINGS: Final = 3
"""Exit code of a doctor who has found something; 1 is "could not look", 2 is wrong usage."""
_STYLE: Final = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
_LEVELS: Final = ("info", "warning", "critical")


@dataclass(frozen=True, slots=True)
class Output:
    """Where results go: tables, or one JSON document. Progress goes to stderr, so that pipes stay clean."""

    console: Console
    progress: Console
    as_json: bool

    def document(self, value: Any) -> None:
        """One JSON document on stdout."""
        self.console.print_json(json.dumps(as_json(value))) if self.console.is_terminal else self.console.file.write(
            json.dumps(as_json(value)) + "\n"
        )


@asynccontextmanager
async def connected(url: str, namespace: str = "ap") -> AsyncGenerator[Patterns, None]:
    """An open hub whose server has answered. Raises with what to do when it cannot be used."""
    async with Patterns.from_url(url, namespace=namespace) as patterns:
        try:
            await patterns.ping()
        except Exception as error:
            known = translate(error, command="PING")
            raise known from (error if known is not error else error.__cause__)
        yield patterns


async def run_ping(url: str, output: Output) -> int:
    """Version and latency of the server at `url`."""
    async with Patterns.from_url(url) as patterns:
        try:
            first = await patterns.ping()
            rest = sorted([await patterns.ping() for _ in range(ROUNDS)])
            server = await patterns.server_name()
        except Exception as error:
            known = translate(error, command="PING")
            raise known from (error if known is not error else error.__cause__)
    middle = rest[ROUNDS // 2]
    if output.as_json:
        output.document({"server": server, "first_ms": round(first * 1e3, 3), "median_ms": round(middle * 1e3, 3)})
    else:
        output.console.print(
            f"{server}: connected and answered in {first * 1e3:.1f} ms, then {middle * 1e3:.2f} ms per call"
        )
    return 0


async def run_doctor(url: str, output: Output, *, namespace: str, fail_on: str) -> int:
    """What is wrong, worst first. Exit code 3 when something is at least as bad as `fail_on`."""
    async with connected(url, namespace) as patterns:
        with output.progress.status("Looking at INFO, connections, slow commands and keys"):
            diagnosis = await patterns.doctor()
    if output.as_json:
        output.document(diagnosis.as_dict())
    else:
        for finding in diagnosis.findings:
            output.console.print(_finding(finding, many=len(diagnosis.reports) > 1), highlight=False)
        bad = len(diagnosis.critical), len(diagnosis.warnings)
        warnings = "warning" if bad[1] == 1 else "warnings"
        words = "Nothing to complain of." if not any(bad) else f"{bad[0]} critical, {bad[1]} {warnings}."
        output.console.print(Text(words, style="bold green" if not any(bad) else "bold"))
    if fail_on == "never":
        return 0
    grave = _LEVELS[_LEVELS.index(fail_on) :]
    return FINDINGS if any(finding.severity in grave for finding in diagnosis.findings) else 0


def _finding(finding: Finding, *, many: bool) -> Text:
    where = f" [{finding.node}]" if many and finding.node else ""
    return Text.assemble(
        (f"{finding.severity:<8} ", _STYLE[finding.severity]),
        (printable(finding.message), "bold"),
        f" ({finding.code}){where}\n",
        ("         -> ", "dim"),
        finding.fix,
    )


async def run_keys(url: str, output: Output, *, match: str, options: ScanOptions) -> int:
    """Big keys and groups, with a progress bar."""
    async with connected(url) as patterns:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=output.progress, transient=True) as bar:
            task = bar.add_task("keys", total=None)

            def show(state: ScanProgress) -> None:
                bar.update(task, completed=state.keys, total=max(state.total, state.keys))

            options["progress"] = show
            report = await KeyScan(patterns.client, match=match, **options).run()
    if output.as_json:
        output.document(report)
    else:
        _show_keys(report, output.console)
    return 0


def _show_keys(report: KeyReport, console: Console) -> None:
    groups = [
        (group.name, count_of(group.keys), bytes_of(group.bytes), bytes_of(group.largest), count_of(group.without_ttl))
        for group in report.groups[:20]
    ]
    columns = ("group", "keys", "bytes", "largest", "no TTL")
    console.print(table_of("Groups, by memory", columns, groups, right=(1, 2, 3, 4)))
    biggest = [
        (
            key.key.decode(errors="backslashreplace"),
            key.type,
            bytes_of(key.bytes),
            count_of(key.elements),
            seconds_of(key.ttl) if key.ttl is not None else "never",
        )
        for key in report.biggest
    ]
    console.print(
        table_of("Biggest keys", ("key", "type", "bytes", "elements", "expires in"), biggest, right=(2, 3, 4))
    )
    console.print(
        f"{count_of(report.keys)} keys, {bytes_of(report.bytes)}, {count_of(report.without_ttl)} without a TTL, in "
        f"{report.seconds:.1f} s" + ("" if report.complete else " (not all keys: --max-keys)"),
        highlight=False,
    )


async def run_slowlog(url: str, output: Output, *, limit: int, redact: Redaction) -> int:
    """Slow commands of every node, newest first."""
    async with connected(url) as patterns:
        inspectors = await patterns.inspector().nodes()
        found = [
            (node, entry)
            for node, inspector in inspectors.items()
            for entry in await inspector.slowlog(limit, redact=redact)
        ]
    found.sort(key=lambda pair: (pair[1].at, pair[1].id), reverse=True)
    if output.as_json:
        output.document([{"node": node, **as_json(entry)} for node, entry in found])
        return 0
    rows = [
        (
            f"{entry.at:%Y-%m-%d %H:%M:%S}",
            seconds_of(entry.duration),
            entry.client_name or entry.client or "",
            command_text(entry.args),
        )
        for _, entry in found
    ]
    output.console.print(table_of("Slow commands (UTC)", ("at", "took", "client", "command"), rows, right=(1,)))
    if redact != "none":
        output.console.print("Values are hidden; --show none shows every byte.", style="dim")
    return 0
