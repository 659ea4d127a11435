"""One typed function per script of this family: the only callers of `lua/*.lua`."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from aredis_patterns._core.script import Script
from aredis_patterns.types import Commands, Encodable

__all__ = [
    "Found",
    "Put",
    "Status",
    "bump",
    "fail",
    "fill",
    "invalidate",
    "post_abort",
    "post_fail",
    "put",
    "read",
    "renew",
    "tend",
    "write_begin",
    "write_commit",
]

_PACKAGE: Final = "aredis_patterns.caching"
_READ: Final = Script.load(_PACKAGE, "read")
_FILL: Final = Script.load(_PACKAGE, "fill")
_FAIL: Final = Script.load(_PACKAGE, "fail")
_RENEW: Final = Script.load(_PACKAGE, "renew")
_INVALIDATE: Final = Script.load(_PACKAGE, "invalidate")
_WRITE_BEGIN: Final = Script.load(_PACKAGE, "write_begin")
_WRITE_COMMIT: Final = Script.load(_PACKAGE, "write_commit")
_PUT: Final = Script.load(_PACKAGE, "put")
_TEND: Final = Script.load(_PACKAGE, "tend")
_BUMP: Final = Script.load(_PACKAGE, "bump")


class Status(IntEnum):
    """What `read` found, and what the caller is to do."""

    CARE = 0
    """The versions are missing or near their end: `tend`, then ask again."""
    HIT = 1
    REFRESH = 2
    """There is a value, and the caller loads the next one."""
    LOAD = 3
    """There is none, and the caller loads it."""
    WAIT = 4
    BYPASS = 5
    """A writer is open: load, and store nothing."""
    FAILED = 6
    MISS = 7


class Put(IntEnum):
    """What became of a value."""

    CARE = 0
    STORED = 1
    REFUSED = 2


class Found(NamedTuple):
    """The answer of `read`."""

    status: Status
    left: int
    found: bytes


async def read(
    commands: Commands,
    *,
    value: str,
    lease: str,
    writers: str,
    epoch: str,
    tags: str,
    token: str,
    mode: str,
    lease_ms: int,
    ahead: int,
    waiter: str,
    unreadable: str,
    horizon: int,
    deadline: float | None = None,
) -> Found:
    """See lua/read.lua. One round trip."""
    keys = [value, lease, writers, epoch, tags]
    args: list[Encodable] = [token, mode, lease_ms, ahead, waiter, unreadable, horizon]
    status, left, found = await _READ(commands, keys=keys, args=args, deadline=deadline)
    return Found(Status(status), left, found)


async def fill(
    commands: Commands,
    *,
    value: str,
    lease: str,
    writers: str,
    epoch: str,
    tags: str,
    token: str,
    entry: bytes,
    px: int,
    most: int,
    deadline: float | None = None,
) -> bool:
    """See lua/fill.lua. One round trip."""
    keys = [value, lease, writers, epoch, tags]
    (kept,) = await _FILL(commands, keys=keys, args=[token, entry, px, most], deadline=deadline)
    return bool(kept)


async def fail(
    commands: Commands,
    *,
    value: str,
    lease: str,
    writers: str,
    epoch: str,
    tags: str,
    token: str,
    failure: str,
    throttle: int,
    error_ttl: int,
    deadline: float | None = None,
) -> bool:
    """See lua/fail.lua. One round trip."""
    args: list[Encodable] = [token, failure, throttle, error_ttl]
    keys = [value, lease, writers, epoch, tags]
    (ended,) = await _FAIL(commands, keys=keys, args=args, deadline=deadline)
    return bool(ended)


def post_fail(commands: Commands, *, value: str, lease: str, writers: str, epoch: str, tags: str, token: str) -> None:
    """Give a lease back now, without waiting: its loader was cancelled."""
    _FAIL.post(commands, keys=[value, lease, writers, epoch, tags], args=[token, "", 0, 0])


async def renew(commands: Commands, *, lease: str, token: str, lease_ms: int, deadline: float | None = None) -> bool:
    """See lua/renew.lua. One round trip."""
    (held,) = await _RENEW(commands, keys=[lease], args=[token, lease_ms], deadline=deadline)
    return bool(held)


async def invalidate(
    commands: Commands,
    *,
    value: str,
    lease: str,
    writers: str,
    epoch: str,
    tags: str,
    hold: int,
    deadline: float | None = None,
) -> bool:
    """See lua/invalidate.lua. One round trip."""
    keys = [value, lease, writers, epoch, tags]
    (removed,) = await _INVALIDATE(commands, keys=keys, args=[hold], deadline=deadline)
    return bool(removed)


async def write_begin(
    commands: Commands,
    *,
    value: str,
    lease: str,
    writers: str,
    epoch: str,
    tags: str,
    token: str,
    px: int,
    deadline: float | None = None,
) -> bool:
    """See lua/write_begin.lua. One round trip."""
    keys = [value, lease, writers, epoch, tags]
    (alone,) = await _WRITE_BEGIN(commands, keys=keys, args=[token, px], deadline=deadline)
    return bool(alone)


async def write_commit(
    commands: Commands,
    *,
    value: str,
    lease: str,
    writers: str,
    epoch: str,
    tags: str,
    token: str,
    entry: bytes,
    px: int,
    deadline: float | None = None,
) -> bool:
    """See lua/write_commit.lua. One round trip."""
    keys = [value, lease, writers, epoch, tags]
    (kept,) = await _WRITE_COMMIT(commands, keys=keys, args=[token, entry, px], deadline=deadline)
    return bool(kept)


def post_abort(commands: Commands, *, value: str, lease: str, writers: str, epoch: str, tags: str, token: str) -> None:
    """Close a write now, without waiting and without a value."""
    _WRITE_COMMIT.post(commands, keys=[value, lease, writers, epoch, tags], args=[token, b"", 0])


async def put(
    commands: Commands,
    *,
    value: str,
    lease: str,
    writers: str,
    epoch: str,
    tags: str,
    token: str,
    entry: bytes,
    px: int,
    only: str,
    keep_ttl: bool,
    horizon: int,
    deadline: float | None = None,
) -> Put:
    """See lua/put.lua. One round trip."""
    keys = [value, lease, writers, epoch, tags]
    args: list[Encodable] = [token, entry, px, only, int(keep_ttl), horizon]
    (status,) = await _PUT(commands, keys=keys, args=args, deadline=deadline)
    return Put(status)


async def tend(commands: Commands, *, epoch: str, tags: str, horizon: int, deadline: float | None = None) -> int:
    """See lua/tend.lua. One round trip."""
    (version,) = await _TEND(commands, keys=[epoch, tags], args=[horizon], deadline=deadline)
    return int(version)


async def bump(
    commands: Commands, *, epoch: str, tags: str, names: str, horizon: int, deadline: float | None = None
) -> int:
    """See lua/bump.lua. One round trip."""
    (version,) = await _BUMP(commands, keys=[epoch, tags], args=[names, horizon], deadline=deadline)
    return int(version)
