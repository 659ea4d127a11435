"""The keys of this family. All keys of one object share a slot.

<namespace>:lock:{<key>}            Lock, MultiLock, Redlock, synchronized; :fence, :queue
<namespace>:leader:{<key>}          LeaderElection; :fence, :queue
<namespace>:permits:{<key>}         Semaphore; :fence, :queue
<namespace>:rwlock:{<key>}          ReadWriteLock; :fence, :readers, :writers
<namespace>:latch:{<key>}           CountDownLatch; :queue
<namespace>:fenced:{<key>}          FencedStore
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

from aredis_patterns._core.keys import Keyspace
from aredis_patterns.types import Key

__all__ = ["LockKeys", "ReadWriteKeys", "fenced_key", "latch_keys", "lock_keys", "permit_keys", "read_write_keys"]


class LockKeys(NamedTuple):
    """What is held, the last fence, and those who wait."""

    held: str
    fence: str
    queue: str


class ReadWriteKeys(NamedTuple):
    """What is held, the last fence, and those who wait, by what they want."""

    held: str
    fence: str
    readers: str
    writers: str


def lock_keys(namespace: str, key: Key, kind: Literal["lock", "leader"] = "lock") -> LockKeys:
    """Keys of a lock."""
    return _three(_space(namespace, kind), key)


def permit_keys(namespace: str, key: Key) -> LockKeys:
    """Keys of a semaphore."""
    return _three(_space(namespace, "permits"), key)


def read_write_keys(namespace: str, key: Key) -> ReadWriteKeys:
    """Keys of a read-write lock."""
    held = _space(namespace, "rwlock").key(key)
    return ReadWriteKeys(held, held + ":fence", held + ":readers", held + ":writers")


def latch_keys(namespace: str, key: Key) -> tuple[str, str]:
    """Who has arrived, and who waits."""
    arrived = _space(namespace, "latch").key(key)
    return arrived, arrived + ":queue"


def fenced_key(namespace: str, key: Key) -> str:
    """The hash of a fenced value."""
    return _space(namespace, "fenced").key(key)


@functools.lru_cache(maxsize=1024, typed=True)  # the same few keys are locked again and again
def _three(space: Keyspace, key: Key) -> LockKeys:
    held = space.key(key)
    return LockKeys(held, held + ":fence", held + ":queue")


@functools.lru_cache(maxsize=256)
def _space(namespace: str, kind: str) -> Keyspace:
    return Keyspace(namespace, kind)
