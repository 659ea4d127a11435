"""What a server says of itself, typed.

Durations are seconds, sizes are bytes, moments are aware datetimes in UTC. None: this server does not have the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias, TypeVar

__all__ = [
    "ClientConnection",
    "Clients",
    "CommandStatistics",
    "Database",
    "LatencyEvent",
    "LatencyHistogram",
    "Memory",
    "NodeReport",
    "Persistence",
    "Replica",
    "Replication",
    "Section",
    "ServerInfo",
    "SlowCommand",
    "Stats",
    "Unavailable",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A section that could not be had. The others are not affected."""

    reason: str
    kind: Literal["permission", "unreachable", "error"] = "error"
    """Whether this user may not ask, nobody answered, or the server said something else."""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"unavailable: {self.reason}"


Section: TypeAlias = T | Unavailable
"""A section of a report, or why there is none: the ACL of this user, most often."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """INFO server."""

    name: str
    """"Valkey" or "Redis": Valkey is known by its own version, not by the one that it claims for compatibility."""
    version: str | None
    mode: str | None
    """"standalone", "sentinel" or "cluster"."""
    os: str | None
    process_id: int | None
    run_id: str | None
    port: int | None
    uptime: float | None
    config_file: str | None


@dataclass(frozen=True, slots=True)
class Memory:
    """INFO memory."""

    used: int | None
    peak: int | None
    rss: int | None
    """What the operating system has given."""
    dataset: int | None
    clients: int | None
    """Buffers of ordinary clients."""
    scripts: int | None
    """What the interpreters and the cached scripts take."""
    limit: int | None
    """`maxmemory`; None without one."""
    policy: str | None
    """What is evicted at the limit."""
    fragmentation: float | None
    """`rss / used`. Much above 1 is waste, below 1 is swap."""
    allocator: str | None

    @property
    def fill(self) -> float | None:
        """`used / limit`."""
        return None if self.used is None or not self.limit else self.used / self.limit


@dataclass(frozen=True, slots=True)
class Stats:
    """INFO stats. Counters since the server started, or since CONFIG RESETSTAT; rates are of this moment."""

    connections: int | None
    commands: int | None
    commands_per_second: float | None
    input_bytes: int | None
    output_bytes: int | None
    hits: int | None
    misses: int | None
    evicted: int | None
    expired: int | None
    rejected_connections: int | None
    error_replies: int | None
    fork_seconds: float | None
    """How long the last fork (for a snapshot) held the server."""
    channels: int | None
    patterns: int | None

    @property
    def hit_ratio(self) -> float | None:
        """Hits of all lookups of keys; None before the first."""
        if self.hits is None or self.misses is None or self.hits + self.misses == 0:
            return None
        return self.hits / (self.hits + self.misses)


@dataclass(frozen=True, slots=True)
class Clients:
    """INFO clients."""

    connected: int | None
    limit: int | None
    blocked: int | None
    """Waiting in BLPOP and the like."""
    tracking: int | None
    """With server-assisted invalidation."""
    subscribed: int | None
    watching: int | None


@dataclass(frozen=True, slots=True)
class Persistence:
    """INFO persistence."""

    loading: bool | None
    saved_at: datetime | None
    save_ok: bool | None
    changes_since_save: int | None
    append_only: bool | None
    append_only_ok: bool | None


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica, as its primary sees it."""

    address: str
    state: str
    behind: int | None
    """Bytes of the stream that it has not confirmed."""
    lag: float | None
    """Since its last word."""


@dataclass(frozen=True, slots=True)
class Replication:
    """INFO replication."""

    role: str | None
    """"primary" or "replica"."""
    replicas: tuple[Replica, ...]
    primary: str | None
    """Of a replica: whose."""
    link_up: bool | None
    """Of a replica: whether it hears its primary."""
    silence: float | None
    """Of a replica: since it last heard something."""
    offset: int | None


@dataclass(frozen=True, slots=True)
class Database:
    """One line of INFO keyspace."""

    number: int
    keys: int
    expiring: int
    """Keys with a TTL."""
    mean_ttl: float | None


@dataclass(frozen=True, slots=True)
class ClientConnection:
    """One connection of CLIENT LIST."""

    id: int | None
    address: str
    name: str
    user: str | None
    library: str | None
    """Name and version; servers before 7.2 do not know it."""
    database: int | None
    age: float | None
    idle: float | None
    flags: str
    command: str | None
    """The last one."""
    subscriptions: int
    protocol: int | None
    memory: int | None
    waiting_output: int | None
    """Bytes of replies that it has not read: a slow reader."""
    fields: Mapping[str, str] = field(repr=False)
    """All of the line, also what has no name here."""

    @property
    def blocked(self) -> bool:
        """Whether it waits in a blocking command."""
        return "b" in self.flags


@dataclass(frozen=True, slots=True)
class SlowCommand:
    """One entry of SLOWLOG."""

    id: int
    at: datetime
    duration: float
    args: tuple[bytes, ...]
    """Exactly what was sent, unless redacted; the server itself keeps 32 arguments of 128 bytes."""
    client: str | None
    client_name: str | None
    complexity: str | None = None
    """Redis Enterprise's estimate."""
    argument_count: int | None = None
    """How many arguments were sent, where the server says so."""


@dataclass(frozen=True, slots=True)
class LatencyEvent:
    """One line of LATENCY LATEST: a spike above `latency-monitor-threshold`."""

    event: str
    at: datetime
    latest: float
    worst: float


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """LATENCY HISTOGRAM of one command."""

    command: str
    calls: int
    buckets: Mapping[float, int]
    """Calls that took at most so many seconds, cumulative."""


@dataclass(frozen=True, slots=True)
class CommandStatistics:
    """One command of INFO commandstats and latencystats."""

    command: str
    """"get", "config|set"."""
    calls: int
    seconds: float
    """In total: what this command has cost the server."""
    rejected: int
    failed: int
    percentiles: Mapping[float, float] = field(default_factory=dict[float, float])
    """50.0 -> seconds, and so on."""

    @property
    def mean(self) -> float:
        """Seconds per call."""
        return self.seconds / self.calls if self.calls else 0.0


@dataclass(frozen=True, slots=True)
class NodeReport:
    """Everything about one server. A section that could not be had is `Unavailable`, with the reason."""

    node: str
    server: Section[ServerInfo]
    memory: Section[Memory]
    stats: Section[Stats]
    clients: Section[Clients]
    persistence: Section[Persistence]
    replication: Section[Replication]
    keyspace: Section[tuple[Database, ...]]
    commands: Section[tuple[CommandStatistics, ...]]
    connections: Section[tuple[ClientConnection, ...]]
    slowlog: Section[tuple[SlowCommand, ...]]
    latency: Section[tuple[LatencyEvent, ...]]
