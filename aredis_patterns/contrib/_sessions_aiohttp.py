"""Sessions for aiohttp's server. Only translates; see `_sessions.py`."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any, Final, TypeAlias

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from aredis_patterns.contrib._cookies import SessionCookie
from aredis_patterns.contrib._http import PROBLEM_JSON, RETRY_WHEN_UNAVAILABLE, problem_body, unavailable
from aredis_patterns.contrib._sessions import (
    CSRF_FIELD,
    CSRF_HEADER,
    RequestSession,
    SessionsDown,
    is_safe,
    open_session,
)
from aredis_patterns.sessions import SessionStore

__all__ = ["SessionSource", "csrf_protected", "current_session", "session_middleware", "setup_sessions"]

SessionSource: TypeAlias = SessionStore[Any] | web.AppKey[SessionStore[Any]]
"""A store, or the key of one in the application, looked up at each request."""

_log: Final = logging.getLogger("aredis_patterns.contrib")
_NOT_NOW: Final = {"Retry-After": RETRY_WHEN_UNAVAILABLE, "Cache-Control": "no-store"}
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")


class _Exchange:
    """One request and its response."""

    def __init__(self, session: RequestSession[Any], cookie: SessionCookie) -> None:
        self.session: Final = session
        self._cookie: Final = cookie
        self.began = self.over = False
        """Whether a response has begun inside of the handler, and whether the handler is done."""
        self.sockets: asyncio.Queue[web.WebSocketResponse] = asyncio.Queue()

    async def finish(self, response: web.StreamResponse) -> None:
        """Save, and say what there is to say. Before the response begins."""
        await self.session.finish(response.status)
        value = self.session.set_cookie(self._cookie)
        headers = response.headers
        if value is not None:
            headers.add(hdrs.SET_COOKIE, value)
            headers[hdrs.CACHE_CONTROL] = "no-store"
        vary = [name.strip().lower() for line in headers.getall(hdrs.VARY, ()) for name in line.split(",")]
        if (value is not None or self.session.accessed) and "cookie" not in vary:
            headers.add(hdrs.VARY, "Cookie")

    async def close_sockets(self) -> None:
        """Close the WebSockets of this request when its session ends."""
        try:
            if await self.session.wait_ended() is None:
                return
        except Exception:
            _log.exception("nobody can say how long this session lives: its WebSocket is closed")
        while True:
            socket = await self.sockets.get()
            await socket.close(code=1008, message=b"session ended")


# aiohttp 3.14 warns of keys that are text; before, there was nothing else.
_KEY: Final[Any] = (
    web.RequestKey("aredis_patterns.session", _Exchange) if hasattr(web, "RequestKey") else "aredis_patterns.session"
)


def setup_sessions(
    app: web.Application, store: SessionSource, *, cookie: SessionCookie | None = None, close_websockets: bool = True
) -> None:
    """Give every request of this application its session: `current_session(request)`. What most applications call.

    One round trip for a request with a session that only reads, none without a cookie; one more when something is saved,
    before the response begins, streams included. Cookies go out with `Cache-Control: no-store`; whatever looked at the
    session says `Vary: Cookie`. When Redis cannot be asked the answer is 503: nobody is taken for a visitor.

    A WebSocket is closed (1008) when its session ends: logout, revocation, expiry. Its own changes need
    `await session.save()`.
    """
    app.middlewares.append(session_middleware(store, cookie=cookie, close_websockets=close_websockets))
    app.on_response_prepare.append(_on_prepare)


def session_middleware(
    store: SessionSource, *, cookie: SessionCookie | None = None, close_websockets: bool = True
) -> Middleware:
    """The middleware of `setup_sessions` alone, for a list of your own. Without the signal that `setup_sessions` adds,
    streams and WebSockets, which begin inside of the handler, neither get a cookie nor are closed."""
    how = cookie or SessionCookie()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        found = store if isinstance(store, SessionStore) else request.config_dict[store]
        exchange: _Exchange | None = None
        try:
            exchange = _Exchange(await open_session(found, how, request.headers.getall(hdrs.COOKIE, ())), how)
            request[_KEY] = exchange
            if close_websockets and _is_upgrade(request) and exchange.session.session is not None:
                return await _with_watch(exchange, request, handler)
            return await _handled(exchange, request, handler)
        except SessionsDown as down:
            if exchange is not None and exchange.began:
                raise  # there is no place for another response: aiohttp cuts the connection
            return _refusal(down)

    return middleware


def current_session(request: web.Request) -> RequestSession[Any]:
    """The session of a request. No round trip: it has been read. Raises LookupError without `setup_sessions`."""
    exchange: _Exchange | None = request.get(_KEY)
    if exchange is None:
        raise LookupError("there is no session here: call setup_sessions(app, store)")
    return exchange.session


def csrf_protected(handler: Handler) -> Handler:
    """Above a handler that changes something: 403 unless the request carries `await session.csrf_token()`, in the header
    X-CSRF-Token or the form field csrf_token. GET, HEAD, OPTIONS and TRACE pass."""

    @functools.wraps(handler)
    async def protected(request: web.Request) -> web.StreamResponse:
        if not is_safe(request.method):
            given: Any = request.headers.get(CSRF_HEADER)
            if given is None and request.content_type in _FORMS:
                given = (await request.post()).get(CSRF_FIELD)
            if not current_session(request).verify_csrf(given if isinstance(given, str) else None):
                raise web.HTTPForbidden(text="the CSRF token is missing or belongs to another session")
        return await handler(request)

    return protected


async def _handled(exchange: _Exchange, request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
    except web.HTTPException as answer:
        # A redirect after a login is raised, and carries the cookie all the same.
        if not exchange.began:
            await exchange.finish(answer)
        raise
    finally:
        exchange.over = True
    if not response.prepared:
        await exchange.finish(response)
    return response


async def _with_watch(exchange: _Exchange, request: web.Request, handler: Handler) -> web.StreamResponse:
    watch = asyncio.create_task(exchange.close_sockets(), name="aredis-patterns: session of a WebSocket")
    try:
        return await _handled(exchange, request, handler)
    finally:
        watch.cancel()
        await asyncio.wait({watch})


async def _on_prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Streams and WebSockets begin inside of the handler; all others have been finished when this is called."""
    exchange: _Exchange | None = request.get(_KEY)
    if exchange is None or exchange.over:
        return
    try:
        await exchange.finish(response)
    except SessionsDown as down:
        raise web.HTTPServiceUnavailable(
            headers=_NOT_NOW, text=_problem(down).decode(), content_type=PROBLEM_JSON
        ) from down
    exchange.began = True
    if isinstance(response, web.WebSocketResponse):
        exchange.sockets.put_nowait(response)


def _is_upgrade(request: web.Request) -> bool:
    return request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"


def _refusal(down: SessionsDown) -> web.Response:
    return web.Response(status=503, body=_problem(down), headers=_NOT_NOW, content_type=PROBLEM_JSON)


def _problem(down: SessionsDown) -> bytes:
    return problem_body(unavailable(down.__cause__ or down, "the session"))
