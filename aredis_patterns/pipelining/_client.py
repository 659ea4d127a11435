"""`PipelinedRedis`: redis-py's client, with every concurrent command of the process on one ordered connection.

    task A  await redis.get("a")  --+
    task B  await redis.incr("n") --+--> one write --> server --> one read --+--> A, B, C go on
    task C  await redis.get("c")  --+                                        |

Only `execute_command` differs. Pipelines, transactions, pub/sub, monitors and `client()` are redis-py's own, on pool
connections.
"""

from __future__ import annotations

import inspect
import time
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable
from typing import Any, Self, cast

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.observability import recorder
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.exceptions import ResponseError

from aredis_patterns.exceptions import OutcomeUnknown
from aredis_patterns.pipelining._contract import RAW, REPEATABLE
from aredis_patterns.pipelining._dedicated import borrowed, cancellations, raise_if_cancelled_since
from aredis_patterns.pipelining._lane import REPEATS, Lane
from aredis_patterns.pipelining._lanes import Lanes
from aredis_patterns.pipelining._packing import key_of, pack, pack_plain
from aredis_patterns.pipelining._registry import close_lanes, lanes_here
from aredis_patterns.pipelining._routing import (
    LARGE,
    LARGE_COMMAND,
    Route,
    bypass_reason,
    known_routes,
    route_of,
)
from aredis_patterns.pipelining._statistics import LaneStatistics

# Command names are upper case already; the mapping's own methods would fold them once more.
dict_contains: Callable[[Any, Any], bool] = dict.__contains__
dict_get: Callable[[Any, Any], Any] = dict.__getitem__

READ_OPTIONS = {"keys"}
"""What redis-py adds to commands that read, for its client-side cache. It means nothing to a reply."""

_OVERRIDABLE = ("parse_response", "_send_command_parse_response")


