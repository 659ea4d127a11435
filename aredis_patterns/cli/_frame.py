"""One look at servers and patterns, put together for people: what `top` shows, and what `top --once --json` prints."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from redis.exceptions import RedisError

from aredis_patterns.cli._scrape import ProcessView, scrape
from aredis_patterns.exceptions import PatternError
from aredis_patterns.monitoring import Inspector, NodeReport, PatternView, SlowCommand, Unavailable, pattern_view
from aredis_patterns.monitoring.records import ClientConnection, CommandStatistics
from aredis_patterns.types import RedisClient

__all__ = ["Frame", "Watcher", "as_json"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Frame:
    """What was seen at one moment. Numbers are sums over the nodes; None where no node would say."""

    server: str
    """"Valkey 9.1.2, primary", or how many nodes of what."""
    uptime: float | None
    operations: float | None
    """Commands per second."""
    hit_ratio: float | None
    """Of the lookups since the frame before; of all, in the first frame."""
    used: int | None
    limit: int | None
    fragmentation: float | None
    clients: int | None
    blocked: int | None
    keys: int | None
    evicted: int | None
    input_bytes: float | None
    """Per second."""
    output_bytes: float | None
    slow: Sequence[tuple[str, SlowCommand]]
    """(node, command), newest first."""
    connections: Sequence[ClientConnection]
    """Those that take most memory first."""
    commands: Sequence[tuple[CommandStatistics, float]]
    """With the share of the server's time since the frame before; most expensive first."""
    patterns: PatternView | None
    processes: Sequence[ProcessView]
    """What the /metrics of applications say."""
    problems: Sequence[str]
    """Sections that could not be had, and why."""
    took: float
    """Seconds that this look took."""


@dataclass(slots=True)
class Watcher:
    """Takes frames of one client; remembers the last one for what is a difference."""

    client: RedisClient
    namespace: str
    metrics: Sequence[str] = ()
    """URLs of /metrics of applications."""
    max_keys: int = 20_000
    _before: Mapping[str, NodeReport] = field(default_factory=dict[str, NodeReport])
    _at: float = 0.0

    async def look(self) -> Frame:
        """One frame. What a server does not say is in its `problems`."""
        began = time.monotonic()
        asked = Inspector(self.client, deadline=2.0).report(slowlog=32)
        reports, patterns, processes = await asyncio.gather(asked, self._patterns(), self._processes())
        frame = self._frame(reports, patterns, processes, began)
        self._before, self._at = reports, began
        return frame

    async def _patterns(self) -> PatternView | str:
        try:
            async with asyncio.timeout(5):
                return await pattern_view(self.client, namespace=self.namespace, max_keys=self.max_keys)
        except (RedisError, PatternError, OSError) as error:
            return str(error) or type(error).__name__

    async def _processes(self) -> list[ProcessView]:
        return await asyncio.gather(*map(scrape, self.metrics))

    def _frame(
        self,
        reports: Mapping[str, NodeReport],
        patterns: PatternView | str,
        processes: Sequence[ProcessView],
        began: float,
    ) -> Frame:
        nodes = list(reports.values())
        now, before = _Sums(nodes), _Sums(list(self._before.values()))
        seconds = began - self._at if self._before else None

        def rate(name: str) -> float | None:
            grown = now.since(before, name)
            return None if grown is None or not seconds else grown / seconds

        # The first frame has no difference yet: there the server's own mean has to do.
        operations = rate("commands") if self._before else now.of("stats", "commands_per_second")
        slow = [(node.node, each) for node in nodes for each in _had(node.slowlog, ())]
        connections = [each for node in nodes for each in _had(node.connections, ())]
        return Frame(
            server=_title(nodes),
            uptime=_Sums(nodes[:1]).of("server", "uptime"),
            operations=operations,
            hit_ratio=_hit_ratio(now, before),
            used=now.of("memory", "used"),
            limit=now.of("memory", "limit"),
            fragmentation=max(now.values("memory", "fragmentation"), default=None),
            clients=now.of("clients", "connected"),
            blocked=now.of("clients", "blocked"),
            keys=_keys(nodes),
            evicted=now.of("stats", "evicted"),
            input_bytes=rate("input_bytes"),
            output_bytes=rate("output_bytes"),
            slow=sorted(slow, key=lambda pair: (pair[1].at, pair[1].id), reverse=True)[:32],
            connections=sorted(connections, key=lambda each: each.memory or 0, reverse=True)[:50],
            commands=self._costs(nodes),
            patterns=None if isinstance(patterns, str) else patterns,
            processes=processes,
            problems=[*_problems(nodes), *([f"patterns: {patterns}"] if isinstance(patterns, str) else [])],
            took=time.monotonic() - began,
        )

    def _costs(self, nodes: Sequence[NodeReport]) -> list[tuple[CommandStatistics, float]]:
        """What each command has cost since the last frame, as a share of the whole."""
        before: dict[tuple[str, str], float] = {
            (node.node, each.command): each.seconds
            for node in self._before.values()
            for each in _had(node.commands, ())
        }
        merged: dict[str, tuple[CommandStatistics, float]] = {}
        for node in nodes:
            for each in _had(node.commands, ()):
                spent = max(0.0, each.seconds - before.get((node.node, each.command), 0.0))
                known = merged.get(each.command)
                if known is not None:
                    both = dataclasses.replace(
                        each, calls=each.calls + known[0].calls, seconds=each.seconds + known[0].seconds
                    )
                    merged[each.command] = (both, spent + known[1])
                else:
                    merged[each.command] = (each, spent)
        whole = sum(spent for _, spent in merged.values()) or 1.0
        shares = [(each, spent / whole) for each, spent in merged.values()]
        return sorted(shares, key=lambda pair: (pair[1], pair[0].seconds), reverse=True)[:30]


