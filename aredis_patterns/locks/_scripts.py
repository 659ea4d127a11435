"""One typed function per script of this family: the only callers of `lua/*.lua`.

A script that undoes something also has a `post_` function: synchronous, so nothing can cancel it, and behind what it
undoes on the same ordered connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from aredis_patterns._core.script import Script
from aredis_patterns.locks._keys import LockKeys
from aredis_patterns.types import Commands

__all__ = [
    "Answer",
    "Released",
    "lock_acquire",
    "lock_info",
    "lock_release",
    "lock_renew",
    "lock_transfer",
    "post_lock_release",
]

PATIENCE: Final = 50_000
"""Microseconds that a waiter may be overtaken."""
RESERVE: Final = 500
"""Milliseconds for which a free lock is kept for the waiter that was woken."""

_PACKAGE: Final = "aredis_patterns.locks"
_LOCK_ACQUIRE: Final = Script.load(_PACKAGE, "lock_acquire")
_LOCK_INFO: Final = Script.load(_PACKAGE, "lock_info")
_LOCK_RELEASE: Final = Script.load(_PACKAGE, "lock_release")
_LOCK_RENEW: Final = Script.load(_PACKAGE, "lock_renew")
_LOCK_TRANSFER: Final = Script.load(_PACKAGE, "lock_transfer")


class Answer(NamedTuple):
    """What an attempt to acquire was told."""

    granted: int
    fence: int
    ticket: int
    """Place in the queue, to be given with the next attempt."""
    again: int
    """Milliseconds that what is in the way lives; 0: it is free, but others come first; -1: no end."""


class Released(NamedTuple):
    """What a release was told."""

    released: int
    waiting: int
    again: int
    """Milliseconds after which looking again makes sense; 0: nobody waits."""


async def lock_acquire(
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
) -> Answer:
    """See lua/lock_acquire.lua. One round trip."""
    args = (token, ttl, owner, inbox, int(enqueue), fair, ticket)
    return Answer(*await _LOCK_ACQUIRE(commands, keys=(lock, fence, queue), args=args, deadline=deadline))


async def lock_release(
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
) -> Released:
    """See lua/lock_release.lua. One round trip. With an empty token: wake somebody if the lock is free."""
    args = (token, member, int(force), int(countable), patience, reserve)
    return Released(*await _LOCK_RELEASE(commands, keys=(lock, queue), args=args, deadline=deadline))


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
