"""`Inspector`: what servers say of themselves, as typed records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from redis.exceptions import ConnectionError, NoPermissionError, RedisError, TimeoutError

from aredis_patterns._core.diagnosis import translate
from aredis_patterns._core.durations import to_seconds
from aredis_patterns.exceptions import PatternError
from aredis_patterns.monitoring import _parsing as parsing
from aredis_patterns.monitoring._info import Fields, parse_client_list, parse_info
from aredis_patterns.monitoring._redaction import Redaction, check_redaction, redact
from aredis_patterns.monitoring.records import (
    ClientConnection,
    Clients,
    CommandStatistics,
    Database,
    LatencyEvent,
    LatencyHistogram,
    Memory,
    NodeReport,
    Persistence,
    Replication,
    Section,
    ServerInfo,
    SlowCommand,
    Stats,
    Unavailable,
)
from aredis_patterns.pipelining import lane_of
from aredis_patterns.pipelining._nodes import Node, nodes_of
from aredis_patterns.types import Commands, Encodable, Key, RedisClient, Seconds

__all__ = ["Inspector"]

T = TypeVar("T")

_SECTIONS: Final = ("server", "memory", "stats", "clients", "persistence", "replication", "keyspace")


class Inspector:
    """Asks a server about itself: typed records, exact arguments, nothing secret unless asked for.

    Every method is one round trip on the shared connection and changes nothing on the server. All replies are small
    except those of `connections`, `slowlog` and `commandstats`, which grow with their number.

    In a Cluster each server has its own answer: `nodes()` gives an inspector for each, `report()` asks all of them. A
    method that is asked of the Cluster as a whole raises ValueError.

    Args:
        client: any `redis.asyncio` client.
        deadline: seconds after which a silent server raises ReplyTimeout.

    Errors: PermissionDenied with the rule to add, where the ACL of this user forbids a command. `report()` raises
    nothing of the kind: a section that cannot be had is `Unavailable`, with the reason.

        inspector = Inspector(redis)
        print((await inspector.memory()).used, (await inspector.stats()).hit_ratio)
    """

    def __init__(self, client: RedisClient, *, deadline: Seconds = 5.0) -> None:
        self._client: Final = client
        self._deadline: Final = to_seconds(deadline, "deadline")
        self._node: Node | None = None

    def __repr__(self) -> str:
        return f"<Inspector of {self._node.name if self._node else repr(self._client)}>"

    async def nodes(self) -> dict[str, Inspector]:
        """An inspector for each server, by its address; primaries first. Valid in this event loop."""
        found: dict[str, Inspector] = {}
        for node in await nodes_of(self._client):
            found[node.name] = each = Inspector(self._client, deadline=self._deadline)
            each._node = node
        return found

    async def server(self) -> ServerInfo:
        """Who it is. Valkey is told from Redis."""
        return parsing.server_info(await self._info("server"))

    async def memory(self) -> Memory:
        """How much it uses, of how much."""
        return parsing.memory(await self._info("memory"))

    async def stats(self) -> Stats:
        """Rates, hits and misses, evictions, refused connections."""
        return parsing.stats(await self._info("stats"))

    async def clients(self) -> Clients:
        """How many connections there are, in a few numbers. Each of them: `connections`."""
        return parsing.clients(await self._info("clients"))

    async def persistence(self) -> Persistence:
        """Whether the last snapshot and the append-only file are well."""
        return parsing.persistence(await self._info("persistence"))

    async def replication(self) -> Replication:
        """Its role, its replicas and how far behind they are, or its primary and whether it hears it."""
        return parsing.replication(await self._info("replication"))

    async def keyspace(self) -> tuple[Database, ...]:
        """Databases that have keys."""
        return parsing.keyspace(await self._info("keyspace"))

    async def commandstats(self) -> tuple[CommandStatistics, ...]:
        """What each command has cost the server since its start or CONFIG RESETSTAT; most expensive first."""
        return parsing.command_statistics(await self._info("commandstats", "latencystats"))

    async def connections(
        self, *, kind: str | None = None, ids: Sequence[int] | None = None
    ) -> tuple[ClientConnection, ...]:
        """CLIENT LIST: every connection, or those of one kind ("normal", "replica", "pubsub"), or those with these ids."""
        if kind is not None and ids is not None:
            raise ValueError("connections are chosen by kind or by ids, not by both")
        chosen: list[Encodable] = []
        if kind is not None:
            chosen = ["TYPE", kind]
        elif ids is not None:
            if not ids:
                return ()
            chosen = ["ID", *ids]
        reply = await self._call("CLIENT", "LIST", *chosen)
        return tuple(parsing.connection(line) for line in parse_client_list(reply))

    async def slowlog(self, limit: int = 128, *, redact: Redaction = "values") -> tuple[SlowCommand, ...]:
        """Commands that took longer than `slowlog-log-slower-than`, newest first; -1 for all that the server keeps.

        Arguments are exact bytes; "values" (default) shows commands and keys, "all" commands only, "none" everything.
        """
        how = check_redaction(redact)
        if limit < -1:
            raise ValueError(f"limit is a number of entries, or -1 for all, got {limit!r}")
        entries: Any = await self._call("SLOWLOG", "GET", limit)
        return tuple(_redacted(parsing.slow_command(entry), how) for entry in entries)

    async def latency(self) -> tuple[LatencyEvent, ...]:
        """LATENCY LATEST: spikes; empty unless `latency-monitor-threshold` is set."""
        entries: Any = await self._call("LATENCY", "LATEST")
        return tuple(parsing.latency_event(entry) for entry in entries)

    async def latency_histogram(self, *commands: str) -> tuple[LatencyHistogram, ...]:
        """LATENCY HISTOGRAM of these commands, or of all."""
        return parsing.latency_histograms(await self._call("LATENCY", "HISTOGRAM", *commands))

    async def memory_usage(self, key: Key, *, samples: int = 5) -> int | None:
        """Bytes that a key takes with its value; None when there is no such key. Its idle time stays as it is.

        Of a collection `samples` elements are measured, 0 for all: O(samples). In a Cluster the node of the key is
        asked.
        """
        if samples < 0:
            raise ValueError(f"samples must not be negative, got {samples!r}")
        where = self._node.commands if self._node is not None else lane_of(self._client)
        reply = await self._ask(
            where.call("MEMORY", "USAGE", key, "SAMPLES", samples, key=key, deadline=self._deadline), "MEMORY USAGE"
        )
        return None if reply is None else int(reply)

    async def report(self, *, slowlog: int = 16, redact: Redaction = "values") -> dict[str, NodeReport]:
        """Everything about every server, by its address. One round trip for what is INFO, one for each other section.

        Never raises because of one section, or of one server: see `Unavailable`. Raises ServerUnavailable when no node
        of a Cluster can be found.
        """
        inspectors = await self.nodes()
        reports = await asyncio.gather(*(each._report(slowlog, redact) for each in inspectors.values()))
        return {report.node: report for report in reports}

    async def _report(self, slowlog: int, redact: Redaction) -> NodeReport:
        assert self._node is not None
        info, commands, connections, slow, latency = await asyncio.gather(
            section(self._info(*_SECTIONS)),
            section(self.commandstats()),
            section(self.connections()),
            section(self.slowlog(slowlog, redact=redact)),
            section(self.latency()),
        )

        def of(make: Callable[[Fields], T]) -> Section[T]:
            return info if isinstance(info, Unavailable) else make(info)

        return NodeReport(
            node=self._node.name,
            server=of(parsing.server_info),
            memory=of(parsing.memory),
            stats=of(parsing.stats),
            clients=of(parsing.clients),
            persistence=of(parsing.persistence),
            replication=of(parsing.replication),
            keyspace=of(parsing.keyspace),
            commands=commands,
            connections=connections,
            slowlog=slow,
            latency=latency,
        )

    async def _info(self, *sections: str) -> Fields:
        return parse_info(await self._call("INFO", *sections))

    async def _call(self, name: str, *rest: Encodable) -> Any:
        commands = await self._commands()
        asked = commands.call(name, *rest, deadline=self._deadline)
        return await self._ask(asked, " ".join(map(str, (name, *rest)[:2])))

    async def _commands(self) -> Commands:
        if self._node is not None:
            return self._node.commands
        # No I/O for a single server. Never kept: it belongs to one event loop.
        first, *others = await nodes_of(self._client)
        if others:
            names = ", ".join(node.name for node in (first, *others))
            raise ValueError(f"this client is a Cluster of {names}: ask one of them through nodes(), or report()")
        return first.commands

    @staticmethod
    async def _ask(asked: Awaitable[T], command: str) -> T:
        try:
            return await asked
        except RedisError as error:
            known = translate(error, command=command)
            if known is error:
                raise
            raise known from error


async def section(asked: Awaitable[T]) -> Section[T]:
    """What was asked for, or why it cannot be had."""
    try:
        return await asked
    except NoPermissionError as error:
        return Unavailable(str(error), "permission")
    except (ConnectionError, TimeoutError, OSError) as error:
        return Unavailable(str(error), "unreachable")
    except (RedisError, PatternError) as error:
        return Unavailable(f"{type(error).__name__}: {error}", "error")


def _redacted(command: SlowCommand, how: Redaction) -> SlowCommand:
    return replace(command, args=redact(command.args, how))