class _Sums:
    """Fields of sections, added up over nodes. What no node would say is None."""

    def __init__(self, nodes: Sequence[NodeReport]) -> None:
        self._nodes = nodes

    def values(self, section: str, name: str) -> list[Any]:
        found = (getattr(getattr(node, section), name, None) for node in self._nodes)
        return [value for value in found if value is not None]

    def of(self, section: str, name: str) -> Any:
        values = self.values(section, name)
        return sum(values) if values else None

    def since(self, before: _Sums, name: str) -> float | None:
        """How much a counter of INFO stats has grown; all of it after a restart."""
        now, then = self.of("stats", name), before.of("stats", name) or 0
        return None if now is None else now - then if now >= then else now


def _hit_ratio(now: _Sums, before: _Sums) -> float | None:
    """Of the lookups since the frame before; of all, when there were none."""
    for earlier in (before, _Sums([])):
        hits, misses = now.since(earlier, "hits"), now.since(earlier, "misses")
        if hits is not None and misses is not None and hits + misses:
            return hits / (hits + misses)
    return None


def _keys(nodes: Sequence[NodeReport]) -> int | None:
    """Of primaries: replicas have the same ones."""
    primaries = [node for node in nodes if getattr(node.replication, "role", None) != "replica"] or nodes
    spaces = [node.keyspace for node in primaries if not isinstance(node.keyspace, Unavailable)]
    return sum(database.keys for space in spaces for database in space) if spaces else None


def as_json(value: Any) -> Any:
    """Records as what JSON has: bytes become text with escapes, moments ISO 8601, tuples lists."""
    if dataclasses.is_dataclass(value):
        return {each.name: as_json(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): as_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value.isoformat() if isinstance(value, datetime) else value


def _title(nodes: Sequence[NodeReport]) -> str:
    first = nodes[0].server
    if isinstance(first, Unavailable):
        return f"{nodes[0].node}: {first}"
    name = f"{first.name} {first.version or 'of unknown version'}"
    if len(nodes) > 1:
        return f"{name}, a Cluster of {len(nodes)} nodes"
    role = getattr(nodes[0].replication, "role", None)
    return f"{name}, {role}" if role else name


def _problems(nodes: Sequence[NodeReport]) -> list[str]:
    found: dict[str, None] = {}
    for node in nodes:
        for name in node.__slots__:
            section = getattr(node, name)
            if isinstance(section, Unavailable):
                where = f"{node.node}: " if len(nodes) > 1 else ""
                found[f"{where}{section.reason if section.kind == 'unreachable' else f'{name} {section}'}"] = None
    return list(found)


def _had(section: T | Unavailable, otherwise: T) -> T:
    return otherwise if isinstance(section, Unavailable) else section
