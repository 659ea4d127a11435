"""`Session`: one session as it was read, with what the application keeps in it; and what others may see of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from aredis_patterns.sessions._csrf import csrf_matches, csrf_token
from aredis_patterns.sessions._data import Changes, Layout
from aredis_patterns.sessions._rules import Rules

__all__ = ["Record", "Session", "SessionInfo", "info_of", "record_of"]

M = TypeVar("M")

ATTRIBUTE: Final = b"."
"""Begins the field of an attribute, so that no attribute is ever taken for one of ours."""


class Record:
    """What the store knows of a session that it handed out; times in ms of the server's clock."""

    __slots__ = ("_attributes", "_fields", "created", "expires", "handle", "seen", "token", "user", "version")

    def __init__(
        self,
        token: str,
        handle: str,
        user: str,
        created: int,
        seen: int,
        expires: int,
        version: int,
        fields: Mapping[bytes, bytes],
    ) -> None:
        self.token = token
        self.handle = handle
        self.user = user
        self.created = created
        self.seen = seen
        self.expires = expires
        self.version = version
        self._fields: Final = fields
        self._attributes: dict[str, bytes] | None = None

    @property
    def attributes(self) -> dict[str, bytes]:
        """As they are stored. Sorted out when they are first needed: many requests only ask whose session it is."""
        found = self._attributes
        if found is None:
            found = {name[1:].decode(): value for name, value in self._fields.items() if name[:1] == ATTRIBUTE}
            self._attributes = found
        return found

    @attributes.setter
    def attributes(self, attributes: dict[str, bytes]) -> None:
        self._attributes = attributes


class Session(Generic[M]):
    """A session that was read or created. Nothing here does I/O: `SessionStore` reads, saves, rotates and ends it.

    `data` is the application's: a dict of JSON values, or your model. `is_new` is whether this object created it. The rest
    is kept by the store.

        session = await store.create({"cart": []}, user_id="42")
        session.data["cart"].append("book")
        await store.save(session)
    """

    __slots__ = ("_data", "_layout", "is_new", "record")

    def __init__(self, record: Record, layout: Layout[M], *, is_new: bool = False) -> None:
        self.record: Final = record
        self.is_new: Final = is_new
        self._layout: Final[Layout[M]] = layout
        self._data: M | None = None

    @property
    def data(self) -> M:
        """What the application keeps here. Changes are kept by `store.save(session)`, also those inside of values.

        Raises DecodeError when an attribute is not JSON; then nothing of it is changed by a save either.
        """
        data = self._data
        if data is None:
            data = self._data = self._layout.load(self.record.attributes)
        return data

    @data.setter
    def data(self, data: M) -> None:
        self._data = data

    def changes(self) -> Changes:
        """What a save would send. Nothing for data that nobody has looked at. Raises EncodeError."""
        if self._data is None:
            return Changes({}, [])
        return self._layout.changes(self._data, self.record.attributes)

    @property
    def token(self) -> str:
        """The secret: for the cookie, and nowhere else. It is not stored on the server."""
        return self.record.token

    @property
    def handle(self) -> str:
        """The public name of the session, for lists of devices and logs. Nobody can log in with it."""
        return self.record.handle

    @property
    def user_id(self) -> str | None:
        """Whose session it is; None for a visitor."""
        return self.record.user or None

    @property
    def version(self) -> int:
        """Grows with each save: for `save(session, if_version=session.version)`."""
        return self.record.version

    @property
    def created_at(self) -> datetime:
        """When it began, by the server's clock. A login begins it anew."""
        return _time(self.record.created)

    @property
    def last_seen_at(self) -> datetime:
        """When it was touched last, by the server's clock."""
        return _time(self.record.seen)

    @property
    def expires_at(self) -> datetime:
        """When it ends if nobody touches it, by the server's clock."""
        return _time(self.record.expires)

    def csrf_token(self) -> str:
        """A token for forms and headers that `verify_csrf` accepts; another one each time, all valid until a rotation."""
        return csrf_token(self.record.token)

    def verify_csrf(self, given: str | None) -> bool:
        """Whether `given` was made by `csrf_token` of this session. Compares in constant time."""
        return given is not None and csrf_matches(self.record.token, given)

    def __repr__(self) -> str:
        # The token is a password: it must not reach a log.
        return f"<Session {self.handle[:9]}... of {self.user_id!r}, version {self.version}, until {self.expires_at:%H:%M:%S}>"


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One entry of `SessionStore.list`: what a user may see of a session, on any device."""

    handle: str
    """For `SessionStore.revoke`, and to recognise the own one: `session.handle`."""
    created_at: datetime
    last_seen_at: datetime
    """To within `touch_threshold` of the idle timeout."""
    expires_at: datetime
    meta: Mapping[str, Any]
    """What `create` or `rotate` was told of the device."""


def record_of(token: str, handle: str, fields: Mapping[bytes, bytes], rules: Rules) -> Record:
    """From the fields of the hash."""
    created, seen, user = int(fields[b"created"]), int(fields[b"seen"]), fields.get(b"user")
    expires = min(seen + rules.idle, created + rules.absolute)
    version = int(fields[b"version"])
    return Record(token, handle, "" if user is None else user.decode(), created, seen, expires, version, fields)


def info_of(handle: str, *, created: int, seen: int, expires: int, meta: Mapping[str, Any]) -> SessionInfo:
    """From the times of the server in ms."""
    return SessionInfo(handle, _time(created), _time(seen), _time(expires), meta)


def _time(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
