"""Public aliases, and the smallest client that a pattern needs."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

__all__ = ["Command", "Commands", "Encodable", "Key", "RedisClient", "Seconds"]

Encodable: TypeAlias = str | bytes | int | float | memoryview
"""What Redis takes as one argument of a command."""

Command: TypeAlias = Sequence[Encodable]
"""One command: its name and its arguments."""

Key: TypeAlias = str | bytes

Seconds: TypeAlias = float | timedelta
"""A duration. Plain numbers are seconds, everywhere in the public interface."""

RedisClient: TypeAlias = "Redis | RedisCluster"
"""Any asyncio client of redis-py, stock or pipelined."""


class Commands(Protocol):
    """Sends commands in order. `aredis_patterns.pipelining.lane_of(client)` gives one for any client.

    Replies are raw (bytes are never decoded, whatever the client's `decode_responses`), and error replies are
    exceptions. `key` names the key that the command is about: it chooses the node in a Cluster and appears in errors.
    """

    def call(
        self,
        *args: Encodable,
        key: Key | None = None,
        replay_safe: bool = False,
        deadline: float | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Send one command and return its reply: one round trip.

        `replay_safe=True` promises that a second execution is a no-op with the same answer; only then is a command that
        may have been executed sent again. `deadline`: seconds until `ReplyTimeout`.
        """
        ...

    def batch(
        self,
        commands: Sequence[Command],
        *,
        key: Key | None = None,
        replay_safe: bool = False,
        deadline: float | None = None,
    ) -> Coroutine[Any, Any, list[Any]]:
        """Send commands back to back, in this order, and return all replies: one round trip.

        An error is returned in its place in the list, not raised.
        """
        ...

    def post(self, *args: Encodable, key: Key | None = None, replay_safe: bool = False) -> None:
        """Send a command now, without waiting, behind everything sent before. Its reply is dropped.

        Synchronous, so it cannot be cancelled: this is how a cancelled operation undoes what it did.
        `replay_safe=True` lets it survive the loss of the connection.
        """
        ...
