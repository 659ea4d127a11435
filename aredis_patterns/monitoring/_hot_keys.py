"""`hot_keys`: which keys are asked for most, by the best means that the server has."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from aredis_patterns._core.durations import to_seconds
from aredis_patterns.monitoring._info import parse_info
from aredis_patterns.monitoring._keyscan import PAGE, _Pace, quiet_connection
from aredis_patterns.monitoring._parsing import as_mapping
from aredis_patterns.monitoring._redaction import keys_of
from aredis_patterns.monitoring._tap import CommandTap
from aredis_patterns.pipelining._nodes import Node, nodes_of
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["HotKey", "HotKeys", "hot_keys"]

HotKeysMethod: TypeAlias = Literal["hotkeys", "lfu", "monitor"]

SAMPLE: Final = 100_000
"""Most commands that a MONITOR sample listens to."""
RATE: Final = 5_000
"""Keys per second whose access counter is read."""


@dataclass(frozen=True, slots=True)
class HotKey:
    """A key and its weight, in the unit of the method."""

    key: bytes
    weight: int
    node: str = ""


@dataclass(frozen=True, slots=True)
class HotKeys:
    """The hottest keys, and how they were found.

    `method`, and what `weight` is: "hotkeys" (the server's own HOTKEYS, 8.6 and later): microseconds of CPU. "lfu": the
    logarithmic access counter of an LFU server, 0 to 255. "monitor": commands in a sample of MONITOR.
    """

    method: HotKeysMethod
    keys: tuple[HotKey, ...]
    sampled: int
    """Microseconds, keys or commands that were looked at."""


async def hot_keys(client: RedisClient, *, duration: Seconds = 10.0, limit: int = 20) -> HotKeys:
    """The keys that are used most. Costs the server something while it runs: see the method that it returns.

    First HOTKEYS for `duration` seconds, where the server has it; else the access counters, where `maxmemory-policy` is
    an LFU one (a scan at 5,000 keys per second, which takes as long as it takes); else a MONITOR sample of `duration`
    seconds and 100,000 commands at most. In a Cluster all nodes are asked.

    Raises ValueError for a limit below 1, PermissionDenied where the ACL forbids all of them.
    """
    seconds = to_seconds(duration, "duration")
    if limit < 1:
        raise ValueError(f"limit must be 1 or more, got {limit!r}")
    nodes = [node for node in await nodes_of(client) if node.primary]
    for way in (_by_hotkeys, _by_lfu):
        found = await way(nodes, seconds, limit)
        if found is not None:
            return found
    return await _by_monitor(client, seconds, limit)


async def _by_hotkeys(nodes: Sequence[Node], seconds: float, limit: int) -> HotKeys | None:
    start = ("HOTKEYS", "START", "METRICS", 1, "CPU", "COUNT", limit, "DURATION", max(1, round(seconds)))
    started: list[Node] = []
    try:
        for node in nodes:
            await node.commands.call(*start)
            started.append(node)
        await asyncio.sleep(seconds)
    except (ResponseError, NoPermissionError):
        return None  # unknown command, no permission, or somebody else's session is running
    finally:
        for node in started:
            node.commands.post("HOTKEYS", "STOP")
    found: list[HotKey] = []
    total = 0
    for node in nodes:
        keys, micros = read_hotkeys(await node.commands.call("HOTKEYS", "GET"), node.name)
        node.commands.post("HOTKEYS", "RESET")
        found += keys
        total += micros
    return HotKeys("hotkeys", _top(found, limit), total)


def read_hotkeys(reply: Any, node: str = "") -> tuple[list[HotKey], int]:
    """The reply of HOTKEYS GET: a map, or the flat list of one, in a list of one. None before the first session."""
    if not reply:
        return [], 0
    fields = as_mapping(reply[0] if isinstance(reply[0] if isinstance(reply, list) else None, (list, dict)) else reply)
    pairs: Any = fields.get("by-cpu-time-us") or []
    if isinstance(pairs, dict):
        pairs = [part for pair in pairs.items() for part in pair]
    keys = [HotKey(key, int(weight), node) for key, weight in zip(pairs[::2], pairs[1::2], strict=True)]
    return keys, int(fields.get("all-commands-all-slots-us") or 0)


async def _by_lfu(nodes: Sequence[Node], seconds: float, limit: int) -> HotKeys | None:
    try:
        policies = [parse_info(await node.commands.call("INFO", "memory")).text("maxmemory_policy") for node in nodes]
    except RedisError:
        return None
    if not all(policy and policy.endswith("-lfu") for policy in policies):
        return None
    found: list[tuple[int, bytes, str]] = []
    looked_at = 0
    for node in nodes:
        pace = _Pace(RATE)
        cursor: Any = b"0"
        async with quiet_connection(node) as (connection, _):
            while True:
                cursor, keys = await connection.call("SCAN", cursor, "COUNT", PAGE)
                counters = await connection.batch([("OBJECT", "FREQ", key) for key in keys]) if keys else []
                looked_at += len(keys)
                known = zip(counters, keys, strict=True)
                found += [(counter, key, node.name) for counter, key in known if isinstance(counter, int)]
                found = heapq.nlargest(limit, set(found))
                if int(cursor) == 0:
                    break
                await pace.wait(len(keys))
    return HotKeys("lfu", tuple(HotKey(key, counter, node) for counter, key, node in found), looked_at)


async def _by_monitor(client: RedisClient, seconds: float, limit: int) -> HotKeys:
    seen: Counter[tuple[bytes, str]] = Counter()  # exact: the sample is bounded
    commands = 0
    async with CommandTap(client, max_commands=SAMPLE, duration=seconds, redact="none") as tap:
        async for command in tap:
            commands += 1
            if not command.from_script:  # its caller has named the key already
                seen.update((key, command.node) for key in set(keys_of(command.args)))
    return HotKeys(
        "monitor", tuple(HotKey(key, count, node) for (key, node), count in seen.most_common(limit)), commands
    )


def _top(keys: list[HotKey], limit: int) -> tuple[HotKey, ...]:
    return tuple(heapq.nlargest(limit, keys, key=lambda key: key.weight))