class PipelinedRedis(Redis):
    """A drop-in for `redis.asyncio.Redis` that pipelines concurrent commands on one shared connection.

    Guarantee: each command is executed at most once. When its reply is lost the caller gets `OutcomeUnknown` (a redis
    `ConnectionError`); only commands that read are repeated. A cancelled caller harms nobody: its reply is dropped in
    its place. Commands of one task, and of all tasks that await each other, are executed in order.

    Cost: one round trip per command, shared with everybody who calls in the same loop iteration. Blocking commands,
    large ones (packed over 64 KiB) and those that change a connection take a pool connection; `statistics()` counts
    them by reason.

    Limits: a slow script or a reply of megabytes delays the calls behind it. `lanes=n` opens n connections and pins
    each key to one, so that order per key holds and a slow call delays 1/n of the others.

    Args:
        lanes: connections to share, 1 to 64.
        max_in_flight: commands under way per lane, above which callers wait in order.
        All other arguments are those of `redis.asyncio.Redis`. `socket_timeout` bounds the wait for any reply.

    Example:
        redis = PipelinedRedis.from_url("redis://localhost")
        values = await asyncio.gather(*(redis.get(key) for key in keys))    # one write, one read
        await redis.aclose()
    """

    def __init__(self, *args: Any, lanes: int = 1, max_in_flight: int = 10_000, **kwargs: Any) -> None:
        if not 1 <= lanes <= 64:
            raise ValueError(f"lanes must be between 1 and 64, not {lanes!r}")
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight must be positive, not {max_in_flight!r}")
        super().__init__(*args, **kwargs)
        self.lane_options: dict[str, Any] = {"lanes": lanes, "max_in_flight": max_in_flight}
        self._lanes: Lanes | None = None

    @classmethod
    def from_url(  # type: ignore[override]
        cls, url: str, *, lanes: int = 1, max_in_flight: int = 10_000, **kwargs: Any
    ) -> Self:
        """As `redis.asyncio.Redis.from_url`, with `lanes` and `max_in_flight`."""
        client = cast(Self, super().from_url(url, **kwargs))
        client.lane_options = {"lanes": lanes, "max_in_flight": max_in_flight}
        return client

    @classmethod
    def from_pool(cls, connection_pool: ConnectionPool, *, lanes: int = 1, max_in_flight: int = 10_000) -> Self:
        """As `redis.asyncio.Redis.from_pool`, with `lanes` and `max_in_flight`."""
        client = cast(Self, super().from_pool(connection_pool))
        client.lane_options = {"lanes": lanes, "max_in_flight": max_in_flight}
        return client

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its parsed reply."""
        lanes = self._lanes
        if lanes is None or lanes.loop is not get_running_loop() or self.connection is not None:
            lanes = self._lanes = self._choose_lanes()
            if lanes is None:
                return await self._stock_execute(*args, **options)
        if recorder._async_metrics_collector is not None:
            return await self._measured(lanes, args, options)
        route = known_routes.get(args[0]) or route_of(args[0])
        if route.special or not lanes.plain_text or (options and options.keys() != READ_OPTIONS):
            return await self._execute(lanes, route, args, options)
        # What follows is `_execute` for the plain majority of commands, without the cost of one more coroutine.
        try:
            packed = pack_plain(args)
        except TypeError:
            packed = pack(args, route)
        lane = lanes.first if lanes.single else lanes.lane_for(key_of(args))
        if lane.crowded or len(packed) > LARGE_COMMAND:
            return await self._execute(lanes, route, args, options)
        reply = await lane.submit(packed, REPEATABLE if route.read_only else 0)
        if isinstance(reply, Exception) or dict_contains(self.response_callbacks, route.callback):
            return await self._finish(lanes, lane, route, reply, args, options)
        return reply

    def _stock_execute(self, *args: Any, **options: Any) -> Awaitable[Any]:
        """redis-py's own path."""
        stock: Any = super()
        return stock.execute_command(*args, **options)  # type: ignore[no-any-return]

    async def _execute(self, lanes: Lanes, route: Route, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        reason = bypass_reason(route, args)
        packed = b"" if reason else lanes.pack(args, route)
        if len(packed) > LARGE_COMMAND:
            reason = LARGE
        if reason is not None:
            return await self._execute_dedicated(lanes, route, reason, args, options)
        lane = lanes.lane_for(key_of(args))
        if lane.crowded:
            await lane.room()
        flags = (REPEATABLE if route.read_only else 0) | (RAW if NEVER_DECODE in options else 0)
        reply = await lane.submit(packed, flags)
        return await self._finish(lanes, lane, route, reply, args, options)

    async def _finish(
        self,
        lanes: Lanes,
        lane: Lane,
        route: Route,
        reply: Any,
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """What redis-py does with a reply: raise an error, or run the parser of this command."""
        if isinstance(reply, Exception):
            if await lanes.not_executed(lane, reply):
                return await self._stock_execute(*args, **options)
            if EMPTY_RESPONSE in options and isinstance(reply, ResponseError):
                return options[EMPTY_RESPONSE]
            raise reply
        if not dict_contains(self.response_callbacks, route.callback):
            return reply
        for name in (NEVER_DECODE, EMPTY_RESPONSE, "keys"):
            options.pop(name, None)
        value = dict_get(self.response_callbacks, route.callback)(reply, **options)
        return await value if inspect.isawaitable(value) else value

    async def _execute_dedicated(
        self,
        lanes: Lanes,
        route: Route,
        reason: str,
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        bypassed = lanes.first.bypassed
        bypassed[reason] = bypassed.get(reason, 0) + 1
        attempt = 0
        while True:
            try:
                async with borrowed(lanes.source, args) as connection:
                    stock: Any = self
                    before = cancellations()
                    reply = await stock._send_command_parse_response(connection, args[0], *args, **options)
                    raise_if_cancelled_since(before)
                    return reply
            except OutcomeUnknown:
                attempt += 1
                if not route.read_only or attempt > REPEATS:
                    raise

    async def _measured(self, lanes: Lanes, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """As `_execute`, reporting to redis-py's own OpenTelemetry metrics."""
        kwargs = self.connection_pool.connection_kwargs
        where: dict[str, Any] = {"server_address": kwargs.get("host"), "server_port": kwargs.get("port")}
        start = time.monotonic()
        try:
            reply = await self._execute(lanes, route_of(args[0]), args, options)
        except Exception as error:
            await recorder.record_error_count(
                **where,
                network_peer_address=where["server_address"],
                network_peer_port=where["server_port"],
                error_type=error,
                retry_attempts=0,
                is_internal=False,
            )
            raise
        await recorder.record_operation_duration(
            command_name=args[0],
            duration_seconds=time.monotonic() - start,
            db_namespace=str(kwargs.get("db", 0)),
            **where,
        )
        return reply

    def _choose_lanes(self) -> Lanes | None:
        """The lanes of the running loop; None where redis-py's own path is meant.

        That is: a client with one connection of its own, a subclass or a test that replaces how replies are parsed,
        and a pool that is not redis-py's.
        """
        if self.single_connection_client or self.connection is not None:
            return None
        pool: Any = self.connection_pool
        if not isinstance(pool, ConnectionPool):
            return None
        for name in _OVERRIDABLE:
            if name in self.__dict__ or getattr(type(self), name) is not getattr(Redis, name):
                return None
        recorder._get_or_create_collector()
        return lanes_here(self)  # type: ignore[return-value]

    def statistics(self) -> LaneStatistics:
        """What the lanes of the running loop have done. A frozen snapshot."""
        return lanes_here(self).statistics()

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Finish what is under way (a second at most), then close as redis-py does. The client may be used again."""
        await close_lanes(self)
        self._lanes = None
        await super().aclose(close_connection_pool)
