"""Every error that the library raises itself.

    PatternError
    ├── OutcomeUnknown            (also redis ConnectionError)   it may have run, or not
    │   └── ReplyTimeout          (also redis TimeoutError)      ... because no reply came in time
    ├── ServerUnavailable         (also redis ConnectionError)   it did not run: nobody answers there
    ├── WireClosed                (also redis ConnectionError)   it did not run: we have been closed
    ├── ServerRefused                                            the server answered, and said no
    │   ├── WrongPassword         (also redis AuthenticationError)
    │   ├── PermissionDenied      (also redis NoPermissionError)
    │   ├── ReadOnlyServer        (also redis ReadOnlyError)
    │   ├── ServerOutOfMemory     (also redis OutOfMemoryError)
    │   ├── ScriptsDenied         (also redis ResponseError)
    │   └── ServerTooOld
    ├── EmbeddedServerError
    │   └── UnsupportedPlatform
    ├── CodecError                (also ValueError)
    │   ├── EncodeError
    │   └── DecodeError
    ├── LockError
    │   ├── LockTimeout           (also TimeoutError)            it was not free in time
    │   ├── LockLost                                             it was ours, and is not any more
    │   ├── LockNotOwned                                         it is not ours to release
    │   ├── LockAlreadyHeld                                      this task has it and would wait for itself
    │   ├── NotReplicated                                        too few replicas have it: it was given back
    │   └── StaleFencingToken                                    the resource has seen a later holder
    ├── QueueError
    │   ├── QueueFull                                            a bounded queue had no room in time
    │   ├── QueueClosed                                          this object was closed while somebody waited
    │   └── LeaseLost                                            somebody else may have the message
    ├── TransactionError
    │   ├── TransactionConflict                                  somebody else was quicker; nothing was written
    │   ├── TransactionFailed                                    a command of a transaction failed
    │   ├── RepliesLost                                          committed, but what the commands answered is lost
    │   ├── InsufficientFunds                                    nothing was moved
    │   ├── NotAnInteger          (also ValueError)              a balance holds something else
    │   └── CrossSlot             (also ValueError)              a Cluster cannot use these keys together
    ├── BatchFailed                                              some commands of a batch were not executed
    ├── LoadFailed                                               the loader of a cache failed, in another process
    ├── LoadTimeout               (also TimeoutError)            the loader of a cache took too long
    ├── ScriptContractError                                      a .lua header and its use disagree
    ├── RateLimitExceeded
    │   └── RateLimitTimeout      (also TimeoutError)            it did not fit in the time that there was
    ├── SessionError                                             a session was not written
    │   ├── SessionGone                                          ... it has ended meanwhile
    │   ├── SessionConflict                                      ... somebody else saved first
    │   └── SessionTooLarge       (also ValueError)
    ├── SlowConsumer                                             a subscriber was slower than its buffer
    ├── TopicFull                                                a durable subscription still needs what is there
    ├── ScoreRangeError           (also ValueError)              a score that a float does not hold exactly
    ├── WindowClosed              (also ValueError)              a day that is no longer kept
    ├── ReservationExpired                                       settled too late: the estimate stands
    ├── ConcurrencyLimitExceeded                                 no place became free in time
    ├── IndexFull                                                no more ids to give
    └── WrongKeyType              (also redis ResponseError)     a key holds something else

Two questions come first in any incident: did it run, and whose fault was it? `OutcomeUnknown` is the only answer of
"perhaps" to the first one. Redis errors that carry their meaning already (WRONGTYPE, a script's own error) pass through
untouched; those above exist where a caller can do something, and say what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis import exceptions as redis_errors

if TYPE_CHECKING:
    from aredis_patterns.ratelimit import RateLimitResult
    from aredis_patterns.transactions import BatchReport

__all__ = [
    "BatchFailed",
    "CodecError",
    "ConcurrencyLimitExceeded",
    "CrossSlot",
    "DecodeError",
    "EmbeddedServerError",
    "EncodeError",
    "IndexFull",
    "InsufficientFunds",
    "LeaseLost",
    "LoadFailed",
    "LoadTimeout",
    "LockAlreadyHeld",
    "LockError",
    "LockLost",
    "LockNotOwned",
    "LockTimeout",
    "NotAnInteger",
    "NotReplicated",
    "OutcomeUnknown",
    "PatternError",
    "PermissionDenied",
    "QueueClosed",
    "QueueError",
    "QueueFull",
    "RateLimitExceeded",
    "RateLimitTimeout",
    "ReadOnlyServer",
    "RepliesLost",
    "ReplyTimeout",
    "ReservationExpired",
    "ScoreRangeError",
    "ScriptContractError",
    "ScriptsDenied",
    "ServerOutOfMemory",
    "ServerRefused",
    "ServerTooOld",
    "ServerUnavailable",
    "SessionConflict",
    "SessionError",
    "SessionGone",
    "SessionTooLarge",
    "SlowConsumer",
    "StaleFencingToken",
    "TopicFull",
    "TransactionConflict",
    "TransactionError",
    "TransactionFailed",
    "UnsupportedPlatform",
    "WindowClosed",
    "WireClosed",
    "WrongKeyType",
    "WrongPassword",
]


class PatternError(Exception):
    """The root of all errors of this library."""


class OutcomeUnknown(PatternError, redis_errors.ConnectionError):
    """The command was sent and the connection ended before its reply: it may have been executed, or not.

    Attributes: `command` (its name) and `key` (its key, when it has one). Never sent again by the library; read the
    state back, or repeat the operation where repeating is harmless.
    """

    def __init__(self, command: str, key: str | None = None, reason: str = "the connection was lost") -> None:
        self.command = command
        self.key = key
        self.reason = reason
        where = f" on key {key!r}" if key is not None else ""
        super().__init__(f"{command}{where} was sent, but {reason}: it may or may not have been executed")


class ReplyTimeout(OutcomeUnknown, redis_errors.TimeoutError):
    """No reply came before the deadline: the command may have been executed, or may still be."""


class ServerUnavailable(PatternError, redis_errors.ConnectionError):
    """Nobody answers at that address. Nothing was executed."""


class WireClosed(PatternError, redis_errors.ConnectionError):
    """The client was closed before the command could be sent. Nothing was executed."""


class ServerRefused(PatternError):
    """The server answered and refused. Nothing was executed."""


class WrongPassword(ServerRefused, redis_errors.AuthenticationError):
    """User name or password are wrong, or missing."""


class PermissionDenied(ServerRefused, redis_errors.NoPermissionError):
    """The ACL of this user does not allow the command, the key or the channel."""


class ReadOnlyServer(ServerRefused, redis_errors.ReadOnlyError):
    """This server is a replica; writes belong to its primary."""


class ServerOutOfMemory(ServerRefused, redis_errors.OutOfMemoryError):
    """The server is at `maxmemory` and may not evict anything."""


class ScriptsDenied(ServerRefused, redis_errors.ResponseError):
    """The server has no EVALSHA or SCRIPT LOAD (renamed, disabled, or a proxy in between)."""


class ServerTooOld(ServerRefused):
    """The server is older than Redis 7.0 or Valkey 7.2."""


class EmbeddedServerError(PatternError):
    """The embedded server did not start."""


class UnsupportedPlatform(EmbeddedServerError):
    """There is no embedded server for this platform, or its package is not installed."""


class CodecError(PatternError, ValueError):
    """A value does not fit the codec."""


class EncodeError(CodecError):
    """The value cannot be written; nothing was sent."""


class DecodeError(CodecError):
    """The stored bytes cannot be read; they were left as they are."""


class LockError(PatternError):
    """Something about a lock, semaphore or election. `key` is its name as the program gave it."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        super().__init__(f"{message} ({key!r})")


