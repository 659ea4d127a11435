"""Rate limits, sessions, locks and cached values for FastAPI: dependencies, and keys from a request.

    @app.get("/items", dependencies=[Depends(RateLimit("100/minute", key=by_user()))])
    async def items(session: CurrentSession): ...

Only translates: connection to key, result to headers and errors. What is allowed is decided by the limiter.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias, Unpack

from fastapi import Depends, HTTPException, Request, Response, WebSocketException
from fastapi.exception_handlers import http_exception_handler
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import HTTPConnection

from aredis_patterns.contrib._caching_asgi import Cached, stored_response
from aredis_patterns.contrib._cookies import SessionCookie
from aredis_patterns.contrib._http import HeaderChoice, result_headers
from aredis_patterns.contrib._limit_keys import (
    CostFunction,
    Costs,
    KeyFunction,
    Keys,
    by_header,
    by_ip,
    by_route,
    by_user,
)
from aredis_patterns.contrib._limits_asgi import (
    AnyLimiter,
    LimitSource,
    RateLimitMiddleware,
    Undecided,
    add_headers,
    can_answer,
    charge,
    refusal_response,
)
from aredis_patterns.contrib._locks_fastapi import locked
from aredis_patterns.contrib._monitoring_asgi import health_route, metrics_route
from aredis_patterns.contrib._push_asgi import EventStream, last_event_id, pump_websocket
from aredis_patterns.contrib._sessions import CSRF_FIELD, CSRF_HEADER, RequestSession, is_safe
from aredis_patterns.contrib._sessions_asgi import SessionMiddleware, session_of
from aredis_patterns.ratelimit import Limit, LimiterOptions, RateLimitResult
from aredis_patterns.types import RedisClient

__all__ = [
    "Cached",
    "CostFunction",
    "Costs",
    "CurrentSession",
    "CurrentUser",
    "EventStream",
    "HeaderChoice",
    "KeyFunction",
    "Keys",
    "RateLimit",
    "RateLimitMiddleware",
    "RateLimited",
    "RequestSession",
    "SessionCookie",
    "SessionMiddleware",
    "by_header",
    "by_ip",
    "by_route",
    "by_user",
    "csrf_protected",
    "current_session",
    "current_user",
    "health_route",
    "last_event_id",
    "locked",
    "metrics_route",
    "pump_websocket",
    "stored_response",
]


class RateLimited(HTTPException):
    """A refusal (429), or nobody could decide (503). `response` is the whole problem+json answer."""

    def __init__(self, response: Response) -> None:
        self.response: Final = response
        detail = bytes(response.body).decode()
        super().__init__(response.status_code, detail=detail, headers=dict(response.headers))


class RateLimit:
    """A dependency that charges each request, or WebSocket, to a limiter: one round trip.

        @app.get("/items", dependencies=[Depends(RateLimit("100/minute burst 20", key=by_user()))])

    The limit's headers are on the response, also when it is refused: 429 with problem+json and Retry-After. (FastAPI lets
    a dependency add headers to what a route *returns* as data. Where a route makes its own `Response` or raises, use
    `RateLimitMiddleware`, which adds them to everything.) A WebSocket is refused before it is accepted. When nobody can
    decide (`on_error="raise"`), the answer is 503.

    Args:
        limit: a `Limit` or its text, for a token bucket on `redis`; a `Limiter` or `MultiLimiter`; or the name of one in
            `app.state`, looked up at each request, so it may be made in the lifespan of the application. Text that is no
            limit is a ValueError here.
        key: whose bucket; default by_ip(). cost: a number, or a function. Both may be async; for a MultiLimiter they may
            give one for each limit.
        redis: for a limit: a client, or the name of one in `app.state` or in the state of the lifespan (which mounted
            applications see, too); default "redis".
        headers: "draft", "legacy" (X-RateLimit-*), "both", or "none".
        options: those of `Limiter`, for a limit. Without a `name` each route counts by itself; with one, all that have
            the same name and key count together.

    As a parameter it gives the `RateLimitResult`: `result: Annotated[RateLimitResult, Depends(RateLimit(limiter))]`.
    An exception handler of your own for 429, for `HTTPException` or for `RateLimited` goes before ours.
    """

    def __init__(
        self,
        limit: AnyLimiter | Limit | str,
        *,
        key: KeyFunction | None = None,
        cost: Costs | CostFunction = 1,
        redis: RedisClient | str = "redis",
        headers: HeaderChoice = "draft",
        **options: Unpack[LimiterOptions],
    ) -> None:
        self.limit: Final = limit
        self.key: Final = key or by_ip()
        self.cost: Final = cost
        self.headers: Final[HeaderChoice] = headers
        self._source: Final = LimitSource(limit, redis, options, per_route=True)

    async def __call__(self, connection: HTTPConnection, response: Response) -> RateLimitResult:
        try:
            result = await charge(connection, self._source, self.key, self.cost)
        except Undecided as undecided:
            raise _refused(connection, undecided.response) from undecided
        if not result:
            raise _refused(connection, refusal_response(result, self.headers))
        add_headers(response.raw_headers, result_headers(result, self.headers))
        return result


def _refused(connection: HTTPConnection, response: Response) -> Exception:
    if not can_answer(connection.scope):
        return WebSocketException(1013, "rate limit")
    _prefer_whole_responses(connection)
    return RateLimited(response)


def _prefer_whole_responses(connection: HTTPConnection) -> None:
    """FastAPI would wrap our problem into {"detail": ...}. Where its own handler is in place, ours goes before it."""
    handlers: Any = connection.scope.get("starlette.exception_handlers")
    if handlers and handlers[0].get(StarletteHTTPException) is http_exception_handler:
        handlers[0].setdefault(RateLimited, _answer)


async def _answer(_: HTTPConnection, error: RateLimited) -> Response:
    return error.response


async def current_session(connection: HTTPConnection) -> RequestSession[Any]:
    """The session of this request or WebSocket. With a model: `Annotated[RequestSession[Cart], Depends(current_session)]`.

    No round trip: `SessionMiddleware` has read it. Raises LookupError without one.
    """
    return session_of(connection)


CurrentSession: TypeAlias = Annotated[RequestSession[dict[str, Any]], Depends(current_session)]
"""A parameter of a route: `async def home(session: CurrentSession)`."""


async def current_user(connection: HTTPConnection) -> str:
    """Who has logged in; nobody is 401 (a WebSocket is refused)."""
    user = session_of(connection).user_id
    if user is None:
        if connection.scope["type"] == "websocket":
            raise WebSocketException(1008, "not logged in")
        raise HTTPException(401, "not logged in")
    return user


CurrentUser: TypeAlias = Annotated[str, Depends(current_user)]
"""A parameter of a route for users: `async def account(user_id: CurrentUser)`."""


async def csrf_protected(request: Request) -> None:
    """A dependency for routes that change something: 403 unless the request carries `await session.csrf_token()`, in the
    header X-CSRF-Token or the form field csrf_token (which needs python-multipart). GET, HEAD, OPTIONS and TRACE pass."""
    if is_safe(request.method):
        return
    given: Any = request.headers.get(CSRF_HEADER)
    if given is None and request.headers.get("content-type", "").startswith(_FORMS):
        given = (await request.form()).get(CSRF_FIELD)
    if not session_of(request).verify_csrf(given if isinstance(given, str) else None):
        raise HTTPException(403, "the CSRF token is missing or belongs to another session")


_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
