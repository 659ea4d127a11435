"""Sending: PUBLISH or SPUBLISH, or the script that numbers the messages. Knows names on the server and bytes, no codec."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import RedisCluster

from aredis_patterns.pipelining import lane_of
from aredis_patterns.pubsub._keys import ChannelNames
from aredis_patterns.pubsub._numbers import Position
from aredis_patterns.pubsub._scripts import publish_numbered
from aredis_patterns.types import Commands, RedisClient

__all__ = ["COUNT_TTL", "Publisher"]

COUNT_TTL: Final = 24 * 3600 * 1000
"""Milliseconds that the count of a channel lives after its last message."""

PATIENCE: Final = 2.0
"""Seconds in which the server must say how far it has counted; a subscriber waits to be told of a gap."""


class Publisher:
    """The sending half of a `PubSub`."""

    def __init__(self, client: RedisClient, names: ChannelNames, *, sharded: bool, numbered: bool) -> None:
        self.published = 0
        self._commands: Final[Commands] = lane_of(client)
        self._names: Final = names
        self._in_cluster: Final = isinstance(client, RedisCluster)
        self._sharded: Final = sharded
        self._numbered: Final = numbered
        self._verb: Final = "SPUBLISH" if sharded else "PUBLISH"

    async def publish(self, name: bytes, body: bytes, deadline: float | None) -> int:
        """Publish one message; how many connections got it."""
        if self._numbered:
            done = await publish_numbered(
                self._commands,
                counter=self._counter(name),
                channel=name,
                sharded=self._sharded,
                ttl=COUNT_TTL,
                body=body,
                deadline=deadline,
            )
            receivers = done.receivers
        else:
            receivers = await self._commands.call(self._verb, name, body, key=name, deadline=deadline)
        self.published += 1
        return receivers

    async def publish_all(self, todo: Sequence[tuple[bytes, bytes]], deadline: float | None) -> list[int]:
        """Publish in order; the receivers of each. The first error is raised when all have been answered."""
        replies: Sequence[Any]
        if self._numbered or self._in_cluster:
            calls = (self.publish(name, body, deadline) for name, body in todo)
            replies = await asyncio.gather(*calls, return_exceptions=True)
        elif todo:
            commands = [(self._verb, name, body) for name, body in todo]
            replies = await self._commands.batch(commands, key=todo[0][0], deadline=deadline)
            self.published += len(replies)
        else:
            replies = []
        receivers: list[int] = []
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
            receivers.append(reply)
        return receivers

    async def counted(self, name: bytes) -> Position | None:
        """How far a channel is counted; None for one that is not."""
        counter = self._counter(name)
        epoch, number = await self._commands.call("HMGET", counter, "epoch", "n", key=counter, deadline=PATIENCE)
        return Position(epoch, int(number)) if epoch is not None and number is not None else None

    def _counter(self, name: bytes) -> bytes:
        return self._names.counter(name, same_slot=self._sharded and self._in_cluster)
