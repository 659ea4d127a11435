"""One typed function per script of this family: the only callers of `lua/*.lua`.

A script that undoes something also has a `post_` function: synchronous, so nothing can cancel it, and behind what it
undoes on the same ordered connection.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from aredis_patterns._core.script import Script
from aredis_patterns.locks._answers import PATIENCE, RESERVE, Answer, Released
from aredis_patterns.locks._keys import LockKeys, ReadWriteKeys
from aredis_patterns.types import Commands

__all__ = [
    "fence_raise",
    "fenced_set",
    "latch_arrive",
    "lock_acquire",
    "lock_info",
    "lock_release",
    "lock_renew",
    "lock_transfer",
    "multi_acquire",
    "permit_acquire",
    "permit_count",
    "permit_release",
    "permit_renew",
    "post_lock_release",
    "post_permit_release",
    "post_rw_release",
    "rw_acquire",
    "rw_release",
]

T = TypeVar("T")

_PACKAGE: Final = "aredis_patterns.locks"
_FENCE_RAISE: Final = Script.load(_PACKAGE, "fence_raise")
_FENCED_SET: Final = Script.load(_PACKAGE, "fenced_set")
_LATCH_ARRIVE: Final = Script.load(_PACKAGE, "latch_arrive")
_LOCK_ACQUIRE: Final = Script.load(_PACKAGE, "lock_acquire")
_LOCK_INFO: Final = Script.load(_PACKAGE, "lock_info")
_LOCK_RELEASE: Final = Script.load(_PACKAGE, "lock_release")
_LOCK_RENEW: Final = Script.load(_PACKAGE, "lock_renew")
_LOCK_TRANSFER: Final = Script.load(_PACKAGE, "lock_transfer")
_MULTI_ACQUIRE: Final = Script.load(_PACKAGE, "multi_acquire")
_PERMIT_ACQUIRE: Final = Script.load(_PACKAGE, "permit_acquire")
_PERMIT_COUNT: Final = Script.load(_PACKAGE, "permit_count")
_PERMIT_RELEASE: Final = Script.load(_PACKAGE, "permit_release")
_PERMIT_RENEW: Final = Script.load(_PACKAGE, "permit_renew")
_RW_ACQUIRE: Final = Script.load(_PACKAGE, "rw_acquire")
_RW_RELEASE: Final = Script.load(_PACKAGE, "rw_release")


async def _run(
    script: Script,
    read: Callable[[list[int]], T],
    commands: Commands,
    keys: Sequence[str],
    args: Sequence[str | int],
    deadline: float | None,
) -> T:
    """What `read` makes of the reply to `script(...)`, without the layers that the common case does not need."""
    begun = script.begin(commands, keys, args, deadline)
    if begun is None:
        return read(await script(commands, keys=keys, args=args, deadline=deadline))
    reply = await begun
    if isinstance(reply, Exception):
        reply = await script.finish(reply, commands, keys, args, deadline)
    return read(reply)


def lock_acquire(
    commands: Commands,
    *,
    lock: str,
    fence: str,
    queue: str,
    token: str,
    ttl: int,
    owner: str,
    inbox: str,
    enqueue: bool,
    fair: str,
    ticket: int,
    deadline: float | None,
) -> Coroutine[Any, Any, Answer]:
    """See lua/lock_acquire.lua. One round trip."""
    args = (token, ttl, owner, inbox, int(enqueue), fair, ticket)
    return _run(_LOCK_ACQUIRE, Answer._make, commands, (lock, fence, queue), args, deadline)


def lock_release(
    commands: Commands,
    *,
    lock: str,
    queue: str,
    token: str,
    member: str,
    countable: bool,
    force: bool = False,
    patience: int = PATIENCE,
    reserve: int = RESERVE,
    deadline: float | None = None,
) -> Coroutine[Any, Any, Released]:
    """See lua/lock_release.lua. One round trip. With an empty token: wake somebody if the lock is free."""
    args = (token, member, int(force), int(countable), patience, reserve)
    return _run(_LOCK_RELEASE, Released._make, commands, (lock, queue), args, deadline)


def post_lock_release(commands: Commands, *, keys: LockKeys, token: str, member: str, countable: bool) -> None:
    """`lock_release` without waiting."""
    args = (token, member, 0, int(countable), PATIENCE, RESERVE)
    _LOCK_RELEASE.post(commands, keys=(keys.held, keys.queue), args=args)


async def lock_transfer(
    commands: Commands,
    *,
    lock: str,
    fence: str,
    queue: str,
    token: str,
    heir: str,
    member: str,
    ttl: int,
    owner: str,
    inbox: str,
    deadline: float | None,
) -> tuple[int, int]:
    """See lua/lock_transfer.lua. One round trip. (granted, fence)."""
    args = (token, heir, member, ttl, owner, inbox)
    granted, number = await _LOCK_TRANSFER(commands, keys=(lock, fence, queue), args=args, deadline=deadline)
    return granted, number


async def lock_renew(
    commands: Commands, *, locks: Sequence[str], claims: Sequence[str | int], deadline: float | None
) -> list[int]:
    """See lua/lock_renew.lua. One round trip; all keys on one node of a Cluster, in one slot."""
    held: list[int] = await _LOCK_RENEW(commands, keys=locks, args=claims, deadline=deadline)
    return held


async def lock_info(commands: Commands, *, lock: str, queue: str, deadline: float | None) -> tuple[int, str, int, int]:
    """See lua/lock_info.lua. One round trip. (fence, owner, ms, waiting)."""
    number, owner, left, waiting = await _LOCK_INFO(commands, keys=(lock, queue), deadline=deadline)
    return number, owner.decode("utf-8", "backslashreplace"), left, waiting


async def multi_acquire(
    commands: Commands,
    *,
    keys: Sequence[str],
    token: str,
    ttl: int,
    owner: str,
    inbox: str,
    enqueue: bool,
    ticket: int,
    deadline: float | None,
) -> tuple[Answer, int]:
    """See lua/multi_acquire.lua. One round trip. (answer, which one is in the way, from 1)."""
    args = (token, ttl, owner, inbox, int(enqueue), ticket)
    *answer, blocker = await _MULTI_ACQUIRE(commands, keys=keys, args=args, deadline=deadline)
    return Answer(*answer), blocker


async def permit_acquire(
    commands: Commands,
    *,
    held: str,
    fence: str,
    queue: str,
    token: str,
    ttl: int,
    limit: int,
    weight: int,
    inbox: str,
    enqueue: bool,
    ticket: int,
    deadline: float | None,
) -> Answer:
    """See lua/permit_acquire.lua. One round trip."""
    args = (token, ttl, limit, weight, inbox, int(enqueue), ticket)
    return Answer(*await _PERMIT_ACQUIRE(commands, keys=(held, fence, queue), args=args, deadline=deadline))


async def permit_release(
    commands: Commands,
    *,
    held: str,
    queue: str,
    token: str,
    member: str,
    limit: int,
    countable: bool,
    reserve: int = RESERVE,
    deadline: float | None,
) -> Released:
    """See lua/permit_release.lua. One round trip."""
    args = (token, member, limit, int(countable), reserve)
    return Released(*await _PERMIT_RELEASE(commands, keys=(held, queue), args=args, deadline=deadline))


def post_permit_release(
    commands: Commands, *, keys: LockKeys, token: str, member: str, limit: int, countable: bool
) -> None:
    """`permit_release` without waiting."""
    args = (token, member, limit, int(countable), RESERVE)
    _PERMIT_RELEASE.post(commands, keys=(keys.held, keys.queue), args=args)


async def permit_renew(
    commands: Commands, *, places: Sequence[str], claims: Sequence[str | int], deadline: float | None
) -> list[int]:
    """See lua/permit_renew.lua. One round trip; all keys in one slot of a Cluster."""
    held: list[int] = await _PERMIT_RENEW(commands, keys=places, args=claims, deadline=deadline)
    return held


async def permit_count(commands: Commands, *, held: str, queue: str, deadline: float | None) -> tuple[int, int]:
    """See lua/permit_count.lua. One round trip. (used, waiting)."""
    used, waiting = await _PERMIT_COUNT(commands, keys=(held, queue), deadline=deadline)
    return used, waiting


async def rw_acquire(
    commands: Commands,
    *,
    held: str,
    fence: str,
    readers: str,
    writers: str,
    token: str,
    kind: str,
    ttl: int,
    inbox: str,
    enqueue: bool,
    ticket: int,
    deadline: float | None,
) -> Answer:
    """See lua/rw_acquire.lua. One round trip."""
    args = (token, kind, ttl, inbox, int(enqueue), ticket)
    return Answer(*await _RW_ACQUIRE(commands, keys=(held, fence, readers, writers), args=args, deadline=deadline))


async def rw_release(
    commands: Commands,
    *,
    held: str,
    readers: str,
    writers: str,
    token: str,
    kind: str,
    member: str,
    countable: bool,
    reserve: int = RESERVE,
    deadline: float | None,
) -> Released:
    """See lua/rw_release.lua. One round trip."""
    args = (token, kind, member, int(countable), reserve)
    return Released(*await _RW_RELEASE(commands, keys=(held, readers, writers), args=args, deadline=deadline))


def post_rw_release(
    commands: Commands, *, keys: ReadWriteKeys, token: str, kind: str, member: str, countable: bool
) -> None:
    """`rw_release` without waiting."""
    args = (token, kind, member, int(countable), RESERVE)
    _RW_RELEASE.post(commands, keys=(keys.held, keys.readers, keys.writers), args=args)


async def latch_arrive(
    commands: Commands,
    *,
    arrived: str,
    queue: str,
    participant: str,
    count: int,
    ttl: int,
    member: str,
    deadline: float | None,
) -> int:
    """See lua/latch_arrive.lua. One round trip. How many are still missing."""
    args = (participant, count, ttl, member)
    (remaining,) = await _LATCH_ARRIVE(commands, keys=(arrived, queue), args=args, deadline=deadline)
    return int(remaining)


async def fenced_set(
    commands: Commands, *, value: str, token: int, data: bytes, write: bool, ttl: int, deadline: float | None
) -> tuple[bool, int]:
    """See lua/fenced_set.lua. One round trip. (accepted, newest token)."""
    args = (token, data, int(write), ttl)
    accepted, newest = await _FENCED_SET(commands, keys=(value,), args=args, deadline=deadline)
    return bool(accepted), newest


async def fence_raise(
    commands: Commands, *, lock: str, fence: str, token: str, number: int, deadline: float | None
) -> bool:
    """See lua/fence_raise.lua. One round trip. Whether the token still holds the lock."""
    (held,) = await _FENCE_RAISE(commands, keys=(lock, fence), args=(token, number), deadline=deadline)
    return bool(held)
