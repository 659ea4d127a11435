"""A session during one request: what all web glues share. Knows HTTP, and no web framework.

Before the handler the session of the cookie is read, if there is a cookie. After it what has changed is saved, and only
then the response begins, because a response that says "done" must not come before it is. A visitor of whom nothing is
kept costs nothing: no session, no cookie, no call.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Final, Generic, TypeVar, cast

from redis.exceptions import RedisError

from aredis_patterns.contrib._cookies import SessionCookie
from aredis_patterns.exceptions import DecodeError, ServerRefused, SessionGone
from aredis_patterns.sessions import Session, SessionEvent, SessionStore
from aredis_patterns.types import Seconds

__all__ = ["CSRF_FIELD", "CSRF_HEADER", "RequestData", "RequestSession", "SessionsDown", "is_safe", "open_session"]

M = TypeVar("M")
T = TypeVar("T")

CSRF_HEADER: Final = "X-CSRF-Token"
CSRF_FIELD: Final = "csrf_token"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_log: Final = logging.getLogger("aredis_patterns.contrib")


class SessionsDown(Exception):
    """The sessions could not be asked: nobody can say who this is. Becomes a 503. `__cause__` tells why."""


class RequestSession(Generic[M]):
    """The session of this request; of a visitor, what may become one.

    `data` is yours to change; it is saved when the response begins, also changes inside of values. (Not with a status of
    500 and above: a request that failed leaves the session as it was. What a streaming body changes later needs
    `await session.save()`.) A session is created when a visitor's `data` is given something.

        session.data["cart"].append("book")
        await session.login("42", meta={"agent": request.headers["user-agent"]})

    When Redis cannot be asked, verbs raise and the middleware answers 503.
    """

    def __init__(self, store: SessionStore[M], session: Session[M] | None, sent: str | None) -> None:
        self.store: Final = store
        self._session = session
        self._data: M | None = None
        self._known = sent if session is not None else None
        """The token that the browser has."""
        self._logged_out = False
        self.accessed = False
        """Whether the response may depend on the session."""

    @property
    def session(self) -> Session[M] | None:
        """The stored session; None for a visitor who has none."""
        self.accessed = True
        return self._session

    @property
    def data(self) -> M:
        """What is kept of this visitor: a dict, or the model of the store."""
        self.accessed = True
        if self._session is not None:
            return self._session.data
        if self._data is None:
            self._data = self.store.empty()
        return self._data

    @data.setter
    def data(self, data: M) -> None:
        self.accessed = True
        if self._session is not None:
            self._session.data = data
        else:
            self._data = data

    @property
    def user_id(self) -> str | None:
        """Who has logged in; None for a visitor."""
        return self.session.user_id if self.session is not None else None

    async def login(self, user_id: str, *, meta: Mapping[str, Any] | None = None) -> None:
        """Make it the session of a user who has just proved who they are: a new token, the old one is dead.

        A visitor's data stays. What belongs to another user does not: their session is ended.
        """
        self.accessed = True
        session, self._session = self._session, None
        if session is not None and session.user_id in (None, user_id):
            try:
                self._session = await _asked(self.store.rotate(session, user_id=user_id, meta=meta))
                return
            except SessionGone:
                self._data = None
        elif session is not None:
            await self._end(session)
            self._data = None
        self._session = await _asked(self.store.create(self._data, user_id=user_id, meta=meta))
        self._data = None

    async def logout(self) -> None:
        """End this session, and take the cookie back. Also when a parallel request has just given it a new token."""
        self.accessed = self._logged_out = True
        session, self._session, self._data = self._session, None, None
        if session is not None:
            await self._end(session)

    async def logout_everywhere(self, *, keep_this: bool = False) -> int:
        """End all sessions of this user; how many. A visitor has none."""
        user, session = self.user_id, self._session
        if user is None or session is None:
            return 0
        if keep_this:
            return await _asked(self.store.destroy_all(user, keep=session))
        self._logged_out = True
        self._session = self._data = None
        ended = await _asked(self.store.destroy_all(user))
        # It is one of them, unless the list of the user was lost. This one must not wait until somebody uses it again.
        return ended + await self._end(session)

    async def _end(self, session: Session[M]) -> bool:
        """Whether this call did it. A user's session is followed to its new token, unless that is another user's."""
        if session.user_id is None:
            return await _asked(self.store.destroy(session.token))
        return await _asked(self.store.revoke(session.user_id, session.handle))

    async def rotate(self, *, grace: Seconds = 0) -> None:
        """A new token for the same session; nothing for a visitor without one.

        With `grace` this is a rotation from time to time: of parallel requests one does it, for the others it is done.
        Without, SessionGone says that the session has ended, or got another token, in this moment.
        """
        if self.session is not None:
            try:
                await _asked(self.store.rotate(self.session, grace=grace))
            except SessionGone:
                if not grace:
                    raise

    async def save(self) -> None:
        """Write what has changed now. For streams and WebSockets; otherwise it happens by itself."""
        self.accessed = True
        await self._save()

    async def _save(self) -> None:
        if self._session is not None:
            await _asked(self.store.save(self._session))
        elif self._data is not None and not self.store.is_empty(self._data):
            self._session = await _asked(self.store.create(self._data))
            self._data = None

    async def csrf_token(self) -> str:
        """A token for a form or a script of this page. A visitor gets a session for it."""
        self.accessed = True
        if self._session is None:
            self._session = await _asked(self.store.create(self._data))
            self._data = None
        return self._session.csrf_token()

    def verify_csrf(self, given: str | None) -> bool:
        """Whether `given` came from `csrf_token` of this session."""
        return self.session is not None and self.session.verify_csrf(given)

    async def wait_ended(self) -> SessionEvent | None:
        """Return when the session has ended; at once, with None, when there is none."""
        return None if self.session is None else await self.store.wait_ended(self.session)

    async def finish(self, status: int) -> None:
        """For the glue: the response begins. A session that was ended meanwhile is not brought back."""
        if status >= 500:
            return
        try:
            await self._save()
        except SessionGone:
            # The cookie stays: this may be a slow request, and the browser may have got a newer one meanwhile.
            self._session = self._data = None

    def set_cookie(self, cookie: SessionCookie) -> str | None:
        """For the glue: what Set-Cookie says, if anything."""
        session = self._session
        if session is not None and session.token != self._known:
            self._known = session.token
            return cookie.set(session.token, self.store.rules.absolute // 1000)
        if session is None and self._logged_out:
            self._logged_out, self._known = False, None
            return cookie.unset()
        return None

    def __repr__(self) -> str:
        return f"<RequestSession {self._session!r}>"


class RequestData(MutableMapping[str, Any]):
    """The data of a `RequestSession` as Starlette's `request.session` gives it."""

    def __init__(self, session: RequestSession[Any]) -> None:
        self._of: Final = session

    def _data(self) -> MutableMapping[str, Any]:
        data = self._of.data
        if not isinstance(data, MutableMapping):
            raise TypeError(
                f"the data of this store is a {type(data).__name__}: use CurrentSession, not request.session"
            )
        return cast("MutableMapping[str, Any]", data)

    def __getitem__(self, name: str) -> Any:
        return self._data()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._data()[name] = value

    def __delitem__(self, name: str) -> None:
        del self._data()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data())

    def __len__(self) -> int:
        return len(self._data())


async def open_session(store: SessionStore[M], cookie: SessionCookie, headers: Iterable[str]) -> RequestSession[M]:
    """The session of a request. One round trip if there is a cookie that looks right. Raises SessionsDown."""
    token = cookie.read(headers)
    session: Session[M] | None = None
    if token is not None:
        try:
            session = await _asked(store.get(token))
        except DecodeError as error:
            # It belongs to another version of the program. Nobody is locked out for as long as it lives.
            _log.error("a stored session does not fit the model and is not used: %s", error)
    return RequestSession(store, session, token)


def is_safe(method: str) -> bool:
    """Whether a method promises to change nothing, so that it needs no CSRF token."""
    return method in _SAFE


async def _asked(run: Awaitable[T]) -> T:
    try:
        return await run
    except (RedisError, ServerRefused, OSError) as error:
        raise SessionsDown(f"the sessions could not be asked: {type(error).__name__}") from error
