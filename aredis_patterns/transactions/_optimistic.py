"""Optimistic transactions: read, decide, write, and nothing is written if somebody else was quicker.

    WATCH marker, keys  ->  reads of the body  ->  MULTI, queued commands, SET marker, EXEC
                                                                   |
                            conflict: wait a little, again  <------+------>  reply lost: look at the marker, then again

Why a lost EXEC is harmless. The transaction itself sets a marker, and the next attempt watches it before it looks. If the
marker is there, the lost EXEC has committed, and which attempt it was stands in it. If it is not, the lost EXEC may still
be on its way; should it arrive late, it either comes before our EXEC, which then fails because the marker has changed, or
after it, and fails itself for the same reason. redis-py's `transaction()` takes the lost reply for a conflict instead
and runs the body again: a transfer of 10 moves 20.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from redis.asyncio import RedisCluster
from redis.exceptions import AskError, ClusterDownError, ExecAbortError, TryAgainError

from aredis_patterns._core.backoff import exponential
from aredis_patterns._core.durations import timeout_seconds
from aredis_patterns.exceptions import (
    OutcomeUnknown,
    RepliesLost,
    ServerUnavailable,
    TransactionConflict,
    TransactionFailed,
)
from aredis_patterns.pipelining import ClientCommands, lane_of
from aredis_patterns.pipelining._borrowing import Borrowed
from aredis_patterns.transactions._keys import marker_of, require_one_slot, to_bytes
from aredis_patterns.types import Command, Encodable, Key, RedisClient, Seconds

__all__ = ["Optimistic", "Queued", "Transaction", "optimistic"]

T = TypeVar("T")

MARKER_TTL_MS: Final = 600_000
FIRST_PAUSE: Final = 0.005
LONGEST_PAUSE: Final = 0.25

_ELSEWHERE: Final = (AskError, TryAgainError, ClusterDownError)
"""The slot is moving: nothing was executed. (MovedError is an AskError.)"""


class Queued:
    """A command that will be executed with the transaction. `result()` is its reply, after the commit."""

    __slots__ = ("_reply", "_state", "command", "name")

    def __init__(self, command: Command) -> None:
        self.command: Final = command
        self.name: Final = _name(command)
        self._state = "waiting"
        self._reply: Any = None

    def result(self) -> Any:
        """The raw reply. Raises its error reply; RepliesLost when the transaction was committed and its reply was lost;
        RuntimeError before the commit."""
        if self._state == "waiting":
            raise RuntimeError(f"{self.name} is executed when the body of the transaction has returned")
        if self._state == "lost":
            raise RepliesLost(self.name)
        if isinstance(self._reply, Exception):
            raise self._reply
        return self._reply

    def settle(self, reply: Any) -> None:
        self._state, self._reply = "done", reply

    def lose(self) -> None:
        self._state = "lost"

    def __repr__(self) -> str:
        return f"<Queued {self.name} {self._state}>"


class Transaction:
    """What the body of an optimistic transaction works with: reads now, writes at the commit."""

    def __init__(self, connection: Borrowed, attempt: int) -> None:
        self._connection = connection
        self.attempt: Final = attempt
        """1 for the first."""
        self.queued: Final[list[Queued]] = []

    async def call(self, *args: Encodable) -> Any:
        """Execute a command now and return its raw reply: for reads. One round trip."""
        return await self._connection.call(*args)

    async def read(self, *commands: Command) -> list[Any]:
        """Execute several reads now, in one round trip. The first error reply is raised."""
        replies = await self._connection.batch(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def get(self, key: Key) -> bytes | None:
        """The value of a string, or None."""
        reply: bytes | None = await self.call("GET", key)
        return reply

    async def get_int(self, key: Key, default: int = 0) -> int:
        """The value of an integer, or `default` when there is none."""
        value = await self.get(key)
        return default if value is None else int(value)

    def queue(self, *args: Encodable) -> Queued:
        """Execute a command with the commit, if there is one."""
        queued = Queued(args)
        self.queued.append(queued)
        return queued


Body = Callable[[Transaction], Awaitable[T]]


class Optimistic:
    """An optimistic transaction over some keys. Made by `optimistic`; may be run many times, also concurrently."""

    def __init__(
        self, client: RedisClient, keys: Sequence[Key], attempts: int, timeout: Seconds | None, namespace: str
    ) -> None:
        if not keys:
            raise ValueError("an optimistic transaction needs at least one key to watch")
        if isinstance(attempts, bool) or attempts < 1:
            raise ValueError(f"attempts must be 1 or more, got {attempts!r}")
        self._keys: Final = [to_bytes(key) for key in keys]
        if isinstance(client, RedisCluster):
            require_one_slot(self._keys)
        self._client: Final = client
        self._commands: Final = lane_of(client)
        self._namespace: Final = namespace
        self.attempts: Final = attempts
        self.timeout: Final = timeout_seconds(timeout)

    @property
    def keys(self) -> list[str]:
        """The watched keys, for people."""
        return [key.decode("utf-8", "backslashreplace") for key in self._keys]

    def __repr__(self) -> str:
        return f"<Optimistic {', '.join(self.keys)}, {self.attempts} attempts>"

    async def run(self, body: Body[T]) -> T:
        """Run `body(transaction)` until its transaction commits, and return what it returned.

        The body may run several times, so it should do nothing but read and queue. What it queued is executed if no
        watched key has changed since the attempt began; a body that queues nothing commits nothing. An error of the body
        ends the transaction, nothing is written, and the error is raised. See `optimistic`.
        """
        marker = marker_of(self._namespace, "optimistic", uuid.uuid4().hex, self._keys)
        run = _Run(self._commands, self._keys, marker, body)
        limit = asyncio.timeout(self.timeout)
        try:
            async with limit:
                return await self._until_committed(run)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the body's own
            if run.in_doubt:
                raise OutcomeUnknown("EXEC", self.keys[0], "no answer could be had in time") from error
            raise TransactionConflict(self.keys, f"no attempt succeeded within {self.timeout:g} s") from error

    async def _until_committed(self, run: _Run[T]) -> T:
        pauses = exponential(first=FIRST_PAUSE, longest=LONGEST_PAUSE)
        for attempt in range(1, self.attempts + 1):
            if attempt > 1:
                await asyncio.sleep(next(pauses))
            if await run.attempt(attempt):
                return run.value
            if isinstance(run.obstacle, _ELSEWHERE) and isinstance(self._client, RedisCluster):
                self._client._initialize = True  # the next attempt asks where the slot is now
        if run.in_doubt:
            raise OutcomeUnknown("EXEC", self.keys[0], "its marker could not be read") from run.obstacle
        if run.obstacle is not None:
            raise run.obstacle
        raise TransactionConflict(self.keys, f"{self.attempts} attempts met a change by somebody else")


class _Run(Generic[T]):
    """One run of a transaction: its attempts, and what is known of those whose EXEC was not answered."""

    def __init__(self, commands: ClientCommands, keys: Sequence[bytes], marker: bytes, body: Body[T]) -> None:
        self._commands = commands
        self._keys = keys
        self._marker = marker
        self._body = body
        self._unanswered: dict[int, tuple[T, list[Queued]]] = {}
        self.obstacle: Exception | None = None
        """What ended the last attempt, when it was no conflict: a lost connection, a slot on the move."""
        self.value: T

    @property
    def in_doubt(self) -> bool:
        """Whether an EXEC may have committed without our knowledge."""
        return bool(self._unanswered)

    async def attempt(self, number: int) -> bool:
        """Whether it is committed now, by this attempt or by an earlier one whose reply was lost."""
        self.obstacle = None
        failure: Exception | None = None
        committed = False
        try:
            async with self._commands.borrow(self._keys[0]) as connection:
                await connection.call("WATCH", self._marker, *self._keys)
                transaction = Transaction(connection, number)
                if await self._committed_before(connection):
                    committed = True
                else:
                    try:
                        self.value = await self._body(transaction)
                        committed = not transaction.queued
                    except Exception as error:
                        if connection.lost is not None:
                            raise connection.lost from error
                        failure = error
                if committed or failure is not None:
                    await connection.call("UNWATCH")  # the connection goes on to serve others
                else:
                    committed = await self._commit(connection, number, transaction.queued)
        except (OutcomeUnknown, ServerUnavailable, *_ELSEWHERE) as error:
            self.obstacle = error
        if failure is not None:
            raise failure
        return committed

    async def _committed_before(self, connection: Borrowed) -> bool:
        if not self._unanswered:
            return False
        which = await connection.call("GET", self._marker)
        if which is None:
            return False
        self.value, queued = self._unanswered[int(which)]
        for each in queued:
            each.lose()
        return True

    async def _commit(self, connection: Borrowed, number: int, queued: list[Queued]) -> bool:
        self._unanswered[number] = (self.value, queued)  # until the answer is here
        marked = ("SET", self._marker, number, "PX", MARKER_TTL_MS)
        replies = await connection.batch([("MULTI",), *(each.command for each in queued), marked, ("EXEC",)])
        del self._unanswered[number]
        outcome = replies[-1]
        if isinstance(outcome, ExecAbortError):
            for reply in replies:
                if isinstance(reply, _ELSEWHERE):
                    raise reply
            raise TransactionFailed(*_failures(queued, replies[1:]), committed=False) from outcome
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:
            return False
        for each, reply in zip(queued, outcome, strict=False):
            each.settle(reply)
        failures = _failures(queued, outcome)
        if failures[0]:
            raise TransactionFailed(*failures, committed=True)
        return True


def _name(command: Command) -> str:
    name = command[0]
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)


def _failures(queued: list[Queued], replies: Sequence[Any]) -> tuple[dict[int, Exception], list[str]]:
    errors = {at: reply for at, reply in enumerate(replies[: len(queued)]) if isinstance(reply, Exception)}
    return errors, [each.name for each in queued]


def optimistic(
    client: RedisClient, *keys: Key, attempts: int = 10, timeout: Seconds | None = 2.0, namespace: str = "ap"
) -> Optimistic:
    """A transaction that commits only if none of `keys` has changed since it began to read, exactly once.

    Exactly once also when replies are lost: see the module. All commands are executed together or not at all; as always
    in Redis, a command that fails when it is executed (a wrong type) does not undo the others, and raises
    TransactionFailed.

    Args:
        keys: what the body reads and decides by. In a Cluster they share a hash tag.
        attempts: how often the body may run, 10 by default, with full jitter of up to 0.25 s between two.
        timeout: seconds for everything, 2 by default; None waits.

    Round trips: three (WATCH, the reads of the body, the commit) on a pool connection of its own; callers wait in line
    for one. A Lua script does the same in one, without conflicts: prefer `transfer` and `Script` for hot keys. With N
    contenders on one key this needs up to N^2 attempts.

    Errors of `run`: TransactionConflict, OutcomeUnknown (an EXEC was not answered and the server not reachable again in
    time), TransactionFailed, CrossSlot (here, at once), and those of the body.
    Memory: one marker of about 120 bytes per commit, for ten minutes.

        async def move(tx: Transaction) -> None:
            if await tx.get_int("{bank}:alice") < 10:
                raise InsufficientFunds(...)
            tx.queue("DECRBY", "{bank}:alice", 10)
            tx.queue("INCRBY", "{bank}:bob", 10)

        await optimistic(redis, "{bank}:alice", "{bank}:bob").run(move)
    """
    return Optimistic(client, keys, attempts, timeout, namespace)
