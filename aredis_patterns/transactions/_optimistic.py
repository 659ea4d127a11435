"""Optimistic transactions: read, decide, write, and nothing is written if somebody else was quicker.

    WATCH marker, keys  ->  reads of the body  ->  MULTI, queued commands, SET marker, EXEC
                                                                   |
                            conflict: wait a little, again  <------+------>  reply lost: look at the marker, then again

Why a lost EXEC is harmless. The transaction itself sets a marker, and the next attempt watches it before it looks. If the
marker is there, the lost EXEC has committed, and which attempt it was stands in it. If it is not, the lost EXEC may still
be on its way; should it arrive late, it either comes before our EXEC, which then fails because the marker has changed, or
after it, and fails itself for the same reason. redis-py's `transaction()` takes the lost reply for a conflict instead
and runs the body again: a transfer of 10 moves 20.

An attempt that would write nothing (its body raises, or queues nothing) is not believed while an earlier EXEC is in
doubt: what it read may be the work of that very EXEC. It commits the marker alone, and conflicts if the EXEC has come.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar, cast

from redis.asyncio import RedisCluster
from redis.exceptions import AskError, ClusterDownError, ExecAbortError, ReadOnlyError, ResponseError, TryAgainError

from aredis_patterns._core.backoff import exponential
from aredis_patterns._core.diagnosis import translate
from aredis_patterns._core.durations import timeout_seconds
from aredis_patterns.exceptions import (
    OutcomeUnknown,
    ServerUnavailable,
    TransactionConflict,
    TransactionFailed,
)
from aredis_patterns.pipelining import ClientCommands, lane_of
from aredis_patterns.pipelining._borrowing import Borrowed
from aredis_patterns.transactions._keys import marker_of, require_one_slot, to_bytes
from aredis_patterns.transactions._transaction import Queued, Transaction
from aredis_patterns.types import Key, RedisClient, Seconds

__all__ = ["Optimistic", "optimistic"]

T = TypeVar("T")

MARKER_TTL_MS: Final = 600_000
FIRST_PAUSE: Final = 0.005
LONGEST_PAUSE: Final = 0.25

_ELSEWHERE: Final = (AskError, TryAgainError, ClusterDownError, ReadOnlyError)
"""The slot is moving, or the primary: nothing was executed. (MovedError is an AskError.)"""


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

    def _explained(self, error: Exception) -> Exception:
        return translate(error, command="an optimistic transaction", key=self.keys[0])

    async def _until_committed(self, run: _Run[T]) -> T:
        pauses = exponential(first=FIRST_PAUSE, longest=LONGEST_PAUSE)
        for attempt in range(1, self.attempts + 1):
            if attempt > 1:
                await asyncio.sleep(next(pauses))
            if run.forgotten:
                break
            try:
                ended = await run.attempt(attempt)
            except ResponseError as error:  # of WATCH or EXEC: those of the body are its failure
                raise self._explained(error) from error.__cause__
            if ended:
                return run.result()
            if isinstance(run.obstacle, _ELSEWHERE) and isinstance(self._client, RedisCluster):
                self._client._initialize = True  # the next attempt asks where the slot is now
        if run.in_doubt:
            raise OutcomeUnknown("EXEC", self.keys[0], "no later attempt could find out") from run.obstacle
        if run.obstacle is not None:
            raise self._explained(run.obstacle) from run.obstacle.__cause__
        raise TransactionConflict(self.keys, f"{self.attempts} attempts met a change by somebody else")


class _Run(Generic[T]):
    """One run of a transaction: its attempts, and what is known of those whose EXEC was not answered."""

    def __init__(self, commands: ClientCommands, keys: Sequence[bytes], marker: bytes, body: Body[T]) -> None:
        self._commands = commands
        self._keys = keys
        self._marker = marker
        self._body = body
        self._unanswered: dict[int, tuple[T | None, Exception | None, list[Queued]]] = {}
        self._doubtful_since = 0.0
        self.obstacle: Exception | None = None
        """What ended the last attempt, when it was no conflict: a lost connection, a slot on the move."""
        self.value: T | None = None
        """What the body returned."""
        self.failure: Exception | None = None
        """What the body raised."""

    def result(self) -> T:
        """What the body of the attempt that counts returned, or raised."""
        if self.failure is not None:
            raise self.failure
        return cast(T, self.value)

    @property
    def in_doubt(self) -> bool:
        """Whether an EXEC may have committed without our knowledge."""
        return bool(self._unanswered)

    @property
    def forgotten(self) -> bool:
        """Whether the marker of an EXEC in doubt may have expired, so that its absence says nothing any more."""
        age = asyncio.get_running_loop().time() - self._doubtful_since
        return self.in_doubt and age > MARKER_TTL_MS / 2000

    async def attempt(self, number: int) -> bool:
        """Whether it has ended, in this attempt or by an earlier one whose reply was lost. `value` or `failure` say how."""
        self.obstacle = None
        ended = False
        try:
            async with self._commands.borrow(self._keys[0]) as connection:
                await connection.call("WATCH", self._marker, *self._keys)
                queued: list[Queued] = []
                ended = await self._committed_before(connection)
                if not ended:
                    queued = await self._decide(connection, number)
                    ended = not queued and not self.in_doubt
                if not ended:
                    ended = await self._commit(connection, number, queued)
                elif connection.lost is None:
                    await connection.call("UNWATCH")  # the connection goes on to serve others
        except (OutcomeUnknown, ServerUnavailable, *_ELSEWHERE) as error:
            self.obstacle = error
        return ended

    async def _decide(self, connection: Borrowed, number: int) -> list[Queued]:
        """Run the body, note what it returned or raised, and return what it wants to be written."""
        transaction = Transaction(connection, number)
        self.value, self.failure = None, None
        try:
            self.value = await self._body(transaction)
        except Exception as error:
            if connection.lost is not None and not connection.interrupted:
                raise connection.lost from error
            self.failure = error
            return []
        if connection.lost is not None:  # the body made light of it, but nothing is being watched any more
            raise connection.lost
        return transaction.queued

    async def _committed_before(self, connection: Borrowed) -> bool:
        if not self._unanswered:
            return False
        which = await connection.call("GET", self._marker)
        if which is None:
            return False
        self.value, self.failure, queued = self._unanswered[int(which)]
        for each in queued:
            each.lose()
        return True

    async def _commit(self, connection: Borrowed, number: int, queued: list[Queued]) -> bool:
        if not self._unanswered:
            self._doubtful_since = asyncio.get_running_loop().time()
        self._unanswered[number] = (self.value, self.failure, queued)  # until the answer is here
        marked = ("SET", self._marker, number, "PX", MARKER_TTL_MS)
        replies = await connection.batch([("MULTI",), *(each.command for each in queued), marked, ("EXEC",)])
        del self._unanswered[number]
        outcome = replies[-1]
        if isinstance(outcome, ExecAbortError):
            for reply in replies:
                if isinstance(reply, _ELSEWHERE):
                    raise reply
            refused = TransactionFailed(*_failures(queued, replies[1:]), committed=False)
            if not self.in_doubt:
                raise refused from outcome
            self.obstacle = refused  # nothing was executed now; what of the EXEC before?
            return False
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
