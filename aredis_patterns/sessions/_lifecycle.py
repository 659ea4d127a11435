"""What happens to a session from its creation on. Arguments have been checked by `SessionStore`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

from aredis_patterns.exceptions import SessionConflict, SessionGone, SessionTooLarge
from aredis_patterns.sessions._data import Changes, Layout, decode_meta, fields_of, size_of
from aredis_patterns.sessions._ending import Ending
from aredis_patterns.sessions._index import UserIndex
from aredis_patterns.sessions._server import SessionServer
from aredis_patterns.sessions._session import Record, Session, SessionInfo, info_of, record_of
from aredis_patterns.sessions._statistics import Counts
from aredis_patterns.sessions._tokens import handle_of, new_token

__all__ = ["Lifecycle"]

M = TypeVar("M")

_GONE, _THERE, _MOVED = 0, 1, 2
_CONFLICT, _TOO_LARGE = 2, 3


class Lifecycle(Generic[M]):
    """Session first, then index, everywhere. What fails in between is undone by a message that cannot be cancelled."""

    def __init__(self, server: SessionServer, layout: Layout[M], counts: Counts) -> None:
        self._server: Final = server
        self._layout: Final[Layout[M]] = layout
        self._index: Final = UserIndex(server)
        self._counts: Final = counts
        self.ending: Final = Ending(server, self._index)

    async def create(self, attributes: dict[str, bytes], user: str, meta: bytes) -> Session[M]:
        token = new_token()
        handle = handle_of(token)
        assert handle is not None
        rules = self._server.rules
        size = size_of(attributes)
        if size > rules.max_bytes:
            raise SessionTooLarge(handle, size, rules.max_bytes)
        with self._ending_unless_done(handle):
            created = await self._server.create(handle, user, meta, size, fields_of(attributes))
            if user:
                await self._enter(user, handle, left=rules.idle)
        self._counts.created += 1
        record = Record(
            token=token,
            handle=handle,
            user=user,
            created=created,
            seen=created,
            expires=created + rules.idle,
            version=1,
            attributes=attributes,
        )
        return Session(record, self._layout.load(attributes), is_new=True)

    async def get(self, token: str, handle: str) -> Session[M] | None:
        loaded = await self._server.load(handle)
        while loaded.status == _MOVED:
            handle = loaded.fields[0].decode()
            loaded = await self._server.load(handle)
        if loaded.status != _THERE:
            self._counts.missed += 1
            return None
        record = record_of(token, handle, loaded.fields, self._server.rules)
        if loaded.touched:
            self._counts.touched += 1
            if record.user and not await self._touch_index(record.user, handle, record.created, self._left(record)):
                self._counts.missed += 1
                return None
        self._counts.found += 1
        return Session(record, self._layout.load(record.attributes), is_new=False)

    async def save(self, record: Record, changes: Changes, expected: int) -> None:
        after = record.attributes | changes.written
        for name in changes.removed:
            del after[name]
        most, size = self._server.rules.max_bytes, size_of(after)
        if size > most and size > size_of(record.attributes):
            self._counts.refused += 1
            raise SessionTooLarge(record.handle, size, most)
        removed = [f".{name}" for name in changes.removed]
        reply = await self._server.save(record.handle, expected, removed, fields_of(changes.written))
        if reply.status != _THERE:
            self._counts.refused += 1
        if reply.status == _GONE:
            raise SessionGone(record.handle)
        if reply.status == _CONFLICT:
            raise SessionConflict(record.handle, expected, reply.version)
        if reply.status == _TOO_LARGE:
            raise SessionTooLarge(record.handle, reply.size, most)
        self._counts.saved += 1
        record.attributes, record.version = after, reply.version

    async def extend(self, handle: str) -> bool:
        reply = await self._server.extend(handle)
        while reply.status == _MOVED:
            handle = reply.user.decode()
            reply = await self._server.extend(handle)
        if reply.status != _THERE:
            return False
        return not reply.user or await self._touch_index(reply.user.decode(), handle, reply.created, reply.left)

    async def rotate(self, record: Record, user: str | None, meta: bytes, grace: int) -> None:
        token = new_token(like=record.token)
        moved = handle_of(token)
        assert moved is not None
        with self._ending_unless_done(moved, reason="revoked"):
            reply = await self._server.rotate(record.handle, moved, user=user, meta=meta, grace=grace)
        if reply.status != _THERE:
            self._counts.refused += 1
            raise SessionGone(record.handle)
        before = reply.before.decode()
        owner = before if user is None else user
        left = min(self._server.rules.idle, reply.created + self._server.rules.absolute - reply.seen)
        if owner:
            created = reply.created if user is None else 0
            replaces = record.handle if before == owner else ""
            with self._ending_unless_done(moved, reason="revoked"):
                await self._enter(owner, moved, left=left, created=created, replaces=replaces)
        if before and before != owner:
            self._index.leave_soon(before, record.handle)
        self._counts.rotated += 1
        record.token, record.handle, record.user = token, moved, owner
        record.created, record.seen, record.expires = reply.created, reply.seen, reply.seen + left
        record.version += 1

    async def destroy_all(self, user: str, keep: str | None) -> int:
        handles = await self._server.index_revoke(user)
        ended = await self.ending.end_each(user, handles, reason="revoked", keep=keep)
        if keep is not None and keep not in handles:
            # The index had lost it. Back it goes, or it would be taken for one that should have ended.
            (seen,) = await self._server.peek([keep])
            if seen.status == _THERE and seen.user == user.encode():
                await self._enter(user, keep, left=seen.left)
        return ended

    async def list(self, user: str) -> list[SessionInfo]:
        return [
            info_of(
                handle,
                created=seen.created,
                seen=seen.seen,
                expires=min(seen.seen + self._server.rules.idle, seen.created + self._server.rules.absolute),
                meta=decode_meta(seen.meta),
            )
            for handle, seen in (await self._index.look(user)).items()
        ]

    @contextmanager
    def _ending_unless_done(self, handle: str, *, reason: str = "") -> Generator[None, None, None]:
        """A session under a token that its caller never gets to know must not stay."""
        try:
            yield
        except BaseException:
            self._server.abandon(handle, reason=reason)
            raise

    async def _enter(self, user: str, handle: str, *, left: int, created: int = 0, replaces: str = "") -> None:
        surplus = await self._index.enter(user, handle, left=left, created=created, replaces=replaces)
        if surplus is None:
            raise SessionGone(handle)
        if surplus:
            self._counts.evicted += await self.ending.end_each(user, surplus, reason="evicted")

    async def _touch_index(self, user: str, handle: str, created: int, left: int) -> bool:
        """False: it should have ended with all other sessions of the user. Now it does."""
        if await self._index.touch(user, handle, created=created, left=left):
            return True
        await self.ending.end(handle, owner=user)
        return False

    def _left(self, record: Record) -> int:
        """Of a session that was touched just now. Seen is now, by the server's clock."""
        return record.expires - record.seen
