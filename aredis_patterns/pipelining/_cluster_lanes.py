"""The lanes of a Cluster: one per node, each key's commands on the lane of the node that holds its slot.

MOVED, ASK, TRYAGAIN and CLUSTERDOWN all mean "not executed", so the command is sent again where the answer says;
nobody else on the lane notices. A lost connection is different: what was sent on it ends in `OutcomeUnknown` here
too, and the topology is read anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    RedisClusterException,
    RedisError,
    SlotNotCoveredError,
    TryAgainError,
)

from aredis_patterns._core.instrumentation import Listeners
from aredis_patterns.exceptions import OutcomeUnknown, ServerUnavailable, WireClosed
from aredis_patterns.pipelining._contract import RAW, REPEATABLE
from aredis_patterns.pipelining._dedicated import run_dedicated
from aredis_patterns.pipelining._lane import Lane
from aredis_patterns.pipelining._lanes import MOST_BORROWERS, _ignore, _settle, batch_flags, combine
from aredis_patterns.pipelining._opening import NO_RETRY, Source
from aredis_patterns.pipelining._packing import pack, pack_plain
from aredis_patterns.pipelining._routing import (
    LARGE,
    LARGE_COMMAND,
    bypass_reason,
    route_of,
)
from aredis_patterns.pipelining._statistics import LaneStatistics
from aredis_patterns.types import Command, Encodable, Key

PATIENCE: Final = 5.0
"""Seconds during which a command follows redirections and waits for a failover before it gives up."""
PAUSE: Final = 0.05

ASKING: Final = pack_plain(("ASKING",))


class NodeSource:
    """Connections of one node of a Cluster."""

    def __init__(self, node: ClusterNode) -> None:
        self.node = node

    def __repr__(self) -> str:
        return str(self.node.name)

    async def acquire(self) -> AbstractConnection:
        connection = self.node.acquire_connection()
        retry, connection.retry = connection.retry, NO_RETRY
        try:
            await self.node.disconnect_if_needed(connection)
            await connection.connect()
        except BaseException:
            await asyncio.shield(self.discard(connection))
            raise
        finally:
            connection.retry = retry
        return connection

    async def discard(self, connection: AbstractConnection) -> None:
        with contextlib.suppress(RedisError, OSError, RuntimeError):
            await connection.disconnect(nowait=True)
        await self.give_back(connection)

    async def give_back(self, connection: AbstractConnection) -> None:
        await self.node.disconnect_if_needed(connection)  # type: ignore[arg-type]
        self.node.release(connection)  # type: ignore[arg-type]


class ClusterLanes:
    """One lane per node. Implements `Commands`; every command needs its `key`, or goes to the default node."""

    listeners: Listeners | None = None
    """Who is told of scripts that are run here."""

    def __init__(
        self,
        client: RedisCluster,
        *,
        lanes: int = 1,
        max_in_flight: int = 10_000,
        fast: bool = True,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._client = weakref.ref(client)
        self._options: dict[str, Any] = {"max_in_flight": max_in_flight, "fast": fast}
        self._by_node: dict[str, Lane] = {}
        self.bypassed: dict[str, int] = {}
        self.borrowers = asyncio.Semaphore(MOST_BORROWERS)

    @property
    def client(self) -> RedisCluster:
        client = self._client()
        if client is None:
            raise WireClosed("the Cluster client of this lane is gone")
        return client

    def lane_for(self, key: Key | None) -> Lane:
        """The lane of the node that holds this key, as far as is known now."""
        manager = self.client.nodes_manager
        if key is None:
            return self._lane(manager.default_node)
        raw = key.encode() if isinstance(key, str) else bytes(key)
        return self._lane(manager.get_node_from_slot(key_slot(raw)))

    def _lane(self, node: ClusterNode) -> Lane:
        lane = self._by_node.get(node.name)
        if lane is None or not isinstance(lane.source, NodeSource) or lane.source.node is not node:
            lane = self._by_node[node.name] = Lane(NodeSource(node), **self._options)
        return lane

    def submit(
        self,
        args: Sequence[Encodable],
        *,
        key: Key | None,
        deadline: float | None,
        at_once: bool = False,
        replay_safe: bool = False,
    ) -> asyncio.Future[Any] | None:
        """None: in a Cluster a command may be sent elsewhere, so it has to be called."""
        return None

    async def call(
        self,
        *args: Encodable,
        key: Key | None = None,
        replay_safe: bool = False,
        deadline: float | None = None,
    ) -> Any:
        """See `Commands.call`."""
        route = route_of(args[0])
        packed = pack(args, route)
        reason = LARGE if len(packed) > LARGE_COMMAND else bypass_reason(route, args)
        if reason is not None:
            self.bypassed[reason] = self.bypassed.get(reason, 0) + 1
            await self.client.initialize()
            return await run_dedicated(self.lane_for(key).source, args, packed, deadline=deadline)
        flags = RAW | REPEATABLE if replay_safe or route.read_only else RAW
        reply = await self.send(packed, key, flags, deadline)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def send(self, packed: bytes, key: Key | None, flags: int, deadline: float | None = None) -> Any:
        """Send one packed command to the node of its key, wherever that moves; an error reply is returned."""
        client = self.client
        patience = PATIENCE if deadline is None else min(PATIENCE, deadline)
        give_up = self.loop.time() + patience
        asked: ClusterNode | None = None
        while True:
            try:
                await self._know_the_nodes(client, deadline)
                lane = self._lane(asked) if asked is not None else self.lane_for(key)
                if lane.crowded:
                    await lane.room(deadline)
                if asked is not None:
                    lane.submit(ASKING, RAW).add_done_callback(_ignore)
                asked = None
                reply = await lane.submit(packed, flags, deadline)
            except OutcomeUnknown:
                client._initialize = True
                raise
            except (ServerUnavailable, SlotNotCoveredError, RedisClusterException) as error:
                client._initialize = True
                if not self._by_node:
                    raise  # it was never there: nothing to wait for
                reply = error
            if not isinstance(reply, NOT_EXECUTED) or self.loop.time() >= give_up:
                if isinstance(reply, (ServerUnavailable, RedisClusterException)):
                    raise reply
                return reply
            asked = await self._follow(reply)

    async def _know_the_nodes(self, client: RedisCluster, deadline: float | None) -> None:
        if not client._initialize:
            return
        try:
            async with asyncio.timeout(deadline):
                await client.initialize()
        except TimeoutError:
            raise ServerUnavailable(f"no node of the Cluster answered within {deadline} s") from None
        except RedisClusterException as error:
            raise ServerUnavailable(f"no node of the Cluster could be asked for the slots: {error}") from error

    async def _follow(self, reply: Exception) -> ClusterNode | None:
        """Act on an answer that means "not executed": learn where to go, or wait a moment. Returns a node that was
        named by ASK."""
        client = self.client
        manager = client.nodes_manager
        # MovedError is a subclass of AskError.
        if isinstance(reply, MovedError):
            await manager.move_slot(reply)
            return None
        if isinstance(reply, AskError):
            node = manager.get_node(host=reply.host, port=reply.port)
            if node is None:
                client._initialize = True
            return node
        if isinstance(reply, ClusterDownError):
            client._initialize = True
        await asyncio.sleep(PAUSE)
        return None

    async def batch(
        self,
        commands: Sequence[Command],
        *,
        key: Key | None = None,
        replay_safe: bool = False,
        deadline: float | None = None,
    ) -> list[Any]:
        """See `Commands.batch`: all commands go to the node of `key`. A redirected one is sent again on its own,
        after the others."""
        await self._know_the_nodes(self.client, deadline)
        lane = self.lane_for(key)
        packed = [pack(command) for command in commands]
        flags = [batch_flags(command, replay_safe) for command in commands]
        replies = await _settle([lane.submit(p, f, deadline) for p, f in zip(packed, flags, strict=True)])
        for at, reply in enumerate(replies):
            if isinstance(reply, REDIRECTED):
                await self._follow(reply)
                replies[at] = await self.send(packed[at], key, flags[at], deadline)
        return replies

    def post(self, *args: Encodable, key: Key | None = None, replay_safe: bool = False) -> None:
        """See `Commands.post`. A redirection is followed in the background."""
        future = self.lane_for(key).submit(pack(args), RAW | REPEATABLE if replay_safe else RAW)
        future.add_done_callback(lambda done: self._follow_post(done, pack(args), key))

    def _follow_post(self, done: asyncio.Future[Any], packed: bytes, key: Key | None) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        reply = done.result()
        if isinstance(reply, MovedError):
            node = self.client.nodes_manager.get_node(host=reply.host, port=reply.port)
            if node is not None:
                self._lane(node).submit(packed, RAW).add_done_callback(_ignore)

    async def source_of(self, key: Key | None) -> Source:
        """The node that holds this key, as a source of connections."""
        await self._know_the_nodes(self.client, None)
        return self.lane_for(key).source

    async def close(self) -> None:
        lanes = list(self._by_node.values())
        self._by_node.clear()
        await asyncio.gather(*(lane.close() for lane in lanes))

    def abandon(self) -> None:
        for lane in self._by_node.values():
            lane.abandon()

    def statistics(self) -> LaneStatistics:
        parts = [lane.statistics() for lane in self._by_node.values()]
        return combine(parts, self.bypassed)


REDIRECTED: Final = (AskError, TryAgainError, ClusterDownError)
NOT_EXECUTED: Final = (
    *REDIRECTED,
    BusyLoadingError,
    ServerUnavailable,
    SlotNotCoveredError,
)
