"""How the lanes, the listener and the inboxes of a client are found.

`lane_of(client)` is what every pattern calls. It gives the same lanes to all patterns on one client, opens them on first
use, gives a second event loop its own, and lets them end with the client. `listener_of` and `inbox_of` do the same for
what the client hears.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from redis.asyncio import Redis, RedisCluster

from aredis_patterns._core.instrumentation import Listeners, listeners_of
from aredis_patterns.pipelining._borrowing import Borrowed, borrow
from aredis_patterns.pipelining._cluster_lanes import ClusterLanes, NodeSource
from aredis_patterns.pipelining._inbox import Inbox
from aredis_patterns.pipelining._lane import Lane
from aredis_patterns.pipelining._lanes import Lanes
from aredis_patterns.pipelining._listener import ClusterListener, Listener
from aredis_patterns.pipelining._opening import Source
from aredis_patterns.pipelining._per_loop import PerLoop
from aredis_patterns.pipelining._statistics import LaneStatistics
from aredis_patterns.types import Command, Commands, Encodable, Key, RedisClient


class LoopCommands(Commands, Protocol):
    """The commands of one client in one loop, with a life of their own."""

    loop: asyncio.AbstractEventLoop
    listeners: Listeners | None
    borrowers: asyncio.Semaphore

    def submit(
        self,
        args: Sequence[Encodable],
        *,
        key: Key | None,
        deadline: float | None,
        at_once: bool = False,
        replay_safe: bool = False,
    ) -> asyncio.Future[Any] | None: ...
    async def source_of(self, key: Key | None) -> Source: ...
    async def close(self) -> None: ...
    def abandon(self) -> None: ...
    def lane_for(self, key: Key | None) -> Lane: ...
    def statistics(self) -> LaneStatistics: ...


def make_lanes(client: Any) -> LoopCommands:
    options: dict[str, Any] = getattr(client, "lane_options", {})
    cluster = isinstance(client, RedisCluster)
    lanes = ClusterLanes(client, **options) if cluster else Lanes(client.connection_pool, **options)
    lanes.listeners = listeners_of(client)
    return lanes


def make_listener(client: Any) -> Listener:
    options: dict[str, Any] = getattr(client, "listener_options", {})
    if isinstance(client, RedisCluster):
        return ClusterListener(client, NodeSource, **options)
    return Listener(client.connection_pool, **options)


_lanes: Final[PerLoop[LoopCommands]] = PerLoop(make_lanes)
_listeners: Final[PerLoop[Listener]] = PerLoop(make_listener)


def lanes_here(client: Any) -> LoopCommands:
    """The lanes of this client in the running loop."""
    return _lanes.here(client)


async def close_lanes(client: Any) -> None:
    """Close what this client has open in the running loop. Using it again opens anew."""
    listener, lanes = _listeners.existing(client), _lanes.existing(client)
    if listener is not None:
        _listeners.forget(client)
        await listener.close()
    if lanes is not None:
        await lanes.close()


class ClientCommands:
    """`Commands` for a client, in whatever event loop it is used. Holds the client, so that it lives as long as its
    users."""

    __slots__ = ("__weakref__", "_cached", "client", "listeners")

    def __init__(self, client: RedisClient) -> None:
        self.client = client
        self.listeners = listeners_of(client)
        self._cached: LoopCommands | None = None

    def __repr__(self) -> str:
        return f"<lane of {self.client!r}>"

    def here(self) -> LoopCommands:
        """The lanes in the running loop."""
        cached = self._cached
        if cached is None or cached.loop is not asyncio.get_running_loop():
            cached = self._cached = lanes_here(self.client)
        return cached

    def call(
        self,
        *args: Encodable,
        key: Key | None = None,
        replay_safe: bool = False,
        deadline: float | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """See `Commands.call`."""
        return self.here().call(*args, key=key, replay_safe=replay_safe, deadline=deadline)

    def batch(
        self,
        commands: Sequence[Command],
        *,
        key: Key | None = None,
        replay_safe: bool = False,
        deadline: float | None = None,
    ) -> Coroutine[Any, Any, list[Any]]:
        """See `Commands.batch`."""
        return self.here().batch(commands, key=key, replay_safe=replay_safe, deadline=deadline)

    def post(self, *args: Encodable, key: Key | None = None, replay_safe: bool = False) -> None:
        """See `Commands.post`."""
        self.here().post(*args, key=key, replay_safe=replay_safe)

    def submit(
        self,
        args: Sequence[Encodable],
        *,
        key: Key | None,
        deadline: float | None,
        at_once: bool = False,
        replay_safe: bool = False,
    ) -> asyncio.Future[Any] | None:
        """`call` without a coroutine, for the hottest paths; see `Lanes.submit`. None: `call` instead."""
        return self.here().submit(args, key=key, deadline=deadline, at_once=at_once, replay_safe=replay_safe)

    @asynccontextmanager
    async def borrow(self, key: Key) -> AsyncGenerator[Borrowed, None]:
        """A connection of one's own to the server that holds `key`, for WATCH and the like. Waits in line for it."""
        lanes = self.here()
        async with borrow(await lanes.source_of(key), lanes.borrowers) as connection:
            yield connection

    async def lanes_of(self, keys: Sequence[Key | None]) -> list[int]:
        """A number for each key: keys with the same number ride on the same connection now. No I/O, but once in a
        Cluster whose nodes are not known yet."""
        lanes = self.here()
        await lanes.source_of(None)
        return [id(lanes.lane_for(key)) for key in keys]

    def on_push(
        self, kind: str, handler: Callable[[Sequence[Any]], None], *, key: Key | None = None
    ) -> Callable[[], None]:
        """Call `handler(message)` for RESP3 push messages of this kind on the lane of `key`; returns what ends it."""
        return self.here().lane_for(key).pushes.on(kind, handler)

    def on_connection(
        self, listener: Callable[[Exception | None], None], *, key: Key | None = None
    ) -> Callable[[], None]:
        """Call `listener(error)` when the connection is lost and `listener(None)` when the next one is up."""
        return self.here().lane_for(key).pushes.on_connection(listener)

    def statistics(self) -> LaneStatistics:
        """A snapshot, of the running loop."""
        return self.here().statistics()

    async def aclose(self) -> None:
        """Close the lanes in the running loop, not the client. Using them again opens them anew."""
        await close_lanes(self.client)
        self._cached = None


