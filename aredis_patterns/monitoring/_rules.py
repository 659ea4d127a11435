"""What `doctor` looks for in the report of one server. Pure: a report in, findings out; one small function per rule.

Each rule knows its reason: a condition that has cost somebody a night, and what ends it. To add one, write a function
and put it into `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar

from aredis_patterns._core.diagnosis import check_version
from aredis_patterns.exceptions import ServerTooOld
from aredis_patterns.monitoring._redaction import name_of
from aredis_patterns.monitoring.records import NodeReport, Section, Unavailable

__all__ = ["RULES", "Finding", "Severity"]

Severity: TypeAlias = Literal["critical", "warning", "info"]
T = TypeVar("T")

MB: Final = 1024 * 1024
SLOW: Final = 0.1
"""Seconds of one command that everybody else has felt."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be so, and what to do about it."""

    code: str
    """A fixed name, for machines: "no-maxmemory"."""
    severity: Severity
    message: str
    fix: str
    node: str = ""


Rule: TypeAlias = Callable[[NodeReport], Iterator[Finding]]


def _had(section: Section[T]) -> T | None:
    return None if isinstance(section, Unavailable) else section


def old_server(report: NodeReport) -> Iterator[Finding]:
    """Scripts of this library need commands of 7.0."""
    server = _had(report.server)
    if server is None or server.version is None:
        return
    field = "valkey_version" if server.name == "Valkey" else "redis_version"
    try:
        check_version({field: server.version})
    except ServerTooOld as error:
        yield Finding("server-too-old", "critical", str(error), "upgrade the server")


def memory_limit(report: NodeReport) -> Iterator[Finding]:
    """Without a limit the operating system chooses when to kill the server."""
    memory = _had(report.memory)
    if memory is None or memory.used is None:
        return
    if memory.limit is None:
        yield Finding(
            "no-maxmemory",
            "warning",
            "maxmemory is not set: the server grows until the operating system kills it",
            "CONFIG SET maxmemory <three quarters of the machine>, and write it to the configuration file",
        )
        return
    fill = memory.fill or 0.0
    if fill >= 0.95 and memory.policy == "noeviction":
        yield Finding(
            "memory-full",
            "critical",
            f"{fill:.0%} of maxmemory is used and nothing may be evicted: writes are about to fail",
            "free memory (aredis-patterns keys shows where it is), or raise maxmemory",
        )
    elif fill >= 0.8 and memory.policy == "noeviction":
        yield Finding(
            "memory-filling",
            "warning",
            f"{fill:.0%} of maxmemory is used and nothing may be evicted",
            "find the big keys with: aredis-patterns keys",
        )


def eviction(report: NodeReport) -> Iterator[Finding]:
    """Eviction is right for a cache and wrong for everything else that lives here."""
    memory, stats = _had(report.memory), _had(report.stats)
    if memory is not None and memory.limit and (memory.policy or "").startswith("allkeys"):
        yield Finding(
            "evicts-everything",
            "warning",
            f"maxmemory-policy {memory.policy} may evict any key: locks, queues and sessions, too",
            "give the cache a server of its own, or use a volatile-* policy and keep TTLs long where a key must stay",
        )
    if stats is not None and stats.evicted:
        yield Finding(
            "evictions",
            "warning",
            f"{stats.evicted} keys were evicted since the start",
            "raise maxmemory, shorten TTLs, or move the cache to a server of its own",
        )


def fragmentation(report: NodeReport) -> Iterator[Finding]:
    """On a small instance the ratio says nothing: the program itself is most of it."""
    memory = _had(report.memory)
    if memory is None or memory.fragmentation is None or (memory.used or 0) < 64 * MB:
        return
    if memory.fragmentation > 1.5:
        yield Finding(
            "fragmentation",
            "warning",
            f"the server holds {memory.fragmentation:.2f} times the memory that it uses",
            "CONFIG SET activedefrag yes (with jemalloc), or restart it at a quiet hour",
        )
    elif memory.fragmentation < 0.9:
        yield Finding(
            "swapping",
            "critical",
            f"only {memory.fragmentation:.0%} of its memory is resident: the rest is in swap, and every access waits",
            "add memory, lower maxmemory, and switch swap off for this process",
        )


def connections(report: NodeReport) -> Iterator[Finding]:
    """A server that is full refuses the next deployment."""
    clients, stats = _had(report.clients), _had(report.stats)
    if stats is not None and stats.rejected_connections:
        yield Finding(
            "rejected-connections",
            "critical",
            f"{stats.rejected_connections} connections were refused because maxclients was reached",
            "raise maxclients, or use fewer connections: PipelinedRedis needs one per process",
        )
    if clients is not None and clients.connected and clients.limit and clients.connected > 0.8 * clients.limit:
        yield Finding(
            "many-connections",
            "warning",
            f"{clients.connected} of {clients.limit} connections are in use",
            "use one client per process (PipelinedRedis shares one connection), and close those that are idle",
        )
    if clients is not None and clients.blocked and clients.connected and clients.blocked > 100:
        yield Finding(
            "blocked-clients",
            "info",
            f"{clients.blocked} connections wait in blocking commands",
            "fine for workers; a surprise anywhere else: look with CLIENT LIST",
        )