class LockTimeout(LockError, TimeoutError):
    """It could not be had within the time that the caller wanted to wait. Nothing is held, nothing waits."""


class LockLost(LockError):
    """It was held, and ended before it was released. `reason` says how that was noticed.

    What the critical section did after that moment may overlap with another holder; a resource that checks fencing
    tokens has refused it.
    """

    def __init__(self, key: str, reason: str) -> None:
        self.reason = reason
        super().__init__(key, f"the lock was lost: {reason}")


class LockNotOwned(LockError):
    """Whoever asks does not hold it. Nothing was changed."""


class LockAlreadyHeld(LockError):
    """The task that wants it has it already, and would wait for itself."""


class NotReplicated(LockError):
    """Fewer replicas than asked for have confirmed the lock, so it was given back."""


class StaleFencingToken(LockError):
    """A later holder has written already: this one has lost its lock and must stop. Nothing was written."""

    def __init__(self, key: str, token: int, newest: int) -> None:
        self.token = token
        self.newest = newest
        super().__init__(key, f"fencing token {token} is older than {newest}, which was seen before")


class QueueError(PatternError):
    """The root of the errors of queues. `queue` is the name."""

    def __init__(self, queue: str, message: str) -> None:
        self.queue = queue
        super().__init__(message)


class QueueFull(QueueError):
    """A bounded queue had no room in time. Nothing was enqueued. `free` is the room that there was."""

    def __init__(self, queue: str, free: int, wanted: int) -> None:
        self.free = free
        self.wanted = wanted
        super().__init__(queue, f"queue {queue!r} has room for {free} more messages, not for {wanted}")