@functools.cache
def _client_types() -> tuple[type, ...]:
    return (Redis, RedisCluster)


def lane_of(client: RedisClient) -> ClientCommands:
    """The shared, ordered commands of an asyncio Redis client, stock or pipelined, single server or Cluster.

    All callers on one client and event loop share one connection per server, taken from the client's own pool on
    first use. No command that may have been executed is sent again, unless it only reads or its caller says that it
    is replay-safe.

        commands = lane_of(redis.asyncio.Redis())
        await commands.call("INCR", "visits", key="visits")     # one round trip

    Closed by `await lane_of(client).aclose()`, by closing the client's pool, or when the client is collected.
    """
    _check_client(client)
    return ClientCommands(client)


def listener_of(client: RedisClient) -> Listener:
    """What this client listens to in the running event loop: one connection for all subscriptions (one per node for
    shard channels of a Cluster), taken from the client's pool with the first of them.

        subscription = await listener_of(redis).subscribe("news", lambda data, channel, pattern: print(data))
        ...
        subscription.close()

    Ends with the client, as its lanes do.
    """
    _check_client(client)
    return _listeners.here(client)


def inbox_of(client: RedisClient, namespace: str) -> Inbox:
    """The inbox of this client, event loop and namespace, on which scripts wake those who wait. Cheap; no I/O."""
    listener = listener_of(client)
    inbox = listener.inboxes.get(namespace)
    if inbox is None:
        inbox = listener.inboxes[namespace] = Inbox(listener, namespace)
    return inbox


def _check_client(client: RedisClient) -> None:
    if not isinstance(client, _client_types()):
        given = f"{type(client).__module__}.{type(client).__qualname__}"
        raise TypeError(f"expected a redis.asyncio.Redis or RedisCluster client, not {given}")