def slow_readers(report: NodeReport) -> Iterator[Finding]:
    """Replies that nobody reads are kept in the server's memory."""
    for each in _had(report.connections) or ():
        if (each.waiting_output or 0) > 8 * MB:
            yield Finding(
                "slow-reader",
                "warning",
                f"connection {each.id} ({each.name or each.address}) has {each.waiting_output} unread bytes",
                "its process is too slow or stuck; limit it with client-output-buffer-limit",
            )


def replicas(report: NodeReport) -> Iterator[Finding]:
    """What a failover now would lose."""
    state = _had(report.replication)
    if state is None:
        return
    if state.role == "replica" and state.link_up is False:
        yield Finding(
            "primary-lost",
            "critical",
            f"this replica has not heard its primary {state.primary} for {state.silence or 0:g} s",
            "check the primary and the network between them; masterauth must be right",
        )
    for replica in state.replicas:
        if (replica.lag or 0) > 10 or (replica.behind or 0) > 64 * MB:
            yield Finding(
                "replica-lag",
                "warning",
                f"replica {replica.address} is {replica.behind or 0} bytes and {replica.lag or 0:g} s behind",
                "check its load and the network; a failover now would lose that much",
            )


def persistence(report: NodeReport) -> Iterator[Finding]:
    """A snapshot that fails is noticed when it is needed."""
    state = _had(report.persistence)
    if state is None:
        return
    if state.loading:
        yield Finding("loading", "warning", "the server is loading its data", "wait; calls meanwhile wait or fail")
    if state.save_ok is False:
        yield Finding(
            "snapshot-failed",
            "critical",
            "the last snapshot failed; with stop-writes-on-bgsave-error the server refuses writes",
            "look at its log: the disk is full, or there is no memory for the fork (vm.overcommit_memory=1)",
        )
    if state.append_only and state.append_only_ok is False:
        yield Finding(
            "append-only-failed", "critical", "the append-only file cannot be written", "look at its log: a full disk"
        )


def slow_commands(report: NodeReport) -> Iterator[Finding]:
    """One thread executes all commands: while one runs, everybody waits."""
    slow = [each for each in _had(report.slowlog) or () if each.duration >= SLOW]
    if slow:
        worst = max(slow, key=lambda each: each.duration)
        yield Finding(
            "slow-commands",
            "warning",
            f"{len(slow)} of the latest slow commands took {SLOW:g} s or more; the worst, {name_of(worst.args)}, took "
            f"{worst.duration:.2f} s",
            "look at them with: aredis-patterns slowlog. Ask for less at once: SCAN for KEYS, ranges for whole collections",
        )
    for each in _had(report.commands) or ():
        if each.command in ("keys", "flushall", "flushdb") and each.calls:
            yield Finding(
                f"{each.command}-used",
                "warning" if each.command == "keys" else "info",
                f"{each.command.upper()} was called {each.calls} times, {each.mean * 1e3:.1f} ms each",
                "use SCAN"
                if each.command == "keys"
                else "take it away from applications: ACL SETUSER <user> -@dangerous",
            )


def forks(report: NodeReport) -> Iterator[Finding]:
    """A fork copies page tables, and nobody is served meanwhile."""
    stats = _had(report.stats)
    if stats is not None and (stats.fork_seconds or 0) > 0.5:
        yield Finding(
            "slow-fork",
            "warning",
            f"the last fork held the server for {stats.fork_seconds:.2f} s",
            "switch transparent huge pages off, or take snapshots on a replica",
        )


def misses(report: NodeReport) -> Iterator[Finding]:
    """Of a cache; on a server of queues and locks it is normal, so it is only mentioned."""
    stats = _had(report.stats)
    if stats is None or stats.hit_ratio is None or (stats.hits or 0) + (stats.misses or 0) < 10_000:
        return
    if stats.hit_ratio < 0.5:
        yield Finding(
            "low-hit-ratio",
            "info",
            f"only {stats.hit_ratio:.0%} of lookups find a key",
            "if this is a cache: longer TTLs, more memory, or a negative_ttl for what does not exist",
        )


def unseen(report: NodeReport) -> Iterator[Finding]:
    """What could not be looked at cannot be well for certain."""
    missing = {name: each for name in report.__slots__ if isinstance(each := getattr(report, name), Unavailable)}
    silent = next((each for each in missing.values() if each.kind == "unreachable"), None)
    if silent is not None:
        yield Finding("unreachable", "critical", silent.reason, "start the server, or mend the network to it")
    sections: dict[str, list[str]] = {}
    for name, each in missing.items():
        if each.kind != "unreachable":
            sections.setdefault(str(each), []).append(name)
    for reason, names in sections.items():
        # Without INFO next to nothing was examined: that is not "nothing to complain of".
        severity: Severity = "warning" if "server" in names else "info"
        yield Finding(
            "unavailable", severity, f"{', '.join(names)} {reason}", "grant it, or run the doctor as another user"
        )


RULES: Final[tuple[Rule, ...]] = (
    old_server, memory_limit, eviction, fragmentation, connections, slow_readers, replicas, persistence, slow_commands,
    forks, misses, unseen,
)  # fmt: skip
