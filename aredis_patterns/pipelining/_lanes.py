"""The lanes of one client on one server, in one event loop. How they are found: `_registry`.

`lane_of(client)` is what every pattern calls. It gives the same lanes to all patterns on one client, opens them on
first use, gives a second event loop its own, and lets them end with the client. Nothing is kept for a client that has
gone.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import BusyLoadingError, ReadOnlyError

from aredis_patterns._core.instrumentation import Listeners
from aredis_patterns.exceptions import OutcomeUnknown
from aredis_patterns.pipelining._contract import RAW, REPEATABLE
from aredis_patterns.pipelining._dedicated import run_dedicated
from aredis_patterns.pipelining._lane import Lane
from aredis_patterns.pipelining._opening import PoolSource, Source
from aredis_patterns.pipelining._packing import pack
from aredis_patterns.pipelining._routing import LARGE, LARGE_COMMAND, Route, bypass_reason, route_of
from aredis_patterns.pipelining._statistics import LaneStatistics
from aredis_patterns.types import Command, Encodable, Key

LOADING_PAUSE: Final = 0.05
LOADING_PATIENCE: Final = 5.0
"""Seconds that a command waits for a server that loads its data, or for Sentinel to name another primary."""
MOST_BORROWERS: Final = 64


class Lanes:
    """One lane, or a small fixed number with each key pinned to one of them."""

    listeners: Listeners | None = None
    """Who is told of scripts that are run here."""

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        lanes: int = 1,
        max_in_flight: int = 10_000,
        fast: bool = True,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.source = PoolSource(pool)
        self.lanes = tuple(Lane(self.source, max_in_flight=max_in_flight, fast=fast) for _ in range(lanes))
        self.first = self.lanes[0]
        self.single = lanes == 1
        self._encoder = pool.get_encoder()
        self.plain_text = (self._encoder.encoding, self._encoder.encoding_errors) == (
            "utf-8",
            "strict",
        )
        self.follows_primary = bool(getattr(pool, "is_master", False))
        self.borrowers = asyncio.Semaphore(borrowers_of(pool.max_connections))

    def lane_for(self, key: Key | None) -> Lane:
        """The lane of a key. A key keeps its lane, so its commands keep their order."""
        if self.single or key is None:
            return self.first
        raw = key.encode() if isinstance(key, str) else key
        return self.lanes[zlib.crc32(raw) % len(self.lanes)]

    def pack(self, args: Sequence[Any], route: Route) -> bytes:
        """One command as RESP, text in the encoding of the client."""
        if self.plain_text:
            return pack(args, route)
        encode = self._encoder.encode
        return pack([args[0], *(encode(arg) for arg in args[1:])], route)

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
        reason = bypass_reason(route, args)
        if reason is None and len(packed) > LARGE_COMMAND:
            reason = LARGE
        lane = self.lane_for(key)
        if reason is not None:
            lane.bypassed[reason] = lane.bypassed.get(reason, 0) + 1
            return await run_dedicated(self.source, args, packed, deadline=deadline)
        flags = RAW | REPEATABLE if replay_safe or route.read_only else RAW
        patience = LOADING_PATIENCE if deadline is None else deadline
        while True:
            if lane.crowded:
                await lane.room(deadline)
            reply = await lane.submit(packed, flags, deadline)
            if not isinstance(reply, Exception):
                return reply
            patience -= LOADING_PAUSE
            if patience <= 0 or not await self.not_executed(lane, reply):
                raise reply

    def submit(
        self,
        args: Sequence[Encodable],
        *,
        key: Key | None,
        deadline: float | None,
        at_once: bool = False,
        replay_safe: bool = False,
    ) -> asyncio.Future[Any] | None:
        """A command without a coroutine around it: its future resolves to the raw reply, or to an error reply.

        None when it takes more than that (no room, too large, blocking): `call` it then. `at_once` does not wait for
        others to ride with it, for a command that is many already.
        """
        route = route_of(args[0])
        packed = pack(args, route)
        lane = self.lane_for(key)
        if len(packed) > LARGE_COMMAND or lane.crowded or bypass_reason(route, args) is not None:
            return None
        future = lane.submit(packed, RAW | REPEATABLE if replay_safe else RAW, deadline)
        if at_once:
            lane.flush()
        return future

    async def not_executed(self, lane: Lane, error: Exception) -> bool:
        """Whether this error reply means "not now, not here" and the command may simply be sent again."""
        if isinstance(error, BusyLoadingError):
            await asyncio.sleep(LOADING_PAUSE)
            return True
        if isinstance(error, ReadOnlyError) and self.follows_primary:
            lane.retire()  # Sentinel names the new primary when the next connection opens
            await asyncio.sleep(LOADING_PAUSE)
            return True
        return False

    async def batch(
        self,
        commands: Sequence[Command],
        *,
        key: Key | None = None,
        replay_safe: bool = False,
        deadline: float | None = None,
    ) -> list[Any]:
        """See `Commands.batch`."""
        # Packed first: what cannot be packed must not leave half a batch behind.
        entries = [(pack(command), batch_flags(command, replay_safe)) for command in commands]
        lane = self.lane_for(key)
        if lane.crowded:
            await lane.room(deadline)
        return await _settle([lane.submit(packed, flags, deadline) for packed, flags in entries])

    def post(self, *args: Encodable, key: Key | None = None, replay_safe: bool = False) -> None:
        """See `Commands.post`."""
        future = self.lane_for(key).submit(pack(args), RAW | REPEATABLE if replay_safe else RAW)
        future.add_done_callback(_ignore)

    async def source_of(self, key: Key | None) -> Source:
        """Where a connection for commands on this key comes from."""
        return self.source

    async def close(self) -> None:
        """Finish what is under way (bounded), give the connections back."""
        await asyncio.gather(*(lane.close() for lane in self.lanes))

    def abandon(self) -> None:
        for lane in self.lanes:
            lane.abandon()

    def statistics(self) -> LaneStatistics:
        return combine([lane.statistics() for lane in self.lanes])


def borrowers_of(max_connections: int) -> int:
    """How many may hold a connection of their own at a time: half of the pool, the rest is for others."""
    return max(1, min(max_connections // 2, MOST_BORROWERS))


def batch_flags(command: Command, replay_safe: bool) -> int:
    return RAW | REPEATABLE if replay_safe or route_of(command[0]).read_only else RAW


async def _settle(futures: list[asyncio.Future[Any]]) -> list[Any]:
    """All replies, errors in their place. Cancelled, nobody is left to hear the rest."""
    replies: list[Any] = []
    try:
        for future in futures:
            try:
                replies.append(await future)
            except OutcomeUnknown as error:
                replies.append(error)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                replies.append(error)
    except asyncio.CancelledError:
        for future in futures:
            future.cancel()
        raise
    return replies


def _ignore(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


def combine(parts: Sequence[LaneStatistics], extra_bypassed: Mapping[str, int] | None = None) -> LaneStatistics:
    """Several lanes as one."""

    def total(name: str) -> int:
        return sum(getattr(part, name) for part in parts)

    bypassed: dict[str, int] = dict(extra_bypassed or {})
    for part in parts:
        for reason, count in part.bypassed.items():
            bypassed[reason] = bypassed.get(reason, 0) + count
    return LaneStatistics(
        open=any(part.open for part in parts),
        in_flight=total("in_flight"),
        unsent=total("unsent"),
        waiting=total("waiting"),
        commands=total("commands"),
        flushes=total("flushes"),
        reconnects=total("reconnects"),
        unknown_outcomes=total("unknown_outcomes"),
        repeated=total("repeated"),
        dropped_replies=total("dropped_replies"),
        bypassed=bypassed,
    )
