"""The tables of `top`: which columns, and which rows a frame has for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from aredis_patterns.cli._frame import Frame
from aredis_patterns.cli._scrape import ProcessView
from aredis_patterns.cli._tables import bytes_of, command_text, count_of, printable, seconds_of

__all__ = ["TABLES", "TableOf"]

Row = tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class TableOf:
    """One table: where it is, what it is called, and how it is filled."""

    id: str
    pane: str
    title: str
    columns: tuple[str, ...]
    rows: Callable[[Frame], list[Row]]
    empty: str
    """Said instead of an empty table."""


def _row(*cells: object, style: str = "") -> Row:
    """Cells as text, never markup: names may hold brackets. Numbers stand on the right."""
    texts = (printable(str(cell)) for cell in cells)
    return tuple(Text(text, style=style, justify="right" if _is_number(text) else "left") for text in texts)


def _is_number(text: str) -> bool:
    return text[:1].isdigit() or text == "-"


def _locks(frame: Frame) -> list[Row]:
    return [
        _row(
            lock.kind,
            lock.name,
            "held" if lock.held else "free",
            lock.holder or "",
            seconds_of(lock.ttl),
            count_of(lock.waiting),
            style="yellow" if lock.waiting else "",
        )
        for lock in (frame.patterns.locks if frame.patterns else ())
    ]


def _queues(frame: Frame) -> list[Row]:
    return [
        _row(
            queue.name + (" (paused)" if queue.paused else ""),
            *(count_of(number) for number in (queue.ready, queue.leased, queue.delayed, queue.dead)),
            seconds_of(queue.age),
            count_of(queue.done),
            count_of(queue.failed),
            style="red" if queue.dead else "yellow" if (queue.age or 0) > 60 else "",
        )
        for queue in (frame.patterns.queues if frame.patterns else ())
    ]


def _objects(frame: Frame) -> list[Row]:
    return [
        _row(each.family, each.name, count_of(each.keys)) for each in (frame.patterns.objects if frame.patterns else ())
    ]


def _limiters(frame: Frame) -> list[Row]:
    """Refused and allowed, by process."""
    rows: list[Row] = []
    for process in frame.processes:
        counts = _outcomes(process, "ratelimit")
        for operation, outcomes in counts.items():
            allowed, refused = outcomes.get("allowed", 0), outcomes.get("refused", 0)
            other = sum(outcomes.values()) - allowed - refused
            share = f"{refused / (allowed + refused):.1%}" if allowed + refused else "-"
            rows.append(_row(process.where, operation, count_of(allowed), count_of(refused), share, count_of(other)))
    return rows


_QUICK: Final = ("near_hits", "hits", "stale")
_SLOW: Final = ("loads", "waited", "misses")
"""What `CacheStatistics.hit_ratio` divides: answers that were there, and those that somebody had to make or to go without."""


def _caches(frame: Frame) -> list[Row]:
    """Caches that were given to `Metrics.watch`."""
    rows: list[Row] = []
    for process in frame.processes:
        for name, numbers in process.objects.items():
            quick = sum(numbers.get(field, 0) for field in _QUICK)
            slow = sum(numbers.get(field, 0) for field in _SLOW)
            if "hits" in numbers and quick + slow:
                cells = (numbers.get(field) for field in ("near_hits", "hits", "stale", "loads"))
                rows.append(_row(process.where, name, f"{quick / (quick + slow):.1%}", *map(count_of, cells)))
    return rows


_LANE: Final = ("commands", "flushes", "in_flight", "waiting", "reconnects", "unknown_outcomes", "repeated")


def _lanes(frame: Frame) -> list[Row]:
    rows: list[Row] = []
    for process in frame.processes:
        lanes = process.lanes
        if lanes:
            batch = f"{lanes.get('commands', 0) / lanes['flushes']:.1f}" if lanes.get("flushes") else "-"
            rows.append(_row(process.where, *(count_of(lanes.get(name)) for name in _LANE), batch))
    return rows


def _operations(frame: Frame) -> list[Row]:
    return [
        _row(process.where, f"{each.family}.{each.operation}", each.outcome, count_of(each.count))
        for process in frame.processes
        for each in process.operations
    ]


def _outcomes(process: ProcessView, family: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for each in process.operations:
        if each.family == family:
            found.setdefault(each.operation, {})[each.outcome] = each.count
    return found


def _slow(frame: Frame) -> list[Row]:
    return [
        _row(
            f"{entry.at:%H:%M:%S}",
            seconds_of(entry.duration),
            entry.client_name or entry.client or "",
            command_text(entry.args, 160),
            style="red" if entry.duration >= 0.1 else "",
        )
        for _, entry in frame.slow
    ]


def _commands(frame: Frame) -> list[Row]:
    def rows() -> Iterator[Row]:
        for each, share in frame.commands:
            p99 = each.percentiles.get(99.0)
            yield _row(
                each.command,
                f"{share:.1%}",
                count_of(each.calls),
                seconds_of(each.mean),
                seconds_of(p99),
                count_of(each.failed),
                count_of(each.rejected),
            )

    return list(rows())


def _clients(frame: Frame) -> list[Row]:
    return [
        _row(
            each.id,
            each.address,
            each.name or "-",
            each.user or "-",
            each.library or "-",
            each.command or "-",
            seconds_of(each.idle),
            bytes_of(each.memory),
            bytes_of(each.waiting_output),
        )
        for each in frame.connections
    ]


_FROM_PROCESSES: Final = "give --metrics http://your-app/metrics: these numbers live in the processes"

TABLES: Final = (
    TableOf(
        "locks", "patterns", "Locks held and waited for", ("kind", "name", "state", "holder", "ends in", "waiting"),
        _locks, "none",
    ),
    TableOf(
        "queues", "patterns", "Queues", ("queue", "ready", "leased", "delayed", "dead", "next waits", "done", "failed"),
        _queues, "none",
    ),
    TableOf(
        "limiters", "patterns", "Rate limits", ("process", "operation", "allowed", "refused", "share", "undecided"),
        _limiters, _FROM_PROCESSES,
    ),
    TableOf(
        "caches", "patterns", "Caches", ("process", "cache", "hit ratio", "near hits", "hits", "stale", "loads"), _caches,
        _FROM_PROCESSES,
    ),
    TableOf(
        "lanes", "patterns", "Lanes (shared connections)",
        ("process", "commands", "writes", "in flight", "waiting", "reconnects", "unknown", "repeated", "per write"),
        _lanes, _FROM_PROCESSES,
    ),
    TableOf("objects", "patterns", "Keys of other objects", ("family", "name", "keys"), _objects, "none"),
    TableOf(
        "operations", "patterns", "All operations", ("process", "operation", "outcome", "count"), _operations,
        _FROM_PROCESSES,
    ),
    TableOf("slow-table", "slow", "Slow commands (UTC, values hidden)", ("at", "took", "client", "command"), _slow, "none"),
    TableOf(
        "commands-table", "commands", "What the server spends its time on",
        ("command", "share", "calls", "mean", "p99", "failed", "rejected"), _commands, "none",
    ),
    TableOf(
        "clients-table", "clients", "Connections, by memory",
        ("id", "address", "name", "user", "library", "last command", "idle", "memory", "unread"), _clients, "none",
    ),
)  # fmt: skip
"""In the order of the screen."""
