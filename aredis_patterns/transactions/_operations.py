"""Single operations that count once, also when their reply is lost: `transfer`, `increment`, `compare_and_set`.

Each leaves a marker with its answer for `remember` seconds. A second run of the same operation (sent again by the wire
after a lost connection, or called again with the same `operation_id`) changes nothing and gets the first answer.
"""

from __future__ import annotations

import re
import uuid
from typing import Final, Literal, NamedTuple

from redis.asyncio import RedisCluster
from redis.exceptions import ResponseError

from aredis_patterns._core.durations import to_milliseconds, to_seconds
from aredis_patterns.exceptions import InsufficientFunds, NotAnInteger
from aredis_patterns.pipelining import lane_of
from aredis_patterns.transactions import _scripts
from aredis_patterns.transactions._keys import marker_of, require_one_slot, to_bytes
from aredis_patterns.transactions._optimistic import optimistic
from aredis_patterns.transactions._transaction import Transaction
from aredis_patterns.types import Encodable, Key, RedisClient, Seconds

__all__ = ["REMEMBER", "Transfer", "compare_and_set", "increment", "transfer"]

REMEMBER: Final = 600.0
"""Seconds for which an operation is recognised when it comes a second time."""

MOST: Final = 2**63 - 1
"""The largest integer of Redis."""


class Transfer(NamedTuple):
    """The balances after a transfer."""

    source: int
    destination: int


async def transfer(
    client: RedisClient,
    source: Key,
    destination: Key,
    amount: int,
    *,
    using: Literal["script", "watch"] = "script",
    operation_id: str | None = None,
    remember: Seconds = REMEMBER,
    deadline: Seconds | None = 1.0,
    namespace: str = "ap",
) -> Transfer:
    """Move `amount` from one integer balance to another, all or nothing, exactly once. One round trip.

    Exactly once holds also when the reply is lost: the wire runs the script again and it recognises itself. Give an
    `operation_id` (of the payment, say) to be recognised across calls and processes, for `remember` seconds.

    Args:
        amount: 1 to 2^63 - 1, in whole units (cents). A missing balance is 0. Balances keep their TTL, if they have one;
            those that this creates have none, because they are yours.
        using: "script" decides in the server. "watch" is the same as an optimistic transaction, for users that may not run
            scripts: three round trips, conflicts, and no `operation_id`; `deadline` bounds all of it.
        deadline: seconds to wait for the answer, 1 by default; None: as long as the client's `socket_timeout`.

    Raises InsufficientFunds and NotAnInteger (nothing was changed), CrossSlot in a Cluster when the keys do not share a
    hash tag, ValueError for a bad amount or a transfer to itself, OutcomeUnknown when no answer could be had: ask again
    with the same `operation_id`.

    Memory: one marker of about 150 bytes per transfer for `remember`.

        after = await transfer(redis, "{bank}:alice", "{bank}:bob", 10, operation_id="payment-77")
    """
    one, other = to_bytes(source), to_bytes(destination)
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 < amount <= MOST:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"amount must be a whole number from 1 to 2^63 - 1, got {amount!r}")
    if one == other:
        raise ValueError(f"source and destination are both {source!r}")
    if isinstance(client, RedisCluster):
        require_one_slot([one, other])
    if using not in ("script", "watch"):
        raise ValueError(f"using is script or watch, got {using!r}")
    if using == "watch":
        if operation_id is not None:
            raise ValueError("an operation_id needs using='script'")
        return await _transfer_watching(client, one, other, amount, deadline, namespace)
    answer = await _scripts.transfer(
        lane_of(client),
        source=one,
        destination=other,
        marker=marker_of(namespace, "transfer", operation_id or _fresh(), [one, other]),
        amount=amount,
        remember=to_milliseconds(remember, "remember"),
        deadline=_seconds(deadline),
    )
    if answer.status == 0:
        raise InsufficientFunds(_text(one), int(answer.source), amount)
    if answer.status < 0:
        key, value = (one, answer.source) if answer.status == -1 else (other, answer.destination)
        raise NotAnInteger(_text(key), value)
    return Transfer(int(answer.source), int(answer.destination))