class QueueClosed(QueueError):
    """The queue object was closed while somebody waited. The queue itself is as it was."""

    def __init__(self, queue: str) -> None:
        super().__init__(queue, f"queue {queue!r} was closed")


class LeaseLost(QueueError):
    """The lease of this delivery had ended and the message is somebody else's now, or nobody's. Nothing was done."""

    def __init__(self, queue: str, message_id: str) -> None:
        self.message_id = message_id
        super().__init__(queue, f"the lease of message {message_id} of queue {queue!r} was lost")


class LoadFailed(PatternError):
    """The loader of a cached value failed in another process, for all who waited.

    The process that ran it got the loader's own exception. `key` names the entry, `kind` the type of that exception and
    `detail` its text.
    """

    def __init__(self, key: str, kind: str, detail: str) -> None:
        self.key = key
        self.kind = kind
        self.detail = detail
        super().__init__(f"loading {key!r} failed: {kind}{f': {detail}' if detail else ''}")


class LoadTimeout(PatternError, TimeoutError):
    """The loader of a cached value took longer than `load_timeout` and was cancelled. `key` names the entry."""

    def __init__(self, key: str, seconds: float) -> None:
        self.key = key
        self.seconds = seconds
        super().__init__(f"loading {key!r} took longer than {seconds:g} s")


class TransactionError(PatternError):
    """A transaction did not do what it was asked to."""


class TransactionConflict(TransactionError):
    """Other writers were quicker each time; nothing was written. `keys` are those that were watched."""

    def __init__(self, keys: list[str], reason: str) -> None:
        self.keys = keys
        super().__init__(f"transaction on {', '.join(map(repr, keys))}: {reason}")


class TransactionFailed(TransactionError):
    """The server refused commands of a transaction. `errors` has them by position in the order of queueing.

    `committed` False: the server noticed before executing anything. True: it noticed while executing, and the other
    commands have taken effect; Redis does not undo them.
    """

    def __init__(self, errors: dict[int, Exception], commands: list[str], *, committed: bool) -> None:
        self.errors = errors
        self.committed = committed
        told = "; ".join(f"{commands[at]}: {error}" for at, error in errors.items())
        effect = "the other commands have taken effect" if committed else "nothing was executed"
        super().__init__(f"{len(errors)} commands of a transaction failed, {effect}: {told}")


class RepliesLost(TransactionError):
    """The transaction was committed, once; what `command` answered is not known. Read it back."""

    def __init__(self, command: str) -> None:
        self.command = command
        super().__init__(f"the transaction was committed, but the reply to {command} was lost")


class InsufficientFunds(TransactionError):
    """The balance at `key` is smaller than the amount; nothing was moved."""

    def __init__(self, key: str, balance: int, amount: int) -> None:
        self.key = key
        self.balance = balance
        self.amount = amount
        super().__init__(f"{key!r} has {balance}, which is less than {amount}")


class NotAnInteger(TransactionError, ValueError):
    """The value at `key` is not a whole number; nothing was changed."""

    def __init__(self, key: str, value: bytes) -> None:
        self.key = key
        self.value = value
        super().__init__(f"{key!r} does not hold a whole number, but {value[:40]!r}")


