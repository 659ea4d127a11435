"""`SessionStore`: server-side sessions that can be listed, rotated and ended, and that stay ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Generic, TypeVar, Unpack, overload

from aredis_patterns._core.durations import timeout_seconds, to_milliseconds
from aredis_patterns._core.instrumentation import hook_of
from aredis_patterns.pipelining import lane_of
from aredis_patterns.sessions._data import Layout, MappingLayout, ModelLayout, encode_meta
from aredis_patterns.sessions._ends import SessionEvent, read_ends
from aredis_patterns.sessions._keys import SessionKeys
from aredis_patterns.sessions._lifecycle import Lifecycle
from aredis_patterns.sessions._rules import SessionOptions, make_rules
from aredis_patterns.sessions._server import SessionServer
from aredis_patterns.sessions._session import Session, SessionInfo
from aredis_patterns.sessions._statistics import Counts, SessionStatistics
from aredis_patterns.sessions._tokens import handle_of, is_handle
from aredis_patterns.sessions._watch import Watches
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["SessionStore"]

M = TypeVar("M")


class SessionStore(Generic[M]):
    """Sessions on the server: a token in the cookie, everything else here. Decided by the server's clock alone.

    Guarantees: an unknown token is never adopted. What was ended is never brought back, also not by a request that
    began before. Writers of different attributes do not disturb each other. Fails closed: when the server cannot be
    asked every verb raises, and nobody is taken for a visitor, or for a user. Only the SHA-256 of a token is stored.

    Costs: `get`, `save`, `extend` and `destroy` are one round trip. A session with 250 bytes of JSON takes 740 bytes, 70
    more for its event and 110 more in the list of its user, all gone when it expires. O(1), but for `list` and
    `destroy_all`: O(sessions of the user).

    Args:
        client: any `redis.asyncio` client, stock or pipelined, single server or Cluster. It is never closed here.
        name: names this store in keys. Sessions of one store are nothing to another one.
        model: a dataclass, `msgspec.Struct`, pydantic model or TypedDict; without it data is a dict of JSON values.
        idle_timeout: life without a request; absolute_timeout: life in all, since login. Both are kept by the server.
        max_per_user: so many sessions of one user; a further login ends the one that has been idle for the longest.
        touch_threshold: the part of `idle_timeout` that has to pass before a read moves the expiry; other reads write
            nothing. 0 moves it always.
        max_bytes: of all names and values of a session; of its `meta`, which comes from outside, as many again.
        keep_events: how long the end of a session waits for `events()`. None records none.
        namespace: begins every key.
        deadline: seconds after which a silent server counts as unable to answer.

    Raises (all verbs): ServerUnavailable when nobody is there, OutcomeUnknown when a reply was lost, ReplyTimeout when
    none came; EncodeError for data that cannot be written, before anything is sent.

        sessions = SessionStore(redis, idle_timeout=1800, absolute_timeout=28800, max_per_user=5)
        session = await sessions.create({"theme": "dark"}, user_id="42")
        session = await sessions.get(session.token)
    """

    @overload
    def __init__(
        self: SessionStore[dict[str, Any]], client: RedisClient, **options: Unpack[SessionOptions]
    ) -> None: ...
    @overload
    def __init__(self, client: RedisClient, *, model: type[M], **options: Unpack[SessionOptions]) -> None: ...
    def __init__(
        self,
        client: RedisClient,
        *,
        name: str = "default",
        model: type[Any] | None = None,
        idle_timeout: Seconds = 1800,
        absolute_timeout: Seconds = 28_800,
        max_per_user: int | None = None,
        touch_threshold: float = 0.1,
        max_bytes: int = 32_768,
        keep_events: Seconds | None = 3600,
        namespace: str = "ap",
        deadline: Seconds = 1.0,
    ) -> None:
        self.rules: Final = make_rules(
            idle_timeout=idle_timeout,
            absolute_timeout=absolute_timeout,
            max_per_user=max_per_user,
            touch_threshold=touch_threshold,
            max_bytes=max_bytes,
            keep_events=keep_events,
            deadline=deadline,
        )
        self.name: Final = name
        self._client: Final = client
        self._layout: Final[Layout[M]] = MappingLayout() if model is None else ModelLayout(model)  # type: ignore[assignment]
        self._server: Final = SessionServer(lane_of(client), SessionKeys(namespace, name), self.rules)
        self._counts: Final = Counts()
        self._lifecycle: Final[Lifecycle[M]] = Lifecycle(self._server, self._layout, self._counts)
        self._watches: Final = Watches(client, self._server)
        self._hook: Final = hook_of(client, "sessions")

    async def create(
        self, data: M | None = None, *, user_id: str | None = None, meta: Mapping[str, Any] | None = None
    ) -> Session[M]:
        """Begin a session with a fresh token. One round trip; for a user's session two, and more if some end.

        `meta` is what `list` shows of the device: address, browser. When this fails or is cancelled, no session is left.
        """
        attributes = self._layout.dump(self._layout.empty() if data is None else data)
        run = self._lifecycle.create(attributes, _user(user_id) if user_id is not None else "", encode_meta(meta))
        return await self._hook.around("create", run)

    async def get(self, token: str) -> Session[M] | None:
        """The session of a token; None for one that has ended, was never ours, or is no token at all.

        One round trip; none for what cannot be a token. Once in `touch_threshold` of the idle timeout a read moves the
        expiry, which is a second one; all others write nothing. Raises DecodeError when the model does not fit.
        """
        handle = handle_of(token)
        if handle is None:
            self._counts.malformed += 1
            return None
        return await self._hook.around("get", self._lifecycle.get(token, handle), _found)

    async def save(self, session: Session[M], *, if_version: int | None = None) -> bool:
        """Write what has changed in `session.data`, also inside of values; False when that is nothing. One round trip.

        Only changed attributes are sent: of two requests that change different ones both win, of the same the last one.
        `if_version=session.version` writes only if nobody has saved since.

        A session that a parallel request has rotated with some `grace` is written under its new token.

        Never repeated: after OutcomeUnknown it may be written. Raises SessionGone, SessionConflict, SessionTooLarge;
        after any error both the stored session and `session.data` are as they were.
        """
        if if_version is not None and (isinstance(if_version, bool) or if_version < 1):
            raise ValueError(f"if_version is the version of a session, 1 or more, got {if_version!r}")
        changes = session.changes()
        if not changes.written and not changes.removed and if_version is None:
            self._counts.unchanged += 1
            return False
        await self._hook.around("save", self._lifecycle.save(session.record, changes, if_version or 0))
        return bool(changes.written or changes.removed)

    async def extend(self, token: str) -> bool:
        """Move the expiry to a whole idle timeout from now, or to the absolute end; False when there is no session.

        For what is no request: an open WebSocket, a long upload. One round trip, two for a user's session.
        """
        handle = handle_of(token)
        if handle is None:
            self._counts.malformed += 1
            return False
        return await self._hook.around("extend", self._lifecycle.extend(handle))

    async def rotate(
        self,
        session: Session[M],
        *,
        user_id: str | None = None,
        meta: Mapping[str, Any] | None = None,
        grace: Seconds = 0,
    ) -> Session[M]:
        """Give the session a new token; the old one is dead in the same step. Returns `session`, changed.

        With `user_id` this is a login: call it whenever somebody proves who they are, so that a token that an attacker
        knows, or has planted, never becomes a user's. The absolute timeout begins anew. Without it, a rotation from time
        to time; `grace` then lets parallel requests come through with the old token for so many seconds.

        One round trip, two for a user's session. Raises SessionGone. When it is cancelled or fails after it was sent,
        the session is ended: nobody would know its new token. Attributes that were not saved stay in `session.data`.
        """
        pause = timeout_seconds(grace, "grace") or 0.0
        if pause and user_id is not None:
            raise ValueError(f"a login kills the old token at once: no grace, got {grace!r}")
        user = None if user_id is None else _user(user_id)
        run = self._lifecycle.rotate(session.record, user, encode_meta(meta), round(pause * 1000))
        await self._hook.around("rotate", run)
        return session

    async def destroy(self, token: str) -> bool:
        """End a session: logout. Afterwards the token is dead, and stays so. One round trip.

        True when this call ended it. (A lost connection is tried once more; then an end by the first try says False.)
        """
        handle = handle_of(token)
        if handle is None:
            self._counts.malformed += 1
            return False
        return await self._hook.around("destroy", self._lifecycle.ending.end(handle))

    async def revoke(self, user_id: str, handle: str) -> bool:
        """End the session of that handle if it is this user's: "log out that device". True when it was. One round trip."""
        if not is_handle(handle):
            return False
        run = self._lifecycle.ending.end(handle, owner=_user(user_id), follow=True)
        return await self._hook.around("revoke", run)

    async def destroy_all(self, user_id: str, *, keep: Session[M] | str | None = None) -> int:
        """End all sessions of a user, but for `keep` (a session or its handle); how many. Three round trips.

        Follows sessions that change their id in this moment. One that the index has lost ends with its next touch.
        When it raises, some may live: call it again.
        """
        kept = keep.handle if isinstance(keep, Session) else keep
        if kept is not None and not is_handle(kept):
            raise ValueError("keep is a session or its handle, got something else (a token is no handle)")
        return await self._hook.around("destroy_all", self._lifecycle.destroy_all(_user(user_id), kept))

    async def list(self, user_id: str) -> list[SessionInfo]:
        """The living sessions of a user, the one used last first: a list of devices. Two round trips."""
        return await self._hook.around("list", self._lifecycle.list(_user(user_id)))

    def events(self, *, lease: Seconds = 30) -> AsyncGenerator[SessionEvent, None]:
        """The ends of all sessions, as they happen: each exactly once, to one of all who iterate in any process.

        Needs no keyspace notifications. An end that comes while nobody listens waits for `keep_events`. What a killed
        process had taken and not handed out comes again after `lease`. Ends soon after the expiry, within a quarter of
        the idle timeout and 5 s. One round trip per wake-up.

            async for event in sessions.events():
                await audit(event.handle, event.reason)
        """
        if not self.rules.keep:
            raise ValueError("this store records no ends: make it with keep_events=3600")
        return read_ends(self._client, self._server, to_milliseconds(lease, "lease"))

    async def wait_ended(self, session: Session[M]) -> SessionEvent:
        """Return when the session has ended: revoked, expired, or gone to another user's id. Closes a WebSocket on logout.

        Pushed: about one way from the server. Follows rotations. Any number may wait; all share one connection. When the
        server cannot be asked, the session counts until it should have expired.
        """
        record = session.record
        left = max(0, record.expires - record.seen) / 1000
        return await self._watches.until_ended(record.handle, record.user, left)

    def empty(self) -> M:
        """What a visitor without a session has: no attributes, or the defaults of the model."""
        return self._layout.empty()

    def is_empty(self, data: M) -> bool:
        """Whether this is no more than `empty()`, so that no session is needed to keep it."""
        return self._layout.dump(data) == self._layout.dump(self._layout.empty())

    def statistics(self) -> SessionStatistics:
        """A snapshot of what this object has done."""
        counts = {name: getattr(self._counts, name) for name in Counts.__slots__}
        return SessionStatistics(**counts, ended=self._lifecycle.ending.ended, waiting=self._watches.waiting)

    def __repr__(self) -> str:
        now = self._counts
        return (
            f"<SessionStore {self.name!r}, idle {self.rules.idle / 1000:g} s, absolute {self.rules.absolute / 1000:g} s: "
            f"{now.created} created, {now.found} found, {now.missed} missed, {self._lifecycle.ending.ended} ended>"
        )


def _user(user_id: object) -> str:
    if not isinstance(user_id, str) or not user_id:
        raise ValueError(f"user_id is text and not empty, got {user_id!r}")
    try:
        user_id.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"user_id cannot be written as UTF-8: {user_id!r}") from error
    return user_id


def _found(session: Session[Any] | None) -> str:
    return "missed" if session is None else "found"
