"""One typed function per script of this family: the only callers of `lua/*.lua`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from aredis_patterns._core.script import Script
from aredis_patterns.queues._keys import ListKeys, QueueKeys
from aredis_patterns.types import Commands, Encodable

__all__ = [
    "Enqueued",
    "Glance",
    "Survey",
    "Turn",
    "cancel",
    "commit",
    "enqueue",
    "peek",
    "purge",
    "redrive",
    "resume",
    "simple_pop",
    "simple_push",
    "survey",
    "turn",
]

_PACKAGE: Final = "aredis_patterns.queues"
_ENQUEUE: Final = Script.load(_PACKAGE, "enqueue")
_TURN: Final = Script.load(_PACKAGE, "turn")
_COMMIT: Final = Script.load(_PACKAGE, "commit")
_CANCEL: Final = Script.load(_PACKAGE, "cancel")
_REDRIVE: Final = Script.load(_PACKAGE, "redrive")
_PURGE: Final = Script.load(_PACKAGE, "purge")
_RESUME: Final = Script.load(_PACKAGE, "resume")
_PEEK: Final = Script.load(_PACKAGE, "peek")
_SURVEY: Final = Script.load(_PACKAGE, "survey")
_SIMPLE_PUSH: Final = Script.load(_PACKAGE, "simple_push")
_SIMPLE_POP: Final = Script.load(_PACKAGE, "simple_pop")


class Enqueued(NamedTuple):
    """See lua/enqueue.lua."""

    first: int
    refused: list[int]
    free: int
    twins: list[int]


class Turn(NamedTuple):
    """See lua/turn.lua."""

    state: int
    clock: int
    next: int
    expired: int
    lost: list[bytes]
    ids: list[bytes]
    failed: list[int]
    envelopes: list[bytes]


class Glance(NamedTuple):
    """See lua/peek.lua."""

    ids: list[bytes]
    scores: list[int]
    failed: list[bytes | None]
    envelopes: list[bytes | None]


class Survey(NamedTuple):
    """See lua/survey.lua."""

    clock: int
    sizes: list[int]
    oldest: list[int]
    paused: int
    counted: list[bytes]


async def enqueue(
    commands: Commands,
    *,
    keys: QueueKeys,
    number: int,
    most: int,
    window: int,
    address: str,
    patience: int,
    sizes: str,
    envelopes: Sequence[bytes],
    deadline: float | None = None,
) -> Enqueued:
    """See lua/enqueue.lua. One round trip."""
    args: list[Encodable] = [number, most, window, address, patience, sizes, *envelopes]
    return Enqueued(*await _ENQUEUE(commands, keys=keys, args=args, deadline=deadline))


async def turn(
    commands: Commands,
    *,
    keys: QueueKeys,
    number: int,
    lease: int,
    want: int,
    address: str,
    patience: int,
    most: int,
    keep: int,
    acks: str,
    extends: str,
    releases: str,
    nacks: str,
    deadline: float | None = None,
) -> Turn:
    """See lua/turn.lua. One round trip."""
    args = (number, lease, want, address, patience, most, keep, acks, extends, releases, nacks)
    return Turn(*await _TURN(commands, keys=keys, args=args, deadline=deadline))


async def commit(
    commands: Commands,
    *,
    keys: QueueKeys,
    touched: Sequence[str | bytes],
    number: int,
    id: str,
    deadline: int,
    lengths: str,
    words: Sequence[Encodable],
    patience: float | None = None,
) -> int:
    """See lua/commit.lua. One round trip. `patience` is the deadline of the call, `deadline` that of the lease."""
    args = (number, id, deadline, lengths, *words)
    return int((await _COMMIT(commands, keys=(*keys, *touched), args=args, deadline=patience))[0])


async def cancel(commands: Commands, *, keys: QueueKeys, id: str, deadline: float | None = None) -> bool:
    """See lua/cancel.lua. One round trip."""
    return bool((await _CANCEL(commands, keys=keys, args=(id,), deadline=deadline))[0])


async def redrive(commands: Commands, *, keys: QueueKeys, most: int, chosen: str, deadline: float | None = None) -> int:
    """See lua/redrive.lua. One round trip."""
    return int((await _REDRIVE(commands, keys=keys, args=(most, chosen), deadline=deadline))[0])


async def purge(
    commands: Commands,
    *,
    messages: str,
    failures: str,
    dead: str,
    most: int,
    chosen: str,
    deadline: float | None = None,
) -> int:
    """See lua/purge.lua. One round trip."""
    reply = await _PURGE(commands, keys=(messages, failures, dead), args=(most, chosen), deadline=deadline)
    return int(reply[0])


async def resume(commands: Commands, *, keys: QueueKeys, deadline: float | None = None) -> bool:
    """See lua/resume.lua. One round trip."""
    return bool((await _RESUME(commands, keys=keys, deadline=deadline))[0])


async def peek(
    commands: Commands,
    *,
    messages: str,
    failures: str,
    place: str,
    start: int,
    count: int,
    deadline: float | None = None,
) -> Glance:
    """See lua/peek.lua. One round trip."""
    return Glance(*await _PEEK(commands, keys=(messages, failures, place), args=(start, count), deadline=deadline))


async def survey(
    commands: Commands,
    *,
    messages: str,
    ready: str,
    leases: str,
    delayed: str,
    dead: str,
    counters: str,
    paused: str,
    deadline: float | None = None,
) -> Survey:
    """See lua/survey.lua. One round trip."""
    keys = (messages, ready, leases, delayed, dead, counters, paused)
    return Survey(*await _SURVEY(commands, keys=keys, deadline=deadline))


async def simple_push(
    commands: Commands, *, keys: ListKeys, number: int, values: Sequence[bytes], deadline: float | None = None
) -> int:
    """See lua/simple_push.lua. One round trip."""
    return int((await _SIMPLE_PUSH(commands, keys=keys, args=(number, *values), deadline=deadline))[0])


async def simple_pop(
    commands: Commands,
    *,
    keys: ListKeys,
    number: int,
    want: int,
    address: str,
    patience: int,
    returned: Sequence[bytes],
    deadline: float | None = None,
) -> list[bytes]:
    """See lua/simple_pop.lua. One round trip."""
    args: list[Encodable] = [number, want, address, patience, *returned]
    _, values = await _SIMPLE_POP(commands, keys=keys, args=args, deadline=deadline)
    return list(values)
