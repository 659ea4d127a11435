"""Which sessions a user has: an index that is checked before it is believed.

Session and index live in different slots of a Cluster, so no script changes both. The order is always: session first,
then index. So the index can name sessions that are over, and miss some that exist. Both heal without keyspace
notifications and without a process that would have to run:

- what should be over is looked at, and removed only when it is; so a lost message never hides a living session;
- what was missed comes back when the session is touched, unless it should have been ended with all others meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from aredis_patterns.sessions._scripts import Peeked
from aredis_patterns.sessions._server import SessionServer

__all__ = ["UserIndex"]

_PAGE: Final = 100
"""As many due handles as lua/index_add.lua returns at once."""


class UserIndex:
    """The index of every user of one store."""

    def __init__(self, server: SessionServer) -> None:
        self._server: Final = server
        self.removed = 0
        self.restored = 0

    async def enter(
        self, user: str, handle: str, *, left: int, created: int = 0, replaces: str = ""
    ) -> list[str] | None:
        """Add a session; the handles that are too many now. One round trip, if nothing is due.

        With `created` it is an old session under a new id: None if all sessions of the user were ended meanwhile.
        """
        most = self._server.rules.most
        while True:
            reply = await self._server.index_add(user, handle, left=left, most=most, created=created, replaces=replaces)
            if reply.status == 0:
                return None
            await self._settle(user, reply.due)
            if len(reply.due) < _PAGE:
                return [other.decode() for other in reply.surplus]

    async def touch(self, user: str, handle: str, *, created: int, left: int) -> bool:
        """The session lives longer now. False: all sessions of the user were ended, and this one had been missed."""
        reply = await self._server.index_add(user, handle, left=left, created=created, most=0)
        return reply.status == 1

    async def look(self, user: str) -> dict[str, Peeked]:
        """The living sessions of a user, the freshest first. Two round trips."""
        index = self._server.keys.index(user)
        found: list[bytes] = await self._server.commands.call(
            "ZRANGE", index, 0, -1, "REV", key=index, deadline=self._server.rules.deadline
        )
        alive, dead = await self._look_at(user, [handle.decode() for handle in found])
        await self.leave(user, dead)
        return alive

    async def leave(self, user: str, handles: Sequence[str]) -> None:
        """Remove sessions that are over. One round trip, none for nothing."""
        if handles:
            self.removed += len(handles)
            index = self._server.keys.index(user)
            await self._server.commands.call(
                "ZREM", index, *handles, key=index, replay_safe=True, deadline=self._server.rules.deadline
            )

    def leave_soon(self, user: str, handle: str) -> None:
        """The same without waiting. Should it be lost, the handle is found to be over later."""
        index = self._server.keys.index(user)
        self._server.commands.post("ZREM", index, handle, key=index, replay_safe=True)

    async def _settle(self, user: str, due: Sequence[bytes]) -> None:
        """Remove what is over of what should be over; the rest lives longer than the index knew."""
        if not due:
            return
        alive, dead = await self._look_at(user, [handle.decode() for handle in due])
        await self.leave(user, dead)
        for handle, seen in alive.items():
            await self._server.index_add(user, handle, left=seen.left, created=seen.created, most=0)
            self.restored += 1

    async def _look_at(self, user: str, handles: Iterable[str]) -> tuple[dict[str, Peeked], list[str]]:
        alive: dict[str, Peeked] = {}
        dead: list[str] = []
        wanted = list(handles)
        for handle, seen in zip(wanted, await self._server.peek(wanted), strict=True):
            if seen.status == 1 and seen.user == user.encode():
                alive[handle] = seen
            else:
                dead.append(handle)
        return alive, dead
