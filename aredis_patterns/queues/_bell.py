"""How somebody who waits is woken: the script that has something for him publishes to the inbox of his process.

A message may be lost, and nothing is lost with it: after every gap the inbox rings anyway, and whoever waits also looks
by himself now and then. Without the inbox (an ACL forbids channels) he looks more often.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from aredis_patterns.exceptions import PatternError, PermissionDenied
from aredis_patterns.pipelining import inbox_of
from aredis_patterns.queues._turns import jittered
from aredis_patterns.types import RedisClient

__all__ = ["Bell"]

LOOK: Final = 5.0
"""Seconds between two looks of somebody who would be woken."""
POLL: Final = 0.25
"""Seconds between two looks of somebody whom nobody can wake."""
OPENING: Final = 1.0
"""Seconds that closing waits for an inbox that is just being opened."""


class Bell:
    """One caller who can be woken. `rung(heard)` is called in the event loop: look again; `heard` when a script rang."""

    def __init__(self, client: RedisClient, namespace: str, rung: Callable[[bool], None]) -> None:
        self._inbox: Final = inbox_of(client, namespace)
        self._waiter: Final = secrets.token_hex(8)
        self._rung: Final = rung
        self._timer: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self._expected = False
        self._forbidden = False
        self._closed = False

    @property
    def address(self) -> str:
        """What a script is given; empty while nobody can be woken."""
        return f"{self._inbox.channel} {self._waiter}" if self._expected and self._inbox.live else ""

    def look_in(self, seconds: float | None) -> None:
        """Ring at the latest in so many seconds, or when it is time to look anyway; sooner when somebody calls."""
        # Live alone is not enough: another queue of this client may have opened it, and nobody knows our address yet.
        if not self.address and self._opening is None and not self._forbidden:
            self._opening = asyncio.get_running_loop().create_task(self._open(), name="queue: open the inbox")
        most = jittered(LOOK if self.address else POLL)
        self.silence()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(most if seconds is None else min(seconds, most), self._ring, False)

    def silence(self) -> None:
        """Nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def aclose(self) -> None:
        """Never ring again."""
        self._closed = True
        self.silence()
        if self._opening is not None:
            # Cut off while it connects, it would leave a connection that nobody closes.
            opening = self._opening
            if not (await asyncio.wait({opening}, timeout=OPENING))[0]:
                opening.cancel()
                await asyncio.wait({opening})
        if self._expected:
            self._expected = False
            self._inbox.forget(self._waiter)

    async def _open(self) -> None:
        """Be reachable from now on, if that is possible at all; then look once more, with an address."""
        try:
            if not self._expected:
                self._expected = True
                self._inbox.expect(self._waiter, self._hear)
            await self._inbox.open()
        except PermissionDenied:
            self._forbidden = True
        except (PatternError, RedisError, OSError):
            return  # the server is away: the next look tries again
        finally:
            self._opening = None
        self._ring(True)

    def _hear(self, payload: bytes | None) -> None:
        self._ring(True)

    def _ring(self, heard: bool) -> None:
        self.silence()
        if not self._closed:
            self._rung(heard)
