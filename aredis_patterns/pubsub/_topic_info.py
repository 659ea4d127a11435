"""How a topic stands: for operators, dashboards and tests. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aredis_patterns.pubsub._delivery import DeadDelivery
from aredis_patterns.pubsub._keys import text_of
from aredis_patterns.pubsub._topic_core import TopicCore
from aredis_patterns.types import Command

__all__ = ["DurableInfo", "TopicInfo", "read_dead_letters", "read_info"]


@dataclass(frozen=True, slots=True)
class DurableInfo:
    """One durable subscription."""

    name: str
    lag: int
    """Messages that nobody has fetched yet."""
    unacked: int
    """Handed out, and not settled."""
    dead: int
    """Dead letters."""


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """One topic. Numbers begin with 1; `published` counts everything since the topic exists."""

    length: int
    published: int
    durables: tuple[DurableInfo, ...]


async def read_info(core: TopicCore) -> TopicInfo:
    """See `Topic.info`. The parts are not read at one moment."""
    keys = core.keys
    length, count, names = await _batch(
        core, [("XLEN", core.stream), ("GET", keys.counter), ("ZRANGE", keys.durables, 0, -1)]
    )
    published = int(count or 0)
    commands: list[Command] = []
    for name in names:
        theirs = keys.durable(name)
        commands += [("HGET", theirs.state, "number"), ("ZCARD", theirs.leases), ("XLEN", theirs.dead)]
    replies = await _batch(core, commands) if commands else []
    durables = [
        DurableInfo(text_of(name), max(0, published - int(number)), unacked, dead)
        for name, number, unacked, dead in zip(names, replies[::3], replies[1::3], replies[2::3], strict=True)
        if number is not None
    ]
    return TopicInfo(length, published, tuple(durables))


async def read_dead_letters(core: TopicCore, durable: str, count: int) -> list[DeadDelivery]:
    """See `Topic.dead_letters`."""
    dead = core.keys.durable(durable).dead
    found: list[DeadDelivery] = []
    for _, fields in await core.commands.call("XREVRANGE", dead, "+", "-", "COUNT", count, key=dead):
        letter: dict[bytes, bytes] = dict(zip(fields[::2], fields[1::2], strict=True))
        found.append(DeadDelivery(int(letter[b"n"]), int(letter[b"a"]), letter[b"r"].decode(), letter[b"d"]))
    return found


async def _batch(core: TopicCore, commands: list[Command]) -> list[Any]:
    replies = await core.commands.batch(commands, key=core.stream)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
