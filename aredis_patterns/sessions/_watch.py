"""Waiting for the end of one session: what closes a WebSocket on logout.

All who wait on one store in one event loop share one subscription. Who waits has subscribed before it looks at the
session, so nothing falls in between; after a gap, and when the session should have expired, it looks again.
"""

from __future__ import annotations

import asyncio
import random
import weakref
from contextlib import suppress
from typing import Final, cast

from redis.exceptions import ConnectionError, TimeoutError

from aredis_patterns.exceptions import PermissionDenied, ServerUnavailable, WireClosed
from aredis_patterns.pipelining import ListenerSubscription, listener_of
from aredis_patterns.sessions._ends import EndReason, SessionEvent
from aredis_patterns.sessions._scripts import Peeked
from aredis_patterns.sessions._server import SessionServer
from aredis_patterns.types import RedisClient

__all__ = ["Watches"]

_LATE: Final = 0.005
"""Seconds after its end at which a session is looked at: by then it is over for the server, too."""
_POLL: Final = 2.0
"""Seconds between two looks, give or take half, where nobody tells us."""


class _Waiter:
    """One who waits."""

    __slots__ = ("handle", "news", "woken")

    def __init__(self, handle: str) -> None:
        self.handle = handle
        self.woken = asyncio.Event()
        self.news: list[bytes] = []


class _Watch:
    """Those who wait in one event loop."""

    def __init__(self) -> None:
        self.waiters: dict[str, set[_Waiter]] = {}
        self.subscription: ListenerSubscription | None = None

    def add(self, waiter: _Waiter) -> None:
        self.waiters.setdefault(waiter.handle, set()).add(waiter)

    def remove(self, waiter: _Waiter) -> None:
        others = self.waiters.get(waiter.handle, set())
        others.discard(waiter)
        if not others:
            self.waiters.pop(waiter.handle, None)
        if not self.waiters and self.subscription is not None:
            self.subscription.close()
            self.subscription = None

    def on_message(self, data: bytes, _channel: bytes, _pattern: bytes | None) -> None:
        handle = data.split(b":", 2)[1].decode()
        for waiter in self.waiters.get(handle, ()):
            waiter.news.append(data)
            waiter.woken.set()

    def on_gap(self) -> None:
        for waiters in self.waiters.values():
            for waiter in waiters:
                waiter.woken.set()

    @property
    def live(self) -> bool:
        return self.subscription is not None and self.subscription.live


class Watches:
    """Waiting for ends, for one store in any event loop."""

    def __init__(self, client: RedisClient, server: SessionServer) -> None:
        self._client: Final = client
        self._server: Final = server
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = weakref.WeakKeyDictionary()

    @property
    def waiting(self) -> int:
        """How many wait, in all event loops."""
        return sum(len(waiters) for watch in self._by_loop.values() for waiters in watch.waiters.values())

    async def until_ended(self, handle: str, user: str, left: float) -> SessionEvent:
        """Wait for the end of a session that has `left` seconds, unless it is extended meanwhile."""
        loop = asyncio.get_running_loop()
        watch = self._by_loop.setdefault(loop, _Watch())
        waiter = _Waiter(handle)
        watch.add(waiter)
        until = loop.time() + left
        try:
            while True:
                while waiter.news:
                    event = _told(watch, waiter, user)
                    if event is not None:
                        return event
                await self._listen(watch)
                seen = await self._look(watch, waiter.handle)
                if waiter.news:
                    continue
                if seen is not None and seen.moved:
                    waiter.news.append(await self._moved(waiter.handle, seen.moved, user))
                    continue
                if seen is not None and seen.status == 1:
                    until = loop.time() + seen.left / 1000
                elif seen is not None or loop.time() >= until:
                    return SessionEvent("expired" if loop.time() >= until else "revoked", waiter.handle, user or None)
                await _sleep(waiter, until - loop.time(), live=watch.live)
        finally:
            watch.remove(waiter)

    async def _moved(self, handle: str, moved: bytes, user: str) -> bytes:
        """What was said when the session got another id, before anybody listened."""
        (seen,) = await self._server.peek([moved.decode()])
        owner = seen.user if seen.status == 1 else user.encode()
        return b"rotated:%b:%b:%b" % (handle.encode(), moved, owner)

    async def _listen(self, watch: _Watch) -> None:
        if watch.subscription is None:
            try:
                subscription = await listener_of(self._client).subscribe(
                    self._server.keys.channel, watch.on_message, on_gap=watch.on_gap
                )
            except (PermissionDenied, ServerUnavailable):
                return  # we look again and again instead
            if watch.subscription is None and watch.waiters:
                watch.subscription = subscription
            else:
                subscription.close()  # another one was as fast, or nobody waits any more

    async def _look(self, watch: _Watch, handle: str) -> Peeked | None:
        """How the session is; None when nobody could be asked, and then it counts until it should have expired."""
        try:
            (seen,) = await self._server.peek([handle])
            if seen.status == 0 and watch.subscription is not None:
                await watch.subscription.sync()  # why it has ended has been said, but perhaps not been heard
        except WireClosed:
            raise
        except (ConnectionError, TimeoutError):
            return None
        return seen


def _told(watch: _Watch, waiter: _Waiter, user: str) -> SessionEvent | None:
    """What was said of the session. Under a new id it is still the same session, unless somebody has logged in."""
    reason, handle, moved, owner = waiter.news.pop(0).decode().split(":", 3)
    if reason == "rotated" and owner == user:
        watch.remove(waiter)
        waiter.handle = moved
        watch.add(waiter)
        return None
    return SessionEvent(cast(EndReason, reason), handle, user or None)


async def _sleep(waiter: _Waiter, seconds: float, *, live: bool) -> None:
    pause = max(0.0, seconds) + _LATE
    if not live:
        pause = min(pause, random.uniform(_POLL / 2, _POLL * 1.5))
    with suppress(asyncio.TimeoutError):
        async with asyncio.timeout(pause):
            await waiter.woken.wait()
    waiter.woken.clear()