class CrossSlot(TransactionError, ValueError):
    """In a Cluster keys that are used together must lie in one slot. `keys` do not."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys
        super().__init__(
            f"the keys {', '.join(map(repr, keys))} lie in different slots of the Cluster; give them a common hash tag, "
            "for example '{bank}:alice' and '{bank}:bob'"
        )


class BatchFailed(PatternError):
    """Some commands of a batch failed, or nobody knows, or were not sent. `report` accounts for every index."""

    def __init__(self, report: BatchReport) -> None:
        self.report = report
        super().__init__(str(report))


class ScriptContractError(PatternError):
    """The header of a Lua file disagrees with its body or with its caller."""


class RateLimitExceeded(PatternError):
    """Raised by `require`: the limit refuses. `result` tells why and when to come back; `key` names the bucket."""

    def __init__(self, key: str, result: RateLimitResult) -> None:
        self.key = key
        self.result = result
        wait = "never" if result.retry_after is None else f"in {result.retry_after:.3f} s"
        super().__init__(f"rate limit exceeded for {key!r}: cost {result.cost} can pass {wait}")


class SlowConsumer(PatternError):
    """Raised by a subscription with `overflow="raise"` that was slower than its buffer, when the buffer has been read.

    `channels` names what it was subscribed to, and `missed` is how many messages it did not get so far.
    """

    def __init__(self, channels: str, missed: int) -> None:
        self.channels = channels
        self.missed = missed
        super().__init__(f"the subscriber of {channels} was too slow: {missed} messages did not fit into its buffer")


class TopicFull(PatternError):
    """Nothing was published: the topic is at its `maxlen`, and a durable subscription has not settled its oldest
    messages.

    `topic` names it, and `free` is how many messages would have fitted.
    """

    def __init__(self, topic: str, free: int) -> None:
        self.topic = topic
        self.free = free
        super().__init__(f"topic {topic!r} has room for {free} more: a durable subscription needs its oldest messages")


class ScoreRangeError(PatternError, ValueError):
    """A score is NaN, infinite, or beyond 2^53, where neighbouring integers are one float. Nothing was written."""


class WindowClosed(PatternError, ValueError):
    """A write for a day that is no longer kept: it would have deleted what it wrote to. Nothing was written.

    Attribute: `name` of the board or tracker.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"{name!r}: {reason}, nothing was written")


class SessionError(PatternError):
    """A session was not written. `handle` is its public name; what is stored is as it was."""

    def __init__(self, handle: str, message: str) -> None:
        self.handle = handle
        super().__init__(f"session {handle[:9]}...: {message}")


class SessionGone(SessionError):
    """The session has ended meanwhile: it expired, was revoked, or goes on under another id. It is never brought back."""

    def __init__(self, handle: str) -> None:
        super().__init__(handle, "it has ended; nothing was written")


class SessionConflict(SessionError):
    """`save(session, if_version=...)`: somebody else saved first. `expected` and `actual` are versions."""

    def __init__(self, handle: str, expected: int, actual: int) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(handle, f"version {expected} was expected, but it is {actual}; nothing was written")


class SessionTooLarge(SessionError, ValueError):
    """The session would grow above `max_bytes`. `size` and `limit` are bytes of all names and values."""

    def __init__(self, handle: str, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(handle, f"{size} bytes are more than max_bytes={limit}; nothing was written")


class RateLimitTimeout(RateLimitExceeded, TimeoutError):
    """Raised by `acquire`: it does not fit within the timeout. Nothing was charged."""


class ReservationExpired(PatternError):
    """A reservation was settled so late that nothing is known of it any more. Nothing was changed; `key` names it."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"the reservation on {key!r} is too old to be settled; what it charged has been left as it was"
        )


class ConcurrencyLimitExceeded(PatternError):
    """No place became free in time. `key` names what is limited, `limit` how many may hold it at once."""

    def __init__(self, key: str, limit: int) -> None:
        self.key = key
        self.limit = limit
        super().__init__(f"all {limit} places of {key!r} are taken")


class IndexFull(PatternError):
    """An index has given all its ids up to `max_id`. None of the names in the call got one.

    Attributes: `name` of the index, and `max_id`.
    """

    def __init__(self, name: str, max_id: int) -> None:
        self.name = name
        self.max_id = max_id
        super().__init__(f"index {name!r} is full: all ids up to {max_id} are given")


class WrongKeyType(PatternError, redis_errors.ResponseError):
    """A key holds something else than what belongs there. Attribute: `keys`, those that the operation read."""

    def __init__(self, keys: tuple[str, ...], reason: str) -> None:
        self.keys = keys
        super().__init__(f"{', '.join(map(repr, keys))}: {reason}")
