"""Snapshots of servers and patterns, and the metrics that they become."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from aredis_patterns.monitoring import Inspector, PatternView, pattern_view
from aredis_patterns.monitoring._pattern_keys import FAMILY_OF
from aredis_patterns.monitoring.records import NodeReport, Unavailable
from aredis_patterns.pipelining import LaneStatistics, lane_of
from aredis_patterns.types import RedisClient

__all__ = ["HasStatistics", "Snapshot", "state_metrics", "take_snapshot"]

FAMILIES: Final = frozenset(FAMILY_OF.values())
HEAD: Final = "aredis_patterns_"
OTHER: Final = "(other)"


class HasStatistics(Protocol):
    """Any object of the library that lives long."""

    def statistics(self) -> object:
        """A frozen record of numbers."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the servers said last, and when. `failed`: the newest question had no answer."""

    reports: Mapping[str, NodeReport] = field(default_factory=dict[str, NodeReport])
    patterns: PatternView | None = None
    lanes: LaneStatistics | None = None
    taken_at: float = float("-inf")
    failed: bool = False

    @property
    def age(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.taken_at


async def take_snapshot(client: RedisClient, *, namespace: str | None, max_keys: int, deadline: float) -> Snapshot:
    """Ask, within `deadline` seconds; whatever goes wrong becomes part of the snapshot."""
    lanes = lane_of(client).statistics()
    reports: Mapping[str, NodeReport] = {}
    patterns: PatternView | None = None
    failed = False
    try:
        async with asyncio.timeout(deadline):
            reports = await Inspector(client, deadline=deadline).report(slowlog=1)
            if namespace is not None:
                patterns = await pattern_view(client, namespace=namespace, max_keys=max_keys)
    except Exception:  # a scrape shows what it has, whatever went wrong
        failed = True
    return Snapshot(reports, patterns, lanes, time.monotonic(), failed)


def state_metrics(
    snapshot: Snapshot, client: RedisClient, watched: Mapping[str, HasStatistics], queues: Collection[str]
) -> Iterable[Metric]:
    """All metrics of a snapshot."""
    yield from _lanes(snapshot.lanes)
    yield from _servers(snapshot)
    if snapshot.patterns is not None:
        yield from _patterns(snapshot.patterns, queues)
    yield from _watched(watched)


_LANE_GAUGES: Final = ("in_flight", "unsent", "waiting")
_LANE_COUNTERS: Final = ("commands", "flushes", "reconnects", "unknown_outcomes", "repeated", "dropped_replies")


def _lanes(lanes: LaneStatistics | None) -> Iterable[Metric]:
    if lanes is None:
        return
    for name in _LANE_GAUGES:
        yield GaugeMetricFamily(f"{HEAD}lane_{name}", f"Shared connections: {name}.", getattr(lanes, name))
    for name in _LANE_COUNTERS:
        yield CounterMetricFamily(f"{HEAD}lane_{name}", f"Shared connections: {name}.", getattr(lanes, name))
    bypassed = CounterMetricFamily(f"{HEAD}lane_bypassed", "Commands that took a pool connection.", labels=["reason"])
    for reason, count in lanes.bypassed.items():
        bypassed.add_metric([reason], count)
    yield bypassed


_SERVER: Final[tuple[tuple[str, str, str, str], ...]] = (
    ("memory", "used", "memory_used_bytes", "gauge"),
    ("memory", "limit", "memory_limit_bytes", "gauge"),
    ("memory", "rss", "memory_resident_bytes", "gauge"),
    ("memory", "fragmentation", "memory_fragmentation_ratio", "gauge"),
    ("clients", "connected", "connected_clients", "gauge"),
    ("clients", "blocked", "blocked_clients", "gauge"),
    ("server", "uptime", "uptime_seconds", "gauge"),
    ("stats", "commands_per_second", "commands_per_second", "gauge"),
    ("stats", "commands", "commands", "counter"),
    ("stats", "hits", "keyspace_hits", "counter"),
    ("stats", "misses", "keyspace_misses", "counter"),
    ("stats", "evicted", "evicted_keys", "counter"),
    ("stats", "expired", "expired_keys", "counter"),
    ("stats", "rejected_connections", "rejected_connections", "counter"),
    ("stats", "error_replies", "error_replies", "counter"),
    ("stats", "input_bytes", "input_bytes", "counter"),
    ("stats", "output_bytes", "output_bytes", "counter"),
)


def _servers(snapshot: Snapshot) -> Iterable[Metric]:
    up = GaugeMetricFamily(f"{HEAD}server_up", "Whether the server answered.", labels=["node"])
    for node, report in snapshot.reports.items():
        silent = isinstance(report.server, Unavailable) and report.server.kind == "unreachable"
        up.add_metric([node], 0 if silent else 1)
    if snapshot.failed and not snapshot.reports:
        up.add_metric([""], 0)
    yield up
    for section, attribute, name, kind in _SERVER:
        family = (GaugeMetricFamily if kind == "gauge" else CounterMetricFamily)(
            f"{HEAD}server_{name}", f"INFO {section}: {attribute}.", labels=["node"]
        )
        for node, report in snapshot.reports.items():
            value: Any = getattr(getattr(report, section), attribute, None)
            if value is not None:
                family.add_metric([node], value)
        yield family
    keys = GaugeMetricFamily(f"{HEAD}server_keys", "Keys of a database.", labels=["node", "database"])
    lag = GaugeMetricFamily(
        f"{HEAD}server_replica_lag_bytes", "How far the slowest replica is behind.", labels=["node"]
    )
    for node, report in snapshot.reports.items():
        if not isinstance(report.keyspace, Unavailable):
            for database in report.keyspace:
                keys.add_metric([node, str(database.number)], database.keys)
        if not isinstance(report.replication, Unavailable) and report.replication.replicas:
            lag.add_metric([node], max(replica.behind or 0 for replica in report.replication.replicas))
    yield keys
    yield lag


def _patterns(view: PatternView, queues: Collection[str]) -> Iterable[Metric]:
    held = GaugeMetricFamily(f"{HEAD}locks_held", "Locks that somebody holds.", labels=["kind"])
    waiting = GaugeMetricFamily(f"{HEAD}lock_waiters", "Callers that wait for a lock.", labels=["kind"])
    for kind in sorted({lock.kind for lock in view.locks}):
        held.add_metric([kind], sum(lock.held for lock in view.locks if lock.kind == kind))
        waiting.add_metric([kind], sum(lock.waiting for lock in view.locks if lock.kind == kind))
    messages = GaugeMetricFamily(f"{HEAD}queue_messages", "Messages of a queue.", labels=["queue", "state"])
    age = GaugeMetricFamily(f"{HEAD}queue_age_seconds", "How long the next message has waited.", labels=["queue"])
    groups: dict[str, list[Any]] = {}
    for queue in view.queues:
        groups.setdefault(queue.name if queue.name in queues else OTHER, []).append(queue)
    for name, members in groups.items():
        for state in ("ready", "leased", "delayed", "dead"):
            messages.add_metric([name, state], sum(getattr(queue, state) for queue in members))
        ages = [queue.age for queue in members if queue.age is not None]
        if ages:
            age.add_metric([name], max(ages))
    objects = GaugeMetricFamily(f"{HEAD}keys", "Keys that the objects of a family have.", labels=["family"])
    keys: dict[str, int] = {}
    for each in view.objects:  # what nobody here has made is named by a word out of the user's key
        family = each.family if each.family in FAMILIES else OTHER
        keys[family] = keys.get(family, 0) + each.keys
    for family, count in sorted(keys.items()):
        objects.add_metric([family], count)
    yield from (held, waiting, messages, age, objects)


def _watched(watched: Mapping[str, HasStatistics]) -> Iterable[Metric]:
    family = GaugeMetricFamily(
        f"{HEAD}statistics", "Numbers of a watched object's statistics().", labels=["object", "field"]
    )
    for name, thing in watched.items():
        record: Any = thing.statistics()
        if not dataclasses.is_dataclass(record):
            continue
        for each in dataclasses.fields(record):
            value = getattr(record, each.name)
            if isinstance(value, (bool, int, float)):
                family.add_metric([name, each.name], float(value))
    yield family
