"""The keys of this family: one per limiter name and user key; a second one for reservations and for waiters."""

from __future__ import annotations

from typing import Literal, TypeAlias

from aredis_patterns._core.keys import Keyspace
from aredis_patterns.types import Key

__all__ = ["Algorithm", "leases_keys", "limiter_keys", "line_key", "notes_key", "shared_key"]

Algorithm: TypeAlias = Literal["fixed", "log", "counter", "bucket", "gcra", "leaky"]


def limiter_keys(namespace: str, algorithm: Algorithm, name: str) -> Keyspace:
    """`<namespace>:rl:<algorithm>:<name>:{<key>}`."""
    return Keyspace(namespace, "rl", algorithm, name)


def notes_key(keys: Keyspace, key: Key) -> str:
    """`<namespace>:rl:<algorithm>:<name>:{<key>}:reserved`: the reservations of a key."""
    return keys.key(key, "reserved")


def shared_key(keys: Keyspace, tag: Key, policy: str, key: Key) -> str:
    """`<namespace>:rl:<algorithm>:<name>:{<tag>}:<policy>:<key>`: several limits of one slot."""
    return keys.key(tag, policy, key)


def leases_keys(namespace: str, name: str) -> Keyspace:
    """`<namespace>:rl:leases:<name>:{<key>}`."""
    return Keyspace(namespace, "rl", "leases", name)


def line_key(keys: Keyspace, key: Key) -> str:
    """`<namespace>:rl:leases:<name>:{<key>}:line`: who waits for a place."""
    return keys.key(key, "line")
