"""The servers under a client, one by one: for commands that are about a server, not about a key.

`lane_of(client)` sends a command to the node of its key. INFO, SLOWLOG, CLIENT LIST, SCAN and MONITOR have no key; in a
Cluster each node must be asked. `nodes_of(client)` names them, and gives each its ordered commands and connections of
its own.
"""

from __future__ import annotations

import asyncio
import builtins
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisClusterException, ResponseError

from aredis_patterns.exceptions import ReplyTimeout, ServerUnavailable
from aredis_patterns.pipelining._cluster_lanes import ClusterLanes
from aredis_patterns.pipelining._dedicated import run_dedicated
from aredis_patterns.pipelining._lane import Lane
from aredis_patterns.pipelining._lanes import Lanes, _ignore, _settle, batch_flags
from aredis_patterns.pipelining._opening import NO_RETRY, Source, connect
from aredis_patterns.pipelining._packing import pack
from aredis_patterns.pipelining._registry import lane_of
from aredis_patterns.pipelining._routing import LARGE_COMMAND, bypass_reason, route_of
from aredis_patterns.types import Command, Commands, Encodable, Key, RedisClient

__all__ = ["Node", "OwnConnection", "nodes_of"]


PATIENCE: Final = 10.0
"""Seconds that a reply may take where nothing else is said."""


class OwnConnection:
    """A connection that nobody shares: for MONITOR, CLIENT NO-TOUCH and the like. Replies are raw."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection: Final = connection

    async def read(self) -> Any:
        """The next reply, however long that takes. An error reply is raised."""
        return await self._connection.read_response(disable_decoding=True, timeout=math.inf)

    async def call(self, *command: Encodable, deadline: float = PATIENCE) -> Any:
        """One command and its reply: one round trip. Raises ReplyTimeout after `deadline` seconds."""
        (reply,) = await self.batch([command], deadline=deadline)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def batch(self, commands: Sequence[Command], *, deadline: float = PATIENCE) -> list[Any]:
        """Commands back to back, and all replies, errors in their place: one round trip."""
        packed = [pack(command) for command in commands]  # first: what cannot be packed must not leave half a batch
        replies: list[Any] = []
        try:
            async with asyncio.timeout(deadline):
                await self._connection.send_packed_command(packed, check_health=False)
                for _ in commands:
                    try:
                        replies.append(await self.read())
                    except ResponseError as error:
                        replies.append(error)
        except builtins.TimeoutError as error:
            raise ReplyTimeout(str(commands[len(replies)][0]), None, f"no reply came within {deadline:g} s") from error
        return replies


@dataclass(frozen=True, slots=True)
class Node:
    """One server: its address, whether it takes writes as far as the client knows, and how to speak to it."""

    name: str
    """`host:port`, or `unix:///path`. Never a password."""
    primary: bool
    commands: Commands
    _source: Source

    @asynccontextmanager
    async def own_connection(self) -> AsyncGenerator[OwnConnection, None]:
        """A connection from the client's pool for this block alone. It is closed afterwards, whatever its state."""
        connection = await _connect_whole(self._source)
        kept = connection.retry, connection.socket_timeout
        # With a timeout redis-py sends through `wait_for`, which in Python 3.11 may swallow a cancellation.
        connection.retry, connection.socket_timeout = NO_RETRY, None
        try:
            yield OwnConnection(connection)
        finally:
            connection.retry, connection.socket_timeout = kept
            await asyncio.shield(self._source.discard(connection))


async def _connect_whole(source: Source) -> AbstractConnection:
    """Connect in a task of its own: redis-py's handshake can swallow a cancellation, and ours must not."""
    opening = asyncio.ensure_future(connect(source))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.cancel()
        opening.add_done_callback(lambda done: _return_unused(source, done))
        raise


def _return_unused(source: Source, opening: asyncio.Future[AbstractConnection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        closing = asyncio.ensure_future(source.discard(opening.result()))
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)


_closing: set[asyncio.Future[None]] = set()
"""Tasks need somebody who holds them until they have ended."""


async def nodes_of(client: RedisClient) -> tuple[Node, ...]:
    """The servers of a client: one, or all nodes of a Cluster, primaries first. Asks a Cluster for them when it must.

    Valid in the running event loop. Raises ServerUnavailable when no node of a Cluster answers.
    """
    here = lane_of(client).here()
    if isinstance(here, Lanes):
        return (Node(repr(here.source), True, here, here.source),)
    assert isinstance(here, ClusterLanes)
    cluster: RedisCluster = here.client
    try:
        await cluster.initialize()
    except RedisClusterException as error:
        raise ServerUnavailable(f"no node of the Cluster could be asked for the slots: {error}") from error
    found = [_cluster_node(here, node) for node in cluster.get_nodes()]
    return tuple(sorted(found, key=lambda node: (not node.primary, node.name)))


def _cluster_node(lanes: ClusterLanes, node: ClusterNode) -> Node:
    lane = lanes._lane(node)
    return Node(str(node.name), node.server_type == "primary", NodeCommands(lane), lane.source)


class NodeCommands:
    """`Commands` for one node of a Cluster, whatever the key. Nothing is redirected."""

    def __init__(self, lane: Lane) -> None:
        self._lane: Final = lane

    async def call(
        self, *args: Encodable, key: Key | None = None, replay_safe: bool = False, deadline: float | None = None
    ) -> Any:
        """See `Commands.call`."""
        route = route_of(args[0])
        packed = pack(args, route)
        if bypass_reason(route, args) is not None or len(packed) > LARGE_COMMAND:
            return await run_dedicated(self._lane.source, args, packed, deadline=deadline)
        if self._lane.crowded:
            await self._lane.room(deadline)
        reply = await self._lane.submit(packed, batch_flags(args, replay_safe), deadline)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def batch(
        self,
        commands: Sequence[Command],
        *,
        key: Key | None = None,
        replay_safe: bool = False,
        deadline: float | None = None,
    ) -> list[Any]:
        """See `Commands.batch`."""
        entries = [(pack(command), batch_flags(command, replay_safe)) for command in commands]
        if self._lane.crowded:
            await self._lane.room(deadline)
        return await _settle([self._lane.submit(packed, flags, deadline) for packed, flags in entries])

    def post(self, *args: Encodable, key: Key | None = None, replay_safe: bool = False) -> None:
        """See `Commands.post`."""
        self._lane.submit(pack(args), batch_flags(args, replay_safe)).add_done_callback(_ignore)
