"""One typed function per script of this family: the only callers of `lua/*.lua`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from aredis_patterns._core.script import Script
from aredis_patterns.types import Commands, Encodable

__all__ = [
    "Appended",
    "Fetched",
    "Handed",
    "Published",
    "Start",
    "durable_fetch",
    "durable_reschedule",
    "durable_settle",
    "post_reschedule",
    "publish_numbered",
    "topic_position",
    "topic_publish",
]

_PACKAGE: Final = "aredis_patterns.pubsub"
_PUBLISH_NUMBERED: Final = Script.load(_PACKAGE, "publish_numbered")
_TOPIC_PUBLISH: Final = Script.load(_PACKAGE, "topic_publish")
_TOPIC_POSITION: Final = Script.load(_PACKAGE, "topic_position")
_DURABLE_FETCH: Final = Script.load(_PACKAGE, "durable_fetch")
_DURABLE_SETTLE: Final = Script.load(_PACKAGE, "durable_settle")
_DURABLE_RESCHEDULE: Final = Script.load(_PACKAGE, "durable_reschedule")


class Published(NamedTuple):
    """What publish_numbered answers."""

    receivers: int
    number: int


class Appended(NamedTuple):
    """What topic_publish answers."""

    status: int
    id: str
    number: int


class Start(NamedTuple):
    """What topic_position answers."""

    id: str
    inclusive: bool
    number: int
    whole: bool


class Handed(NamedTuple):
    """One message that durable_fetch hands out."""

    id: str
    number: int
    attempt: int
    data: bytes


class Fetched(NamedTuple):
    """What durable_fetch answers."""

    status: int
    missed: int
    given_up: int
    next_due: int
    batch: list[Handed]


async def publish_numbered(
    commands: Commands,
    *,
    counter: bytes,
    channel: bytes,
    sharded: bool,
    ttl: int,
    body: bytes,
    deadline: float | None = None,
) -> Published:
    """See lua/publish_numbered.lua. One round trip."""
    args: list[Encodable] = [channel, int(sharded), ttl, body]
    return Published(*await _PUBLISH_NUMBERED(commands, keys=[counter], args=args, deadline=deadline))


async def topic_publish(
    commands: Commands,
    *,
    stream: str,
    counter: str,
    window: str,
    dedup: str,
    durables: str,
    floors: str,
    operation: int,
    remember: int,
    dedup_ttl: int,
    maxlen: int,
    max_age: int,
    interest: bool,
    channel: str,
    sharded: bool,
    lengths: str,
    bodies: bytes,
    deadline: float | None = None,
) -> Appended:
    """See lua/topic_publish.lua. One round trip."""
    keys = [stream, counter, window, dedup, durables, floors]
    args: list[Encodable] = [operation, remember, dedup_ttl, maxlen, max_age, int(interest), channel, int(sharded)]
    status, id, number = await _TOPIC_PUBLISH(commands, keys=keys, args=[*args, lengths, bodies], deadline=deadline)
    return Appended(status, id.decode(), number)


async def topic_position(
    commands: Commands, *, stream: str, counter: str, kind: str, value: str, deadline: float | None = None
) -> Start:
    """See lua/topic_position.lua. One round trip."""
    args: list[Encodable] = [kind, value]
    id, inclusive, number, whole = await _TOPIC_POSITION(commands, keys=[stream, counter], args=args, deadline=deadline)
    return Start(id.decode(), bool(inclusive), number, bool(whole))


async def durable_fetch(
    commands: Commands,
    *,
    stream: str,
    state: str,
    leases: str,
    order: str,
    attempts: str,
    dead: str,
    last: str,
    durables: str,
    floors: str,
    name: str,
    request: int,
    count: int,
    ack_wait: int,
    max_deliveries: int,
    max_unacked: int,
    inactive_after: int,
    create: bool,
    cursor: str,
    number: int,
    deadline: float | None = None,
) -> Fetched:
    """See lua/durable_fetch.lua. One round trip."""
    keys = [stream, state, leases, order, attempts, dead, last, durables, floors]
    args: list[Encodable] = [name, request, count, ack_wait, max_deliveries, max_unacked, inactive_after]
    reply: Any = await _DURABLE_FETCH(commands, keys=keys, args=[*args, int(create), cursor, number], deadline=deadline)
    status, missed, given_up, next_due, handed = reply
    batch = [Handed(id.decode(), its_number, attempt, data) for id, its_number, attempt, data in handed]
    return Fetched(status, missed, given_up, next_due, batch)


async def durable_settle(
    commands: Commands,
    *,
    stream: str,
    state: str,
    leases: str,
    order: str,
    attempts: str,
    dead: str,
    floors: str,
    durables: str,
    name: str,
    settled: str,
    reason: str,
    max_unacked: int,
    channel: str,
    sharded: bool,
    inactive_after: int,
    deadline: float | None = None,
) -> list[int]:
    """See lua/durable_settle.lua. One round trip."""
    keys = [stream, state, leases, order, attempts, dead, floors, durables]
    args: list[Encodable] = [name, settled, reason, max_unacked, channel, int(sharded), inactive_after]
    codes: list[int] = (await _DURABLE_SETTLE(commands, keys=keys, args=args, deadline=deadline))[0]
    return codes


async def durable_reschedule(
    commands: Commands,
    *,
    state: str,
    leases: str,
    attempts: str,
    order: str,
    dead: str,
    floors: str,
    durables: str,
    settled: str,
    delay: int,
    uncounted: bool,
    wake: bool,
    channel: str,
    sharded: bool,
    name: str,
    inactive_after: int,
    deadline: float | None = None,
) -> list[int]:
    """See lua/durable_reschedule.lua. One round trip."""
    keys = [state, leases, attempts, order, dead, floors, durables]
    args: list[Encodable] = [settled, delay, int(uncounted), int(wake), channel, int(sharded), name, inactive_after]
    codes: list[int] = (await _DURABLE_RESCHEDULE(commands, keys=keys, args=args, deadline=deadline))[0]
    return codes


def post_reschedule(
    commands: Commands,
    *,
    state: str,
    leases: str,
    attempts: str,
    order: str,
    dead: str,
    floors: str,
    durables: str,
    settled: str,
    delay: int,
    uncounted: bool,
    wake: bool,
    channel: str,
    sharded: bool,
    name: str,
    inactive_after: int,
) -> None:
    """See lua/durable_reschedule.lua. Synchronous, behind everything sent before; nobody hears the answer."""
    keys = [state, leases, attempts, order, dead, floors, durables]
    args: list[Encodable] = [settled, delay, int(uncounted), int(wake), channel, int(sharded), name, inactive_after]
    _DURABLE_RESCHEDULE.post(commands, keys=keys, args=args)
