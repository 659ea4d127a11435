"""Sessions for Starlette, FastAPI and any other ASGI application. Only translates; see `_sessions.py`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aredis_patterns.contrib._cookies import SessionCookie
from aredis_patterns.contrib._http import PROBLEM_JSON, RETRY_WHEN_UNAVAILABLE, problem_body, unavailable
from aredis_patterns.contrib._sessions import RequestData, RequestSession, SessionsDown, open_session
from aredis_patterns.sessions import SessionStore

__all__ = ["SessionMiddleware", "session_of"]

_log: Final = logging.getLogger("aredis_patterns.contrib")
_KEY: Final = "aredis_patterns.session"
_BEGINNINGS: Final = frozenset(
    {"http.response.start", "websocket.accept", "websocket.close", "websocket.http.response.start"}
)
_TRY_AGAIN_LATER: Final = 1013
_POLICY_VIOLATION: Final = 1008
_NOT_CHECKED: Final = "the session could not be checked"


class SessionMiddleware:
    """Gives every request and WebSocket its session: `CurrentSession`, `session_of(request)`, or `request.session`.

        app.add_middleware(SessionMiddleware, store="sessions")

    One round trip for a request with a session that only reads, none without a cookie; one more when something is saved,
    before the response begins. Cookies go out with `Cache-Control: no-store`; whatever looked at the session says
    `Vary: Cookie`. When Redis cannot be asked the answer is 503: nobody is taken for a visitor.

    A WebSocket is closed (1008) when its session ends: logout, revocation, expiry. Its own changes need
    `await session.save()`.

    Args:
        store: a `SessionStore`, or the name of one in `app.state`, looked up at each request.
        cookie: how the cookie looks. close_websockets: False leaves that to the application.
    """

    def __init__(
        self,
        app: ASGIApp,
        store: SessionStore[Any] | str,
        *,
        cookie: SessionCookie | None = None,
        close_websockets: bool = True,
    ) -> None:
        self.app: Final = app
        self.store: Final = store
        self.cookie: Final = cookie or SessionCookie()
        self.close_websockets: Final = close_websockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(self.cookie, send)
        try:
            session = exchange.session = await open_session(
                self._find(scope), self.cookie, Headers(scope=scope).getlist("cookie")
            )
            scope[_KEY], scope["session"] = session, RequestData(session)
            if scope["type"] == "http":
                await self.app(scope, receive, exchange.send)
            elif session.session is not None and self.close_websockets:
                await _Socket(session, receive, exchange.send).run(partial(self.app, scope))
            else:
                await self.app(scope, receive, exchange.send)
        except SessionsDown as down:
            if exchange.accepted:
                _log.error("a WebSocket is closed: %s", down.__cause__ or down)
                await exchange.send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": _NOT_CHECKED})
            elif exchange.began:
                raise  # there is no place for another response: the server cuts the connection
            else:
                await _refuse(scope, receive, send, down)

    def _find(self, scope: Scope) -> SessionStore[Any]:
        if isinstance(self.store, SessionStore):
            return self.store
        found = getattr(scope["app"].state, self.store, None)
        if not isinstance(found, SessionStore):
            raise LookupError(f"app.state.{self.store} should be a SessionStore when a request comes, but is {found!r}")
        return found


def session_of(connection: HTTPConnection) -> RequestSession[Any]:
    """The session of a request or WebSocket. Raises LookupError where there is no SessionMiddleware."""
    session: RequestSession[Any] | None = connection.scope.get(_KEY)
    if session is None:
        raise LookupError("there is no session here: app.add_middleware(SessionMiddleware, store=...)")
    return session


class _Exchange:
    """One request and its response."""

    def __init__(self, cookie: SessionCookie, send: Send) -> None:
        self._cookie: Final = cookie
        self._send: Final = send
        self.session: RequestSession[Any] | None = None
        self.began = False
        self.accepted = False
        """Whether this is a WebSocket that is open."""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self.session is not None:
            await self.session.finish(message["status"])
            self._add_headers(self.session, MutableHeaders(scope=message))
        if message["type"] in _BEGINNINGS:
            self.began = True
            self.accepted = message["type"] == "websocket.accept"
        await self._send(message)

    def _add_headers(self, session: RequestSession[Any], headers: MutableHeaders) -> None:
        value = session.set_cookie(self._cookie)
        if value is not None:
            headers.append("Set-Cookie", value)
            headers["Cache-Control"] = "no-store"
        if value is not None or session.accessed:
            headers.add_vary_header("Cookie")


class _Socket:
    """A WebSocket that ends with its session: whoever waits for a message gets a disconnect, and the browser a close."""

    def __init__(self, session: RequestSession[Any], receive: Receive, send: Send) -> None:
        self._session: Final = session
        self._receive: Final = receive
        self._send: Final = send
        self._over: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._accepted = self._closed = False
        self._incoming: asyncio.Future[Message] | None = None

    async def run(self, app: Callable[[Receive, Send], Awaitable[None]]) -> None:
        watch = asyncio.create_task(self._watch(), name="aredis-patterns: session of a WebSocket")
        try:
            await app(self.receive, self.send)
        finally:
            watch.cancel()
            await asyncio.wait({watch})
            if self._incoming is not None:
                self._incoming.cancel()

    async def _watch(self) -> None:
        try:
            await self._session.wait_ended()
        except Exception:
            _log.exception("nobody can say how long this session lives: its WebSocket is closed")
        self._over.set_result(None)
        with suppress(OSError, RuntimeError):  # the browser has gone, or the application has closed it in this moment
            await self._close()

    async def receive(self) -> Message:
        if self._incoming is None:
            self._incoming = asyncio.ensure_future(self._receive())
        either: set[asyncio.Future[Any]] = {self._incoming, self._over}
        # Who is cancelled here leaves the message that may have come for the next one who asks.
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._incoming.done():
            incoming, self._incoming = self._incoming, None
            return incoming.result()
        return {"type": "websocket.disconnect", "code": _POLICY_VIOLATION, "reason": "session ended"}

    async def send(self, message: Message) -> None:
        if self._closed:
            return  # too late: it has been closed meanwhile
        if message["type"] == "websocket.accept":
            self._accepted = True
        if message["type"] in ("websocket.close", "websocket.http.response.start"):
            self._closed = True
        await self._send(message)
        if self._over.done():
            await self._close()

    async def _close(self) -> None:
        if self._accepted and not self._closed:
            self._closed = True
            await self._send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": "session ended"})


async def _refuse(scope: Scope, receive: Receive, send: Send, down: SessionsDown) -> None:
    problem = unavailable(down.__cause__ or down, "the session")
    if scope["type"] == "http" or "websocket.http.response" in (scope.get("extensions") or {}):
        headers = {"Retry-After": RETRY_WHEN_UNAVAILABLE, "Cache-Control": "no-store"}
        await Response(problem_body(problem), 503, headers=headers, media_type=PROBLEM_JSON)(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": _NOT_CHECKED})
