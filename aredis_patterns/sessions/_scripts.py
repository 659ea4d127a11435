"""One typed function per script of this family: the only callers of `lua/*.lua`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from aredis_patterns._core.script import Script
from aredis_patterns.types import Commands, Encodable

__all__ = [
    "Claim",
    "Destroyed",
    "Extended",
    "Indexed",
    "Peeked",
    "Rotated",
    "Saved",
    "abandon_session",
    "claim_many",
    "ends_claim",
    "index_add",
    "index_revoke",
    "peek_many",
    "session_create",
    "session_destroy",
    "session_extend",
    "session_peek",
    "session_rotate",
    "session_save",
]

_PACKAGE: Final = "aredis_patterns.sessions"
_CREATE: Final = Script.load(_PACKAGE, "session_create")
_SAVE: Final = Script.load(_PACKAGE, "session_save")
_EXTEND: Final = Script.load(_PACKAGE, "session_extend")
_ROTATE: Final = Script.load(_PACKAGE, "session_rotate")
_DESTROY: Final = Script.load(_PACKAGE, "session_destroy")
_PEEK: Final = Script.load(_PACKAGE, "session_peek")
_INDEX_ADD: Final = Script.load(_PACKAGE, "index_add")
_INDEX_REVOKE: Final = Script.load(_PACKAGE, "index_revoke")
_CLAIM: Final = Script.load(_PACKAGE, "ends_claim")


class Saved(NamedTuple):
    """What session_save answers."""

    status: int
    version: int
    size: int
    moved: bytes


class Extended(NamedTuple):
    """What session_extend answers."""

    status: int
    left: int
    created: int
    seen: int
    user: bytes


class Rotated(NamedTuple):
    """What session_rotate answers."""

    status: int
    created: int
    seen: int
    before: bytes


class Destroyed(NamedTuple):
    """What session_destroy answers."""

    status: int
    user: bytes
    moved: bytes


class Peeked(NamedTuple):
    """What session_peek answers."""

    status: int
    left: int
    created: int
    seen: int
    user: bytes
    meta: bytes
    moved: bytes


class Indexed(NamedTuple):
    """What index_add answers."""

    status: int
    due: list[bytes]
    surplus: list[bytes]


class Claim(NamedTuple):
    """What ends_claim answers."""

    taken: list[bytes]
    next: int
    now: int


async def session_create(
    commands: Commands,
    *,
    session: str,
    ends: str,
    handle: str,
    idle: int,
    absolute: int,
    keep: int,
    user: str,
    meta: bytes,
    size: int,
    fields: Sequence[str | bytes],
    deadline: float | None = None,
) -> int:
    """See lua/session_create.lua. One round trip."""
    args: list[Encodable] = [handle, idle, absolute, keep, user, meta, size, *fields]
    (created,) = await _CREATE(commands, keys=[session, ends], args=args, deadline=deadline)
    return int(created)


async def session_save(
    commands: Commands,
    *,
    session: str,
    idle: int,
    absolute: int,
    expected: int,
    most: int,
    removed: int,
    fields: Sequence[str | bytes],
    deadline: float | None = None,
) -> Saved:
    """See lua/session_save.lua. One round trip."""
    args: list[Encodable] = [idle, absolute, expected, most, removed, *fields]
    return Saved(*await _SAVE(commands, keys=[session], args=args, deadline=deadline))


async def session_extend(
    commands: Commands,
    *,
    session: str,
    ends: str,
    handle: str,
    idle: int,
    absolute: int,
    threshold: int,
    keep: int,
    deadline: float | None = None,
) -> Extended:
    """See lua/session_extend.lua. One round trip."""
    args: list[Encodable] = [handle, idle, absolute, threshold, keep]
    return Extended(*await _EXTEND(commands, keys=[session, ends], args=args, deadline=deadline))


async def session_rotate(
    commands: Commands,
    *,
    session: str,
    successor: str,
    ends: str,
    handle: str,
    moved: str,
    idle: int,
    absolute: int,
    keep: int,
    grace: int,
    note: int,
    login: bool,
    user: str,
    meta: bytes,
    channel: str,
    deadline: float | None = None,
) -> Rotated:
    """See lua/session_rotate.lua. One round trip."""
    args: list[Encodable] = [handle, moved, idle, absolute, keep, grace, note, int(login), user, meta, channel]
    return Rotated(*await _ROTATE(commands, keys=[session, successor, ends], args=args, deadline=deadline))


async def session_destroy(
    commands: Commands,
    *,
    session: str,
    ends: str,
    handle: str,
    idle: int,
    absolute: int,
    keep: int,
    reason: str,
    owner: str,
    follow: bool,
    channel: str,
    deadline: float | None = None,
) -> Destroyed:
    """See lua/session_destroy.lua. One round trip."""
    args: list[Encodable] = [handle, idle, absolute, keep, reason, owner, int(follow), channel]
    return Destroyed(*await _DESTROY(commands, keys=[session, ends], args=args, deadline=deadline))


def abandon_session(
    commands: Commands,
    *,
    session: str,
    ends: str,
    handle: str,
    idle: int,
    absolute: int,
    keep: int,
    reason: str,
    channel: str,
) -> None:
    """lua/session_destroy.lua, sent behind what came before, its answer unread: undoes what a caller did not live to see."""
    args: list[Encodable] = [handle, idle, absolute, keep, reason, "", 0, channel]
    _DESTROY.post(commands, keys=[session, ends], args=args)


async def session_peek(
    commands: Commands, *, session: str, idle: int, absolute: int, deadline: float | None = None
) -> Peeked:
    """See lua/session_peek.lua. One round trip."""
    return Peeked(*await _PEEK(commands, keys=[session], args=[idle, absolute], deadline=deadline))


async def peek_many(
    commands: Commands, sessions: Iterable[str], *, idle: int, absolute: int, deadline: float | None = None
) -> list[Peeked]:
    """lua/session_peek.lua for each key. One round trip per node."""
    calls = [([session], [idle, absolute]) for session in sessions]
    return [Peeked(*reply) for reply in await _PEEK.many(commands, calls, deadline=deadline)]


async def index_add(
    commands: Commands,
    *,
    index: str,
    revoked: str,
    handle: str,
    created: int,
    left: int,
    absolute: int,
    most: int,
    replaces: str,
    deadline: float | None = None,
) -> Indexed:
    """See lua/index_add.lua. One round trip."""
    args: list[Encodable] = [handle, created, left, absolute, most, replaces]
    return Indexed(*await _INDEX_ADD(commands, keys=[index, revoked], args=args, deadline=deadline))


async def index_revoke(
    commands: Commands, *, index: str, revoked: str, absolute: int, deadline: float | None = None
) -> list[str]:
    """See lua/index_revoke.lua. One round trip."""
    (handles,) = await _INDEX_REVOKE(commands, keys=[index, revoked], args=[absolute], deadline=deadline)
    return [handle.decode() for handle in handles]


async def ends_claim(
    commands: Commands, *, ends: str, lease: int, keep: int, most: int, deadline: float | None = None
) -> Claim:
    """See lua/ends_claim.lua. One round trip."""
    return Claim(*await _CLAIM(commands, keys=[ends], args=[lease, keep, most], deadline=deadline))


async def claim_many(
    commands: Commands, all_ends: Iterable[str], *, lease: int, keep: int, most: int, deadline: float | None = None
) -> list[Claim]:
    """lua/ends_claim.lua for each key. One round trip per node."""
    calls = [([ends], [lease, keep, most]) for ends in all_ends]
    return [Claim(*reply) for reply in await _CLAIM.many(commands, calls, deadline=deadline)]
