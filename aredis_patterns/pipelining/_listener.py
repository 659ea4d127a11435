"""`listener_of(client)`: one connection that listens, however many channels and subscribers.

A stand-alone server has one ear. In a Cluster plain channels and patterns are heard on any one node, because PUBLISH is
broadcast there; shard channels are heard on the node of their slot, one ear per node, and follow it when it moves.
"""

from __future__ import annotations

import asyncio
import functools
import random
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.crc import key_slot
from redis.exceptions import MovedError, RedisError

from aredis_patterns.exceptions import ServerUnavailable, WireClosed
from aredis_patterns.pipelining._channel import Channel, Kind, ListenerSubscription, OnMessage
from aredis_patterns.pipelining._ear import HEARTBEAT, Ear
from aredis_patterns.pipelining._opening import PoolSource
from aredis_patterns.types import Key

if TYPE_CHECKING:
    from redis.asyncio.connection import ConnectionPool

    from aredis_patterns.pipelining._inbox import Inbox

__all__ = ["Listener", "ListenerStatistics"]

MOVE_PAUSE: Final = 0.1
"""Seconds before a channel that lost its node is looked for again, give or take half."""


@dataclass(frozen=True, slots=True)
class ListenerStatistics:
    """`connections` open now, `channels` (and patterns) wanted, `reconnects` so far."""

    connections: int
    channels: int
    reconnects: int


class Listener:
    """Subscriptions of one client in one event loop, on a single server."""

    def __init__(self, pool: ConnectionPool | None = None, *, heartbeat: float = HEARTBEAT, fast: bool = True) -> None:
        self.loop = asyncio.get_running_loop()
        self.inboxes: dict[str, Inbox] = {}
        self.closed = False
        self._options: dict[str, Any] = {"heartbeat": heartbeat, "fast": fast}
        self._ears: dict[str, Ear] = {}
        if pool is not None:
            self._ears[""] = Ear(PoolSource(pool), **self._options)

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<{type(self).__name__} {now.connections} connections, {now.channels} channels>"

    async def subscribe(
        self,
        channel: Key,
        on_message: OnMessage,
        *,
        kind: Kind = "channel",
        on_lost: Callable[[Exception], None] | None = None,
        on_gap: Callable[[], None] | None = None,
    ) -> ListenerSubscription:
        """Hear a channel, a pattern, or a shard channel. Returns when the server has confirmed.

        `on_message(data, channel, pattern)` is called in order of arrival, from the reader: it must be quick. `on_lost`
        is told when the connection is lost, `on_gap` when the subscription is confirmed again after that: messages in
        between were missed. At most once, as Redis pub/sub is.

        Raises ServerUnavailable when nobody is there, PermissionDenied when the ACL refuses the channel. Later losses are
        healed in the background, for as long as the subscription is open.
        """
        name = channel.encode() if isinstance(channel, str) else channel
        ear = await self.ear_for(kind, name)
        return await ear.subscribe(kind, name, on_message, on_lost, on_gap)

    async def ear_for(self, kind: Kind, name: bytes) -> Ear:
        """Who listens to this channel."""
        return self._ears[""]

    async def close(self) -> None:
        """End all subscriptions."""
        self.closed = True
        await asyncio.gather(*(ear.close() for ear in self._ears.values()))

    def abandon(self) -> None:
        for ear in self._ears.values():
            ear.abandon()

    def statistics(self) -> ListenerStatistics:
        """A snapshot."""
        ears = self._ears.values()
        return ListenerStatistics(
            connections=sum(ear.open for ear in ears),
            channels=sum(ear.channels for ear in ears),
            reconnects=sum(max(0, ear.connections - 1) for ear in ears),
        )


class ClusterListener(Listener):
    """Subscriptions of one client in one event loop, on a Cluster."""

    def __init__(self, client: RedisCluster, node_source: Callable[[ClusterNode], Any], **options: Any) -> None:
        super().__init__(**options)
        self._client = weakref.ref(client)
        self._node_source = node_source
        self._moving: dict[asyncio.Task[None], list[Channel]] = {}
        self.plain_node: ClusterNode | None = None
        """On which plain channels and patterns are heard."""
        self._deaf_node: str | None = None
        """Where nobody answered last."""

    @property
    def client(self) -> RedisCluster:
        client = self._client()
        if client is None:
            raise WireClosed("the Cluster client of this listener is gone")
        return client

    async def ear_for(self, kind: Kind, name: bytes) -> Ear:
        client = self.client
        try:
            await client.initialize()
            manager = client.nodes_manager
            if kind == "shard":
                return self._ear(manager.get_node_from_slot(key_slot(name)))
            if self.plain_node is None:
                everybody = manager.get_nodes_by_server_type("primary")
                others = [node for node in everybody if node.name != self._deaf_node]
                self.plain_node = random.choice(others or everybody)
            return self._ear(self.plain_node)
        except RedisError as error:
            raise ServerUnavailable(f"no node of the Cluster could be asked for the slots: {error}") from error

    def _ear(self, node: ClusterNode) -> Ear:
        ear = self._ears.get(node.name)
        if ear is None:
            ear = self._ears[node.name] = Ear(self._node_source(node), **self._options)
            ear.on_moved = functools.partial(self._on_moved, node.name)
        return ear

    def _on_moved(self, node: str, channels: list[Channel], error: MovedError | None) -> None:
        if any(channel.kind != "shard" for channel in channels):
            self.plain_node, self._deaf_node = None, node
        task = self.loop.create_task(self._move(channels, error))
        self._moving[task] = channels
        task.add_done_callback(lambda task: self._moving.pop(task, None))

    async def _move(self, channels: list[Channel], error: MovedError | None) -> None:
        """Find out where these channels are heard now, and listen there."""
        if error is not None:
            await self.client.nodes_manager.move_slot(error)
        elif any(channel.kind == "shard" for channel in channels):
            self.client._initialize = True
        while True:
            try:
                for channel in [each for each in channels if each.ear is None and each.handlers]:
                    (await self.ear_for(channel.kind, channel.name)).take(channel)
                return
            except ServerUnavailable:
                await asyncio.sleep(random.uniform(MOVE_PAUSE / 2, MOVE_PAUSE * 1.5))
                self.client._initialize = True

    async def close(self) -> None:
        moving = dict(self._moving)
        for task in moving:
            task.cancel()
        await asyncio.gather(*moving, return_exceptions=True)
        ear = next(iter(self._ears.values()), None)
        for channel in (each for channels in moving.values() for each in channels):
            if ear is not None and channel.ear is None and channel.handlers:  # between two nodes
                ear.end(channel, WireClosed("the client was closed"))
        await super().close()

    def abandon(self) -> None:
        for task in self._moving:
            task.cancel()
        super().abandon()
