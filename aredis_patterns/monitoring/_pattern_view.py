"""`pattern_view`: the state of the patterns themselves: locks, queues, limiters, caches, as their keys show it.

Another process cannot ask an application for its objects, but it can read what they keep on the server. One scan of the
namespace says which objects there are; one batch asks those that have something to tell. Nothing is touched or changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import RedisError

from aredis_patterns._core.diagnosis import translate
from aredis_patterns.monitoring._keyscan import PAGE, quiet_connection
from aredis_patterns.monitoring._pattern_keys import FAMILY_OF, PatternKey, parse_key
from aredis_patterns.pipelining._nodes import Node, OwnConnection, nodes_of
from aredis_patterns.types import RedisClient

__all__ = ["LockState", "ObjectCount", "PatternView", "QueueState", "pattern_view"]

MOST_OBJECTS: Final = 200
"""Locks, and queues, that are asked for their state; more are counted only."""
_LOCKS: Final = frozenset(("lock", "leader", "permits", "rwlock", "latch"))


@dataclass(frozen=True, slots=True)
class LockState:
    """A lock that is held or waited for."""

    kind: str
    """"lock", "leader", "permits" (a semaphore), "rwlock" or "latch"."""
    name: str
    held: bool
    holder: str | None
    """What the holder calls itself, where it says so."""
    ttl: float | None
    """Seconds until the grant ends by itself."""
    waiting: int


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue: how deep, and how old the next message is."""

    name: str
    ready: int
    leased: int
    """Delivered and not finished."""
    delayed: int
    dead: int
    paused: bool
    age: float | None
    """Seconds that the next message has waited; None without one, or where ids do not tell."""
    done: int | None
    failed: int | None


@dataclass(frozen=True, slots=True)
class ObjectCount:
    """How many keys an object of another family has: buckets of a limiter, entries of a cache, sessions of a store."""

    family: str
    name: str
    keys: int


@dataclass(frozen=True, slots=True)
class PatternView:
    """What there is below one namespace."""

    namespace: str
    locks: tuple[LockState, ...]
    """Most waited for first."""
    queues: tuple[QueueState, ...]
    """Deepest first."""
    objects: tuple[ObjectCount, ...]
    """Everything else, by family."""
    keys: int
    """Keys that were looked at."""
    complete: bool
    """Whether these were all."""


@dataclass(slots=True)
class _Found:
    """What a scan has found so far."""

    locks: dict[tuple[str, str], bytes] = field(default_factory=dict[tuple[str, str], bytes])
    """(kind, name) -> its key."""
    queues: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """Name -> what its keys begin with."""
    lists: dict[str, bytes] = field(default_factory=dict[str, bytes])
    counts: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    seen: set[bytes] = field(default_factory=set[bytes])
    """Keys of locks and queues. Only these are asked: a look must not show up as misses in the server's hit ratio."""
    keys: int = 0
    complete: bool = True


async def pattern_view(client: RedisClient, *, namespace: str = "ap", max_keys: int = 20_000) -> PatternView:
    """Locks held and waited for, queue depths and ages, and how many keys each other object has.

    Looks at `max_keys` keys of the namespace at most, 500 per round trip, on a connection of its own; then one batch.
    All nodes of a Cluster are asked. Raises PermissionDenied where the ACL forbids SCAN.
    """
    locks: list[LockState] = []
    queues: list[QueueState] = []
    found = _Found()
    for node in await nodes_of(client):
        if not node.primary:
            continue
        try:
            await _look_at(node, namespace, max_keys, found, locks, queues)
        except RedisError as error:
            known = translate(error, command="the pattern view")
            if known is error:
                raise
            raise known from error
    return PatternView(
        namespace=namespace,
        locks=tuple(sorted(locks, key=lambda lock: (-lock.waiting, lock.kind, lock.name))),
        queues=tuple(sorted(queues, key=lambda queue: (-queue.ready - queue.leased, queue.name))),
        objects=tuple(ObjectCount(family, name, keys) for (family, name), keys in sorted(found.counts.items())),
        keys=found.keys,
        complete=found.complete,
    )


async def _look_at(
    node: Node, namespace: str, max_keys: int, found: _Found, locks: list[LockState], queues: list[QueueState]
) -> None:
    here = _Found(counts=found.counts, keys=found.keys)
    async with quiet_connection(node) as (connection, _):
        await _scan(connection, namespace, max_keys, here)
        locks += await _ask_locks(connection, here)
        queues += await _ask_queues(connection, here)
    found.keys, found.complete = here.keys, found.complete and here.complete


async def _scan(connection: OwnConnection, namespace: str, max_keys: int, found: _Found) -> None:
    escaped = "".join(f"\\{letter}" if letter in r"*?[]\^" else letter for letter in namespace)
    cursor: Any = b"0"
    while True:
        cursor, keys = await connection.call("SCAN", cursor, "MATCH", f"{escaped}:*", "COUNT", PAGE)
        for key in keys:
            parsed = parse_key(key, namespace)
            if parsed is not None:
                _sort_in(found, key, parsed)
        found.keys += len(keys)
        if int(cursor) == 0:
            return
        if found.keys >= max_keys:
            found.complete = False
            return


