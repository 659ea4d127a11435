"""What the server says about changed keys (CLIENT TRACKING, RESP3), on a connection of its own.

redis-py's asyncio client has no client-side caching. The connection comes from the class and the options of the client's
pool, so TLS, users and Sentinel keep working; it speaks RESP3 whatever the client speaks, and is not counted by the pool.

Who mirrors server state may use it only while the messages arrive. So `live` is true only between a confirmation (a
PING that was answered behind CLIENT TRACKING) and the first doubt: a lost connection, or a PING without an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError

from aredis_patterns._core.diagnosis import translate
from aredis_patterns.pipelining._contract import RAW
from aredis_patterns.pipelining._lane import PING, Lane
from aredis_patterns.pipelining._opening import NO_RETRY, address_of

__all__ = ["Tracking"]

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0

OnChange = Callable[[Sequence[bytes] | None], None]
"""Called with the keys that have changed; None means all of them."""


class TrackingSource:
    """Connections that track some prefixes."""

    def __init__(self, pool: ConnectionPool, prefixes: Sequence[str]) -> None:
        self._pool: Final = pool
        self._command: Final = ("CLIENT", "TRACKING", "ON", "BCAST", *(w for p in prefixes for w in ("PREFIX", p)))

    def __repr__(self) -> str:
        return address_of(self._pool.connection_kwargs)

    async def acquire(self) -> AbstractConnection:
        options: dict[str, Any] = {**self._pool.connection_kwargs, "protocol": 3, "decode_responses": False}
        make: Any = self._pool.connection_class
        connection: AbstractConnection = make(**options)
        connection.retry = NO_RETRY
        try:
            await connection.connect()
            await connection.send_command(*self._command)
            await connection.read_response()
        except BaseException:
            await asyncio.shield(self.discard(connection))
            raise
        return connection

    async def discard(self, connection: AbstractConnection) -> None:
        with contextlib.suppress(RedisError, OSError, RuntimeError):
            await connection.disconnect(nowait=True)

    async def give_back(self, connection: AbstractConnection) -> None:
        await self.discard(connection)


class Tracking:
    """Tells what changes below some prefixes, for as long as it is open.

    `on_change` is called from the reader, in order; `on_live(True)` when every later change will be told,
    `on_live(False)` when that is no longer sure. The server also tells changes made by this process.
    """

    def __init__(
        self,
        client: Redis,
        prefixes: Sequence[str],
        on_change: OnChange,
        on_live: Callable[[bool], None],
        *,
        heartbeat: float = 1.0,
    ) -> None:
        self.live = False
        self._on_change: Final = on_change
        self._on_live: Final = on_live
        self._heartbeat: Final = heartbeat
        self._lane: Final = Lane(TrackingSource(client.connection_pool, prefixes))
        self._lane.pushes.on("invalidate", self._told)
        self._lane.pushes.on_connection(self._connection)
        self._confirmed: Final = asyncio.Event()
        self._trouble: Exception | None = None
        self._task: Final = asyncio.create_task(_keep(weakref.ref(self)), name="aredis-patterns tracking")

    async def confirmed(self, within: float) -> bool:
        """Wait until it is live; False when that takes too long."""
        try:
            async with asyncio.timeout(within):
                await self._confirmed.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """End it. Nothing is told afterwards."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._doubt()
        await self._lane.close()

    def __repr__(self) -> str:
        return f"<Tracking {self._lane.source!r} {'live' if self.live else f'not live: {self._trouble}'}>"

    async def beat(self) -> bool:
        """Ask whether the server is there: what it said before its answer has been heard by then."""
        try:
            await self._lane.submit(PING, RAW, self._heartbeat)
        except (RedisError, OSError) as error:
            self._trouble = translate(error, where=repr(self._lane.source))
            self._doubt()
            self._lane.fail_connection(error)
            return False
        if not self.live and self._lane.engine is not None:
            self.live = True
            self._confirmed.set()
            self._on_live(True)
        return True

    def _doubt(self) -> None:
        self._confirmed.clear()
        if self.live:
            self.live = False
            self._on_live(False)

    def _connection(self, error: Exception | None) -> None:
        # A new connection is confirmed by the next beat, an ended one doubted at once.
        if error is not None:
            self._doubt()

    def _told(self, message: Sequence[Any]) -> None:
        self._on_change(message[1])


async def _keep(tracking: weakref.ref[Tracking]) -> None:
    """Beat while somebody has the object."""
    pause = FIRST_PAUSE
    while (now := tracking()) is not None:
        if await now.beat():
            pause = FIRST_PAUSE
            wait = now._heartbeat
        else:
            wait, pause = random.uniform(pause / 2, pause), min(2 * pause, LONGEST_PAUSE)
        gone = now._lane.pushes
        del now
        await _until_lost(gone, wait)


async def _until_lost(pushes: Any, seconds: float) -> None:
    """Sleep, but not when the connection is lost meanwhile: then there is something to do."""
    lost = asyncio.get_running_loop().create_future()

    def heard(error: Exception | None) -> None:
        if error is not None and not lost.done():
            lost.set_result(None)

    stop = pushes.on_connection(heard)
    try:
        async with asyncio.timeout(seconds):
            await lost
    except TimeoutError:
        pass
    finally:
        stop()
