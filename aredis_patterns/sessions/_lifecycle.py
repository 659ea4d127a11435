"""What happens to a session from its creation on. Arguments have been checked by `SessionStore`."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

from aredis_patterns.exceptions import SessionConflict, SessionGone, SessionTooLarge
from aredis_patterns.sessions._data import Changes, Layout, decode_meta, fields_of, size_of
from aredis_patterns.sessions._ending import Ending
from aredis_patterns.sessions._index import UserIndex
from aredis_patterns.sessions._rules import ServerClock
from aredis_patterns.sessions._scripts import Extended
from aredis_patterns.sessions._server import SessionServer
from aredis_patterns.sessions._session import Record, Session, SessionInfo, info_of, record_of
from aredis_patterns.sessions._statistics import Counts
from aredis_patterns.sessions._tokens import handle_of, new_token

__all__ = ["Lifecycle"]

M = TypeVar("M")

_GONE, _THERE, _MOVED = 0, 1, 2
_CONFLICT, _TOO_LARGE, _WRITE_TO_SUCCESSOR = 2, 3, 4


class Lifecycle(Generic[M]):
    """Session first, then index, everywhere. What fails in between is undone by a message that cannot be cancelled."""

    def __init__(self, server: SessionServer, layout: Layout[M], counts: Counts) -> None:
        self._server: Final = server
        self._layout: Final[Layout[M]] = layout
        self._index: Final = UserIndex(server)
        self._counts: Final = counts
        self._clock: Final = ServerClock()
        self.ending: Final = Ending(server, self._index)

    async def create(self, attributes: dict[str, bytes], user: str, meta: bytes) -> Session[M]:
        token = new_token()
        handle = handle_of(token)
        assert handle is not None
        rules = self._server.rules
        size = size_of(attributes)
        self._check_size(handle, size)
        self._check_size(handle, len(meta))
        with self._ending_unless_done(handle):
            created = await self._server.create(handle, user, meta, size, fields_of(attributes))
            if user:
                await self._enter(user, handle, left=rules.idle)
        self._counts.created += 1
        record = Record(token, handle, user, created, created, created + rules.idle, 1, {})
        record.attributes = attributes
        return Session(record, self._layout, is_new=True)

    async def get(self, token: str, handle: str) -> Session[M] | None:
        record = await self._read(token, handle)
        if record is None:
            self._counts.missed += 1
            return None
        self._counts.found += 1
        session = Session(record, self._layout)
        if self._layout.eager:
            _ = session.data  # a model that does not fit is told here and now
        return session

    async def _read(self, token: str, handle: str) -> Record | None:
        while True:
            now = self._clock.now()
            if now is None:
                fields, left = await self._server.read_with_ttl(handle)
            else:
                fields, left = await self._server.read(handle), 0
            if b"created" in fields:
                record = record_of(token, handle, fields, self._server.rules)
                if now is None:
                    now = self._clock.learn(self._server.rules, record.created, record.seen, left)
                gain = self._server.rules.gain(record.created, record.seen, now)
                if gain <= 0 or gain < self._server.rules.threshold:
                    return record
                reply = await self._touch(record)
                if reply.status == _THERE:
                    record.seen, record.expires = reply.seen, reply.seen + reply.left
                    return record
            elif fields:  # the note of a rotation
                reply = await self._server.extend(handle, threshold=self._server.rules.threshold)
            else:
                return None
            if reply.status != _MOVED:
                return None
            handle = reply.user.decode()

    async def _touch(self, record: Record) -> Extended:
        """Move the expiry, and that in the index. The index is told at once, and again should the session be gone."""
        rules = self._server.rules
        touch = self._server.extend(record.handle, threshold=rules.threshold)
        if not record.user:
            reply = await touch
            self._counts.touched += reply.seen > record.seen
            return reply
        left = min(rules.idle, record.created + rules.absolute - record.seen)
        reply, known = await gather(
            touch, self._index.touch(record.user, record.handle, created=record.created, left=left)
        )
        self._counts.touched += reply.seen > record.seen
        if reply.status != _THERE:
            self._index.leave_soon(record.user, record.handle)  # it must not count against `max_per_user`
            return reply
        if known:
            return reply
        await self.ending.end(record.handle, owner=record.user)
        return reply._replace(status=_GONE)

    async def save(self, record: Record, changes: Changes, expected: int) -> None:
        self._check_size(record.handle, size_of(changes.written))
        removed, written = [f".{name}" for name in changes.removed], fields_of(changes.written)
        reply = await self._server.save(record.handle, expected, removed, written)
        while reply.status == _WRITE_TO_SUCCESSOR:
            record.handle = reply.moved.decode()
            reply = await self._server.save(record.handle, expected, removed, written)
        if reply.status != _THERE:
            self._counts.refused += 1
        if reply.status == _GONE:
            raise SessionGone(record.handle)
        if reply.status == _CONFLICT:
            raise SessionConflict(record.handle, expected, reply.version)
        if reply.status == _TOO_LARGE:
            raise SessionTooLarge(record.handle, reply.size, self._server.rules.max_bytes)
        self._counts.saved += 1
        record.attributes = record.attributes | changes.written
        for name in changes.removed:
            del record.attributes[name]
        record.version = reply.version

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
        self._check_size(record.handle, len(meta))
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

    def _check_size(self, handle: str, size: int) -> None:
        if size > self._server.rules.max_bytes:
            self._counts.refused += 1
            raise SessionTooLarge(handle, size, self._server.rules.max_bytes)

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