def _sort_in(found: _Found, key: bytes, parsed: PatternKey) -> None:
    base = key[: key.index(b"}") + 1]
    if parsed.kind in _LOCKS or parsed.kind in ("queue", "list"):
        found.seen.add(key)
    if parsed.kind in _LOCKS:
        found.locks[parsed.kind, parsed.object] = base
    elif parsed.kind == "queue":
        found.queues[parsed.object] = base
    elif parsed.kind == "list":
        found.lists[parsed.object] = base
    else:
        family = FAMILY_OF.get(parsed.kind, parsed.kind)
        # Many objects of these kinds belong to one limiter or store, and markers lie beside keys of the user; of the
        # others the object is the name.
        if parsed.kind == "tx":
            name = f"markers of {parsed.suffix[0]}" if parsed.suffix else "markers"
        else:
            name = " ".join(parsed.parts) if parsed.kind in ("rl", "conc", "sess") else parsed.object
        found.counts[family, name] = found.counts.get((family, name), 0) + 1


async def _ask(connection: OwnConnection, found: _Found, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The replies of commands whose key (their second word) was seen; None for the others."""
    asked = [at for at, command in enumerate(commands) if len(command) == 1 or command[1] in found.seen]
    replies: list[Any] = [None] * len(commands)
    if asked:
        for at, reply in zip(asked, await connection.batch([commands[at] for at in asked]), strict=True):
            replies[at] = reply
    return replies


async def _ask_locks(connection: OwnConnection, found: _Found) -> list[LockState]:
    """A lock is a string "<fence>\\n<token>\\n<inbox>\\n<owner>"; others are collections of those who hold them."""
    chosen = list(found.locks.items())[:MOST_OBJECTS]
    commands: list[tuple[Any, ...]] = []
    for _, base in chosen:
        commands += [("GETRANGE", base, 0, 511), ("PTTL", base)]
        commands += [("ZCARD", base + suffix) for suffix in (b":queue", b":readers", b":writers")]
    replies = await _ask(connection, found, commands)
    states: list[LockState] = []
    for at, ((kind, name), base) in enumerate(chosen):
        value, ttl, *waiting = replies[5 * at : 5 * at + 5]
        lines = value.split(b"\n") if isinstance(value, bytes) else []
        # Fence 0 is a reservation for the next in line: nobody holds it yet.
        held = base in found.seen and ttl != -2 and not (kind == "lock" and lines[:1] == [b"0"])
        owner = lines[3].decode(errors="backslashreplace") if len(lines) > 3 else ""
        count = sum(number for number in waiting if isinstance(number, int))
        if held or count:
            left = ttl / 1000 if isinstance(ttl, int) and ttl >= 0 else None
            states.append(LockState(kind, name, held, owner or None, left, count))
    return states


async def _ask_queues(connection: OwnConnection, found: _Found) -> list[QueueState]:
    chosen = list(found.queues.items())[:MOST_OBJECTS]
    lists = list(found.lists.items())[:MOST_OBJECTS]
    commands: list[tuple[Any, ...]] = [("TIME",)]
    for _, base in chosen:
        commands += [("ZCARD", base + part) for part in (b":ready", b":leases", b":delayed", b":dead")]
        commands += [("ZRANGE", base + b":ready", 0, 0), ("HMGET", base + b":counters", "done", "failed")]
    commands += [("LLEN", base) for _, base in lists]
    (seconds, micros), *replies = await _ask(connection, found, commands)
    now = int(seconds) + int(micros) / 1e6
    states = [
        _queue(name, replies[6 * at : 6 * at + 6], now, paused=base + b":paused" in found.seen)
        for at, (name, base) in enumerate(chosen)
    ]
    states += [
        QueueState(name, _int(depth), 0, 0, 0, False, None, None, None)
        for (name, _), depth in zip(lists, replies[6 * len(chosen) :], strict=True)
    ]
    return states


def _queue(name: str, replies: Sequence[Any], now: float, *, paused: bool) -> QueueState:
    ready, leased, delayed, dead, first, counters = replies
    age: float | None = None
    if isinstance(first, list) and first:
        try:
            age = max(0.0, now - int(first[0]) / 1e6)  # an id is the moment of its message in microseconds
        except ValueError:
            age = None
    done, failed = counters if isinstance(counters, list) else (None, None)
    return QueueState(
        name=name,
        ready=_int(ready),
        leased=_int(leased),
        delayed=_int(delayed),
        dead=_int(dead),
        paused=paused,
        age=age,
        done=_int(done),
        failed=_int(failed),
    )


def _int(reply: Any) -> int:
    """0 for what is not there, or is something else than it should be."""
    try:
        return int(reply)
    except (TypeError, ValueError):
        return 0