async def _transfer_watching(
    client: RedisClient, one: bytes, other: bytes, amount: int, deadline: Seconds | None, namespace: str
) -> Transfer:
    async def move(tx: Transaction) -> Transfer:
        has, others = await tx.read(("GET", one), ("GET", other))
        balance, receiving = _whole(one, has), _whole(other, others)
        if balance < amount:
            raise InsufficientFunds(_text(one), balance, amount)
        if receiving + amount > MOST:  # or DECRBY would take effect alone: EXEC undoes nothing
            raise ResponseError("increment or decrement would overflow")
        tx.queue("DECRBY", one, amount)
        tx.queue("INCRBY", other, amount)
        return Transfer(balance - amount, receiving + amount)  # both are watched; the replies may be lost

    transaction = optimistic(client, one, other, attempts=1000, timeout=deadline, namespace=namespace)
    return await transaction.run(move)


def _whole(key: bytes, value: bytes | None) -> int:
    if value is None:
        return 0
    if not re.fullmatch(rb"0|-?[1-9][0-9]{0,18}", value) or not -MOST - 1 <= int(value) <= MOST:
        raise NotAnInteger(_text(key), value)
    return int(value)


async def increment(
    client: RedisClient,
    key: Key,
    amount: int = 1,
    *,
    ttl: Seconds | None = None,
    operation_id: str | None = None,
    remember: Seconds = REMEMBER,
    deadline: Seconds | None = 1.0,
    namespace: str = "ap",
) -> int:
    """Add to a counter exactly once, also when the reply is lost, and return its new value. One round trip.

    A plain INCR is applied at most once by the wire (a lost reply is `OutcomeUnknown`); use this where nobody can look
    whether it has counted. `amount` may be negative; `ttl` is the life of a counter that this creates (None: no expiry,
    the key is yours). `operation_id`, `remember`, `deadline` and memory: see `transfer`.

    Raises redis ResponseError when the value is no integer or would overflow; nothing was changed.

        views = await increment(redis, "views:home", ttl=86400)
    """
    counter = to_bytes(key)
    if isinstance(amount, bool) or not isinstance(amount, int) or not -MOST <= amount <= MOST:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"amount must be a whole number within 63 bits, got {amount!r}")
    return await _scripts.increment(
        lane_of(client),
        counter=counter,
        marker=marker_of(namespace, "increment", operation_id or _fresh(), [counter]),
        amount=amount,
        ttl=0 if ttl is None else to_milliseconds(ttl),
        remember=to_milliseconds(remember, "remember"),
        deadline=_seconds(deadline),
    )


async def compare_and_set(
    client: RedisClient,
    key: Key,
    expected: Encodable | None,
    new: Encodable | None,
    *,
    ttl: Seconds | Literal["keep"] | None = None,
    operation_id: str | None = None,
    remember: Seconds = 60.0,
    deadline: Seconds | None = 1.0,
    namespace: str = "ap",
) -> bool:
    """Set a string to `new` if it is `expected`; whether it was. One round trip, exactly once.

    `expected=None` means that the key must be missing, `new=None` deletes it. Values are compared as bytes, as Redis
    stores them (`1` and `"1"` are the same, `1.0` is not). `ttl`: life of the new value, "keep" for what is left of the
    old one, None for no expiry. Of many callers with the same expectation exactly one gets True, also when replies are
    lost. `operation_id`, `remember`, `deadline`: see `transfer`.

        if not await compare_and_set(redis, "config", old, new):
            ...  # somebody was quicker
    """
    name = to_bytes(key)
    return await _scripts.compare_and_set(
        lane_of(client),
        key=name,
        marker=marker_of(namespace, "cas", operation_id or _fresh(), [name]),
        must_exist=expected is not None,
        expected=b"" if expected is None else expected,
        store=new is not None,
        new=b"" if new is None else new,
        ttl=-1 if ttl == "keep" else 0 if ttl is None else to_milliseconds(ttl),
        remember=to_milliseconds(remember, "remember"),
        deadline=_seconds(deadline),
    )


def _fresh() -> str:
    return uuid.uuid4().hex


def _seconds(deadline: Seconds | None) -> float | None:
    return None if deadline is None else to_seconds(deadline, "deadline")


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")
