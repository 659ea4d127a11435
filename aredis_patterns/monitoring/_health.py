"""`health`: may this process take traffic?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from aredis_patterns._core.diagnosis import check_version, translate
from aredis_patterns._core.durations import to_seconds
from aredis_patterns.exceptions import PatternError, ServerTooOld
from aredis_patterns.monitoring import _parsing as parsing
from aredis_patterns.monitoring._info import Fields, parse_info
from aredis_patterns.pipelining._nodes import Node, nodes_of
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["Check", "Health", "NodeHealth", "health"]

FULL: Final = 0.95
"""Share of `maxmemory` above which a server that may not evict is about to refuse writes."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer. `ok` is None where this user may not ask."""

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """One server: whether it can serve, how long it took to answer, and every check."""

    node: str
    ready: bool
    latency: float | None
    """Seconds; None when it did not answer."""
    checks: tuple[Check, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What is not well, in words."""
        return tuple(f"{check.name}: {check.detail}" for check in self.checks if check.ok is False)


@dataclass(frozen=True, slots=True)
class Health:
    """`ready` when every server that takes writes can serve. Truthy accordingly."""

    ready: bool
    nodes: tuple[NodeHealth, ...]

    def __bool__(self) -> bool:
        return self.ready

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what a readiness probe shows."""
        return {
            "status": "ok" if self.ready else "unavailable",
            "nodes": [
                {
                    "node": node.node,
                    "ready": node.ready,
                    "latency_ms": None if node.latency is None else round(node.latency * 1e3, 3),
                    "checks": {check.name: {"ok": check.ok, "detail": check.detail} for check in node.checks},
                }
                for node in self.nodes
            ],
        }


async def health(client: RedisClient, *, deadline: Seconds = 1.0, writes: bool = True) -> Health:
    """Whether the servers of this client can serve, for a readiness probe. One round trip; never raises RedisError.

    A server is ready when it answers within `deadline`, has loaded its data, takes writes (or is a replica of a Cluster,
    which need not), hears its primary, is not full, and is not too old. What the ACL does not let this user see counts
    as unknown, not as ill. Fails closed: no answer is not ready. `writes=False`: a replica will do.

        if not await health(redis): ...      # or: json.dumps((await health(redis)).as_dict())
    """
    seconds = to_seconds(deadline, "deadline")
    try:
        async with asyncio.timeout(seconds):
            nodes = await nodes_of(client)
    except (RedisError, PatternError, OSError) as error:
        return Health(False, (NodeHealth(repr(client), False, None, (_failed(error),)),))
    found = await asyncio.gather(*(_node_health(node, seconds, writes and node.primary) for node in nodes))
    needed = [state for state, node in zip(found, nodes, strict=True) if node.primary]
    return Health(bool(needed) and all(state.ready for state in needed), tuple(found))


async def _node_health(node: Node, seconds: float, writes: bool) -> NodeHealth:
    began = time.perf_counter()
    try:
        ping, info = await node.commands.batch([("PING",), _INFO], deadline=seconds)
        latency = time.perf_counter() - began
        if isinstance(ping, Exception):
            raise ping
    except (RedisError, PatternError, OSError) as error:
        return NodeHealth(node.name, False, None, (_failed(error),))
    checks = [Check("answers", True, f"in {latency * 1e3:.1f} ms")]
    if isinstance(info, ResponseError):
        checks.append(Check("info", None, f"unavailable: {translate(info, command='INFO')}"))
    elif isinstance(info, Exception):
        checks.append(_failed(info))
    else:
        checks += _checks(parse_info(info), writes=writes)
    return NodeHealth(node.name, all(check.ok is not False for check in checks), latency, tuple(checks))


_INFO: Final = ("INFO", "server", "memory", "persistence", "replication")


def _checks(info: Fields, *, writes: bool) -> Sequence[Check]:
    server, memory = parsing.server_info(info), parsing.memory(info)
    persistence, replication = parsing.persistence(info), parsing.replication(info)
    try:
        check_version(dict(info))
        version = Check("version", True, f"{server.name} {server.version}")
    except ServerTooOld as error:
        version = Check("version", False, str(error))
    checks = [version, Check("loaded", not persistence.loading, "loading its data" if persistence.loading else "yes")]
    if replication.role == "replica":
        # A replica where a primary should be; that of a Cluster is where it belongs.
        checks.append(Check("writable", False if writes else None, "a read-only replica"))
        up = replication.link_up is not False
        checks.append(Check("replication", up, "hears its primary" if up else f"cannot hear {replication.primary}"))
    else:
        checks.append(Check("writable", True, replication.role or "yes"))
    full = memory.fill is not None and memory.fill >= FULL and memory.policy == "noeviction"
    used = "no limit" if memory.fill is None else f"{memory.fill:.0%} of maxmemory"
    checks.append(Check("memory", not full, f"{used}, {memory.policy}" if full else used))
    if persistence.append_only and persistence.append_only_ok is False:
        checks.append(Check("persistence", False, "the append-only file cannot be written: writes are refused"))
    return checks


def _failed(error: Exception) -> Check:
    known = translate(error, command="PING")
    return Check("answers", False, str(known) or type(known).__name__)
