"""The scripts, with the keys and the rules of one store filled in. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from redis.exceptions import ResponseError

from aredis_patterns._core.diagnosis import translate
from aredis_patterns.sessions import _scripts as scripts
from aredis_patterns.sessions._keys import SessionKeys
from aredis_patterns.sessions._rules import Rules
from aredis_patterns.types import Commands

__all__ = ["SessionServer"]

NOTE_MS: Final = 60_000
"""How long the old key of a rotated session says where it went: longer than any call that may still be under way."""


class SessionServer:
    """One method per script; each is one round trip."""

    __slots__ = ("commands", "keys", "rules")

    def __init__(self, commands: Commands, keys: SessionKeys, rules: Rules) -> None:
        self.commands: Final = commands
        self.keys: Final = keys
        self.rules: Final = rules

    async def create(self, handle: str, user: str, meta: bytes, size: int, fields: Sequence[str | bytes]) -> int:
        return await scripts.session_create(
            self.commands,
            session=self.keys.session(handle),
            ends=self.keys.ends(handle[0]),
            handle=handle,
            idle=self.rules.idle,
            absolute=self.rules.absolute,
            keep=self.rules.keep,
            user=user,
            meta=meta,
            size=size,
            fields=fields,
            deadline=self.rules.deadline,
        )

    async def read(self, handle: str) -> dict[bytes, bytes]:
        """All fields. A plain command: the server is done in a fraction of the time in which a script hands them over."""
        key = self.keys.session(handle)
        try:
            fields = await self.commands.call("HGETALL", key, key=key, replay_safe=True, deadline=self.rules.deadline)
        except ResponseError as error:
            raise translate(error, command="reading a session", key=key) from error
        return _as_dict(fields)

    async def read_with_ttl(self, handle: str) -> tuple[dict[bytes, bytes], int]:
        """The same, and the life that is left in ms: -1 for a key without TTL, -2 for none. Still one round trip."""
        key = self.keys.session(handle)
        replies = await self.commands.batch(
            (("HGETALL", key), ("PTTL", key)), key=key, replay_safe=True, deadline=self.rules.deadline
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise translate(reply, command="reading a session", key=key) from reply
        return _as_dict(replies[0]), replies[1]

    async def save(
        self, handle: str, expected: int, removed: Sequence[str], written: Sequence[str | bytes]
    ) -> scripts.Saved:
        return await scripts.session_save(
            self.commands,
            session=self.keys.session(handle),
            idle=self.rules.idle,
            absolute=self.rules.absolute,
            expected=expected,
            most=self.rules.max_bytes,
            removed=len(removed),
            fields=[*removed, *written],
            deadline=self.rules.deadline,
        )

    async def extend(self, handle: str, *, threshold: int = 0) -> scripts.Extended:
        return await scripts.session_extend(
            self.commands,
            session=self.keys.session(handle),
            ends=self.keys.ends(handle[0]),
            handle=handle,
            idle=self.rules.idle,
            absolute=self.rules.absolute,
            threshold=threshold,
            keep=self.rules.keep,
            deadline=self.rules.deadline,
        )

    async def rotate(self, handle: str, moved: str, *, user: str | None, meta: bytes, grace: int) -> scripts.Rotated:
        return await scripts.session_rotate(
            self.commands,
            session=self.keys.session(handle),
            successor=self.keys.session(moved),
            ends=self.keys.ends(handle[0]),
            handle=handle,
            moved=moved,
            idle=self.rules.idle,
            absolute=self.rules.absolute,
            keep=self.rules.keep,
            grace=grace,
            note=NOTE_MS,
            login=user is not None,
            user=user or "",
            meta=meta,
            channel=self.keys.channel,
            deadline=self.rules.deadline,
        )

    async def destroy(self, handle: str, *, reason: str, owner: str, follow: bool) -> scripts.Destroyed:
        return await scripts.session_destroy(
            self.commands,
            session=self.keys.session(handle),
            ends=self.keys.ends(handle[0]),
            handle=handle,
            idle=self.rules.idle,
            absolute=self.rules.absolute,
            keep=self.rules.keep,
            reason=reason,
            owner=owner,
            follow=follow,
            channel=self.keys.channel,
            deadline=self.rules.deadline,
        )

    def abandon(self, handle: str, *, reason: str = "") -> None:
        """End it without waiting, behind everything sent before. Without a reason nobody is told: nobody knew it."""
        scripts.abandon_session(
            self.commands,
            session=self.keys.session(handle),
            ends=self.keys.ends(handle[0]),
            handle=handle,
            idle=self.rules.idle,
            absolute=self.rules.absolute,
            keep=self.rules.keep,
            reason=reason,
            channel=self.keys.channel,
        )

    async def peek(self, handles: Iterable[str]) -> list[scripts.Peeked]:
        """One round trip per node."""
        sessions = [self.keys.session(handle) for handle in handles]
        rules = self.rules
        return await scripts.peek_many(
            self.commands, sessions, idle=rules.idle, absolute=rules.absolute, deadline=rules.deadline
        )

    async def index_add(
        self, user: str, handle: str, *, left: int, most: int, created: int = 0, replaces: str = ""
    ) -> scripts.Indexed:
        return await scripts.index_add(
            self.commands,
            index=self.keys.index(user),
            revoked=self.keys.revoked(user),
            handle=handle,
            created=created,
            left=left,
            absolute=self.rules.absolute,
            most=most,
            replaces=replaces,
            deadline=self.rules.deadline,
        )

    async def index_revoke(self, user: str) -> list[str]:
        return await scripts.index_revoke(
            self.commands,
            index=self.keys.index(user),
            revoked=self.keys.revoked(user),
            absolute=self.rules.absolute,
            deadline=self.rules.deadline,
        )


def _as_dict(fields: dict[bytes, bytes] | list[bytes]) -> dict[bytes, bytes]:
    """A map in RESP3, a flat list in RESP2."""
    return fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
