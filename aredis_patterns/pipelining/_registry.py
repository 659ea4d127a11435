"""How the lanes of a client are found.

`lane_of(client)` is what every pattern calls. It gives the same lanes to all patterns on one client, opens them on first
use, gives a second event loop its own, and lets them end with the client. Nothing is kept for a client that has gone.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from redis.asyncio import Redis, RedisCluster

from aredis_patterns._core.instrumentation import listeners_of
from aredis_patterns.pipelining._cluster_lanes import ClusterLanes
from aredis_patterns.pipelining._lane import Lane
from aredis_patterns.pipelining._lanes import Lanes
from aredis_patterns.pipelining._statistics import LaneStatistics
from aredis_patterns.types import Command, Commands, Encodable, Key, RedisClient


class LoopCommands(Commands, Protocol):
    """The commands of one client in one loop, with a life of their own."""

    loop: asyncio.AbstractEventLoop

    async def close(self) -> None: ...
    def abandon(self) -> None: ...
    def lane_for(self, key: Key | None) -> Lane: ...
    def statistics(self) -> LaneStatistics: ...


ByLoop = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopCommands]

_by_client: weakref.WeakKeyDictionary[Any, ByLoop] = weakref.WeakKeyDictionary()


def lanes_here(client: Any, make: Callable[[Any], LoopCommands]) -> LoopCommands:
    """The lanes of this client in the running loop; `make` builds them the first time."""
    by_loop = _by_client.get(client)
    if by_loop is None:
        by_loop = _by_client[client] = weakref.WeakKeyDictionary()
        weakref.finalize(client, _abandon_all, by_loop).atexit = False
    loop = asyncio.get_running_loop()
    found = by_loop.get(loop)
    if found is None:
        # Lanes refer to their loop, so the entry of a closed loop does not go by itself.
        for old in [each for each in by_loop if each.is_closed()]:
            del by_loop[old]
        found = by_loop[loop] = make(client)
    return found


async def close_lanes(client: Any) -> None:
    """Close what this client has open in the running loop. Using it again opens anew."""
    by_loop = _by_client.get(client)
    found = by_loop.get(asyncio.get_running_loop()) if by_loop is not None else None
    if found is not None:
        await found.close()


def _abandon_all(by_loop: ByLoop) -> None:
    """The client was collected, perhaps in another thread than its loop's."""
    for loop, lanes in list(by_loop.items()):
        if loop.is_closed():
            continue
        try:
            loop.call_soon_threadsafe(lanes.abandon)
        except RuntimeError:  # closed in between
            continue


def make_lanes(client: Any) -> LoopCommands:
    options: dict[str, Any] = getattr(client, "lane_options", {})
    if isinstance(client, RedisCluster):
        return ClusterLanes(client, **options)
    return Lanes(client.connection_pool, **options)


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
            cached = self._cached = lanes_here(self.client, make_lanes)
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

    def post(self, *args: Encodable, key: Key | None = None) -> None:
        """See `Commands.post`."""
        self.here().post(*args, key=key)

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
    if not isinstance(client, _client_types()):
        given = f"{type(client).__module__}.{type(client).__qualname__}"
        raise TypeError(f"expected a redis.asyncio.Redis or RedisCluster client, not {given}")
    return ClientCommands(client)
