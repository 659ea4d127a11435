"""Replies of the server as records. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aredis_patterns.monitoring._info import Fields, pairs_of
from aredis_patterns.monitoring.records import (
    ClientConnection,
    Clients,
    CommandStatistics,
    Database,
    LatencyEvent,
    LatencyHistogram,
    Memory,
    Persistence,
    Replica,
    Replication,
    ServerInfo,
    SlowCommand,
    Stats,
)

_OLD_ROLES = {"master": "primary", "slave": "replica"}


def server_info(info: Fields) -> ServerInfo:
    """Valkey says `redis_version:7.2.4` for ever, beside its own."""
    valkey = info.text("valkey_version")
    return ServerInfo(
        name="Valkey" if valkey else "Redis",
        version=valkey or info.text("redis_version"),
        mode=info.text("server_mode", "redis_mode"),
        os=info.text("os"),
        process_id=info.integer("process_id"),
        run_id=info.text("run_id"),
        port=info.integer("tcp_port"),
        uptime=info.number("uptime_in_seconds"),
        config_file=info.text("config_file"),
    )


def memory(info: Fields) -> Memory:
    return Memory(
        used=info.integer("used_memory"),
        peak=info.integer("used_memory_peak"),
        rss=info.integer("used_memory_rss"),
        dataset=info.integer("used_memory_dataset"),
        clients=info.integer("mem_clients_normal"),
        scripts=info.integer("used_memory_vm_total", "used_memory_lua"),
        limit=info.integer("maxmemory") or None,
        policy=info.text("maxmemory_policy"),
        fragmentation=info.number("mem_fragmentation_ratio"),
        allocator=info.text("mem_allocator"),
    )


def stats(info: Fields) -> Stats:
    fork = info.number("latest_fork_usec")
    return Stats(
        connections=info.integer("total_connections_received"),
        commands=info.integer("total_commands_processed"),
        commands_per_second=info.number("instantaneous_ops_per_sec"),
        input_bytes=info.integer("total_net_input_bytes"),
        output_bytes=info.integer("total_net_output_bytes"),
        hits=info.integer("keyspace_hits"),
        misses=info.integer("keyspace_misses"),
        evicted=info.integer("evicted_keys"),
        expired=info.integer("expired_keys"),
        rejected_connections=info.integer("rejected_connections"),
        error_replies=info.integer("total_error_replies"),
        fork_seconds=None if fork is None else fork / 1e6,
        channels=info.integer("pubsub_channels"),
        patterns=info.integer("pubsub_patterns"),
    )


def clients(info: Fields) -> Clients:
    return Clients(
        connected=info.integer("connected_clients"),
        limit=info.integer("maxclients"),
        blocked=info.integer("blocked_clients"),
        tracking=info.integer("tracking_clients"),
        subscribed=info.integer("pubsub_clients"),
        watching=info.integer("watching_clients"),
    )


def persistence(info: Fields) -> Persistence:
    return Persistence(
        loading=info.flag("loading"),
        saved_at=info.moment("rdb_last_save_time"),
        save_ok=info.flag("rdb_last_bgsave_status"),
        changes_since_save=info.integer("rdb_changes_since_last_save"),
        append_only=info.flag("aof_enabled"),
        append_only_ok=info.flag("aof_last_write_status"),
    )


def replication(info: Fields) -> Replication:
    offset = info.integer("master_repl_offset")
    role = info.text("role")
    host, port = info.text("master_host"), info.text("master_port")
    return Replication(
        role=None if role is None else _OLD_ROLES.get(role, role),
        replicas=tuple(
            _replica(pairs_of(value), offset)
            for name, value in info
            if name.startswith("slave") and name.removeprefix("slave").isdigit()
        ),
        primary=f"{host}:{port}" if host else None,
        link_up=info.flag("master_link_status"),
        silence=info.number("master_link_down_since_seconds", "master_last_io_seconds_ago"),
        offset=info.integer("slave_repl_offset") if role == "slave" else offset,
    )


def _replica(line: Fields, offset: int | None) -> Replica:
    theirs = line.integer("offset")
    return Replica(
        address=f"{line.text('ip')}:{line.text('port')}",
        state=line.text("state") or "unknown",
        behind=None if offset is None or theirs is None else max(0, offset - theirs),
        lag=line.number("lag"),
    )


def keyspace(info: Fields) -> tuple[Database, ...]:
    found: list[Database] = []
    for name, value in info:
        if name.startswith("db") and name.removeprefix("db").isdigit():
            line = pairs_of(value)
            ttl = line.number("avg_ttl")
            found.append(
                Database(
                    number=int(name.removeprefix("db")),
                    keys=line.integer("keys") or 0,
                    expiring=line.integer("expires") or 0,
                    mean_ttl=ttl / 1000 if ttl else None,
                )
            )
    return tuple(found)


def command_statistics(info: Fields) -> tuple[CommandStatistics, ...]:
    """Most expensive first."""
    percentiles = {
        name.removeprefix("latency_percentiles_usec_"): {
            float(point.removeprefix("p")): float(micros) / 1e6 for point, micros in pairs_of(value)
        }
        for name, value in info
        if name.startswith("latency_percentiles_usec_")
    }
    found = [
        CommandStatistics(
            command=command,
            calls=line.integer("calls") or 0,
            seconds=(line.number("usec") or 0.0) / 1e6,
            rejected=line.integer("rejected_calls") or 0,
            failed=line.integer("failed_calls") or 0,
            percentiles=percentiles.get(command, {}),
        )
        for command, line in (
            (name.removeprefix("cmdstat_"), pairs_of(value)) for name, value in info if name.startswith("cmdstat_")
        )
    ]
    return tuple(sorted(found, key=lambda each: each.seconds, reverse=True))


def connection(line: Fields) -> ClientConnection:
    library = " ".join(filter(None, (line.text("lib-name"), line.text("lib-ver"))))
    return ClientConnection(
        id=line.integer("id"),
        address=line.text("addr") or "",
        name=line.text("name") or "",
        user=line.text("user"),
        library=library or None,
        database=line.integer("db"),
        age=line.number("age"),
        idle=line.number("idle"),
        flags=line.text("flags") or "",
        command=line.text("cmd"),
        subscriptions=sum(line.integer(name) or 0 for name in ("sub", "psub", "ssub")),
        protocol=line.integer("resp"),
        memory=line.integer("tot-mem"),
        waiting_output=line.integer("omem"),
        fields=dict(line),
    )


def slow_command(entry: Sequence[Any]) -> SlowCommand:
    """Entries have grown over the years: what is not known is passed over.

    Redis Enterprise puts its complexity in front of the arguments; Redis 8.10 adds the number of arguments at the end.
    """
    number, at, micros = entry[:3]
    rest = list(entry[3:])
    complexity = None if isinstance(rest[0], (list, tuple)) else as_text(rest.pop(0))
    args, *more = rest
    return SlowCommand(
        id=int(number),
        at=datetime.fromtimestamp(int(at), UTC),
        duration=int(micros) / 1e6,
        args=tuple(_as_bytes(arg) for arg in args),
        client=as_text(more[0]) if more else None,
        client_name=(as_text(more[1]) or None) if len(more) > 1 else None,
        complexity=complexity,
        argument_count=next((each for each in more[2:] if isinstance(each, int)), None),
    )


def latency_event(entry: Sequence[Any]) -> LatencyEvent:
    """Newer servers add sums behind the four that everybody has."""
    name, at, latest, worst = entry[:4]
    return LatencyEvent(as_text(name), datetime.fromtimestamp(int(at), UTC), int(latest) / 1e3, int(worst) / 1e3)


def latency_histograms(reply: object) -> tuple[LatencyHistogram, ...]:
    found: list[LatencyHistogram] = []
    for command, value in as_mapping(reply).items():
        line = as_mapping(value)
        buckets = as_mapping(line.get("histogram_usec", {}))
        found.append(
            LatencyHistogram(
                command=command,
                calls=int(line.get("calls", 0)),
                buckets={int(micros) / 1e6: int(count) for micros, count in buckets.items()},
            )
        )
    return tuple(found)


def as_mapping(reply: Any) -> dict[str, Any]:
    """A RESP3 map, or the flat list that RESP2 makes of it; names as text."""
    if isinstance(reply, Mapping):
        return {as_text(name): value for name, value in reply.items()}
    return {as_text(name): value for name, value in zip(reply[::2], reply[1::2], strict=True)}


def as_text(value: object) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
