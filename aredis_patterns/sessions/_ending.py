"""Ending sessions: one, or all of a user; also one that is moving to another id in this moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from aredis_patterns.exceptions import OutcomeUnknown, ReplyTimeout
from aredis_patterns.sessions._index import UserIndex
from aredis_patterns.sessions._scripts import Destroyed
from aredis_patterns.sessions._server import SessionServer

__all__ = ["Ending"]

_MOST_MOVES: Final = 16
"""A session may rotate while it is being ended, but not for ever."""


class Ending:
    """Ends sessions of one store: session first, then index."""

    def __init__(self, server: SessionServer, index: UserIndex) -> None:
        self._server: Final = server
        self._index: Final = index
        self.ended = 0

    async def end(
        self, handle: str, *, reason: str = "revoked", owner: str = "", follow: bool = False, keep: str | None = None
    ) -> bool:
        """End one session, wherever it has moved; whether this call did it. One round trip, one more per move.

        `owner`: only if it is this user's. `follow`: also when the grace of a rotated id is over. `keep` is spared.
        """
        for _ in range(_MOST_MOVES):
            if handle == keep:
                return False
            reply = await self._destroy(handle, reason=reason, owner=owner, follow=follow)
            if reply.status == 1:
                self.ended += 1
                if reply.user:
                    self._index.leave_soon(reply.user.decode(), handle)
                return True
            if not reply.moved:
                return False
            handle = reply.moved.decode()
        return False

    async def end_each(self, user: str, handles: Iterable[str], *, reason: str, keep: str | None = None) -> int:
        """End many sessions of one user, side by side; how many this call ended. Two round trips.

        When one fails the others are ended all the same, then the first error is raised.
        """
        wanted = [handle for handle in handles if handle != keep]
        outcomes = await asyncio.gather(
            *(self.end(handle, reason=reason, owner=user, follow=True, keep=keep) for handle in wanted),
            return_exceptions=True,
        )
        over = [handle for handle, outcome in zip(wanted, outcomes, strict=True) if isinstance(outcome, bool)]
        await self._index.leave(user, over)
        ended = 0
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            ended += outcome
        return ended

    async def _destroy(self, handle: str, *, reason: str, owner: str, follow: bool) -> Destroyed:
        """A lost connection is no reason not to log out: the second try ends the session, or finds that it is over."""
        try:
            return await self._server.destroy(handle, reason=reason, owner=owner, follow=follow)
        except ReplyTimeout:
            raise
        except OutcomeUnknown:
            return await self._server.destroy(handle, reason=reason, owner=owner, follow=follow)
