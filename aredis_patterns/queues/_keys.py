"""The keys of this family. All keys of one queue share its hash tag, so one script may use them together."""

from __future__ import annotations

from typing import NamedTuple

from aredis_patterns._core.keys import Keyspace

__all__ = ["ListKeys", "QueueKeys", "list_keys", "queue_keys"]


class QueueKeys(NamedTuple):
    """In the order of KEYS in lua/_queue.lua, which says what each one holds.

    Messages have no TTL: only a consumer, `cancel`, `clear` or `dead_letters.purge` may end them, and with its last
    message a queue's keys are gone. Neither has `paused`: what an operator decided holds until he takes it back.
    `counters` and `rounds` expire 30 days after the last use, `dedup` with its window, addresses when nobody waits any
    more, the answer of a caller an hour after its last turn or when it is closed.
    """

    messages: str
    ready: str
    leases: str
    delayed: str
    failures: str
    dead: str
    keyed: str
    rounds: str
    dedup: str
    consumers: str
    producers: str
    counters: str
    paused: str
    answer: str


def queue_keys(namespace: str, name: str | bytes, turn: str = "turn") -> QueueKeys:
    """`<namespace>:queue:{<name>}:<part>`; `turn` names the caller whose last answer is kept."""
    space = Keyspace(namespace, "queue")
    return QueueKeys._make(space.key(name, turn if part == "answer" else part) for part in QueueKeys._fields)


class ListKeys(NamedTuple):
    """Of a `SimpleQueue`. The items have no TTL: they stay until somebody takes them."""

    items: str
    consumers: str
    answer: str


def list_keys(namespace: str, name: str | bytes, turn: str = "turn") -> ListKeys:
    """`<namespace>:list:{<name>}` is the list itself, for `redis-cli` and other programs."""
    space = Keyspace(namespace, "list")
    return ListKeys(space.key(name), space.key(name, "consumers"), space.key(name, turn))
