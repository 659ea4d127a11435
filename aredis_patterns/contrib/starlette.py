"""Rate limits and sessions for Starlette and any other ASGI application: pure ASGI middleware, keys from a connection.

    app.add_middleware(RateLimitMiddleware, limiter=limiter, key=by_ip())
    app.add_middleware(SessionMiddleware, store=sessions)

Only translates: connection to key, result to headers. What is allowed is decided by the limiter.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar, cast

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aredis_patterns.contrib._cookies import SessionCookie
from aredis_patterns.contrib._http import (
    PROBLEM_JSON,
    RETRY_WHEN_UNAVAILABLE,
    TROUBLE,
    client_address,
    new_headers,
    problem_body,
    refusal,
    unavailable,
)
from aredis_patterns.contrib._monitoring_asgi import health_route, metrics_route
from aredis_patterns.contrib._sessions import RequestSession
from aredis_patterns.contrib._sessions_asgi import SessionMiddleware, session_of
from aredis_patterns.ratelimit import Limiter, RateLimitResult

__all__ = [
    "CostFunction",
    "KeyFunction",
    "RateLimitMiddleware",
    "RequestSession",
    "SessionCookie",
    "SessionMiddleware",
    "by_header",
    "by_ip",
    "by_route",
    "by_user",
    "find_limiter",
    "health_route",
    "metrics_route",
    "session_of",
]

KeyFunction: TypeAlias = Callable[[HTTPConnection], str | Awaitable[str]]
"""Whose bucket a request takes from. Never empty: an empty key is a ValueError, not "unlimited"."""

CostFunction: TypeAlias = Callable[[HTTPConnection], int | Awaitable[int]]
"""How many units a request costs."""

T = TypeVar("T")

_TRY_AGAIN_LATER: Final = 1013


def by_ip(*, trusted_proxies: int = 0) -> KeyFunction:
    """The client's address. X-Forwarded-For is believed only as far as `trusted_proxies` of your own have written it."""

    def key(connection: HTTPConnection) -> str:
        peer = connection.client.host if connection.client else None
        return "ip:" + client_address(peer, connection.headers.getlist("x-forwarded-for"), trusted_proxies)

    return key


def by_header(name: str, *, missing: KeyFunction | None = None) -> KeyFunction:
    """The value of a header, such as an API key that somebody else has checked. Without it: `missing`, or by_ip()."""
    otherwise = missing or by_ip()

    async def key(connection: HTTPConnection) -> str:
        value = connection.headers.get(name)
        return f"header:{name.lower()}:{value}" if value else await settle(otherwise(connection))

    return key


def by_user(
    user: Callable[[HTTPConnection], str | None] | None = None, *, anonymous: KeyFunction | None = None
) -> KeyFunction:
    """The user: what `user(connection)` says, or the identity that AuthenticationMiddleware found. Nobody: `anonymous`,
    or by_ip()."""
    identify = user or _authenticated_user
    otherwise = anonymous or by_ip()

    async def key(connection: HTTPConnection) -> str:
        name = identify(connection)
        return f"user:{name}" if name else await settle(otherwise(connection))

    return key


def by_route(then: KeyFunction | None = None) -> KeyFunction:
    """The route as it was declared ("GET /v1/items/{id}"), with its prefixes and mounts, and then another key: by_ip().

    For dependencies. A middleware runs before there is a route, and raw paths would be as many buckets as a client
    likes: there it raises LookupError.
    """
    otherwise = then or by_ip()

    async def key(connection: HTTPConnection) -> str:
        scope = connection.scope
        return f"{scope.get('method', 'WEBSOCKET')} {_template(scope)} {await settle(otherwise(connection))}"

    return key


class RateLimitMiddleware:
    """Charges every HTTP request and WebSocket to a limiter: one round trip each.

    Allowed responses get the limit's headers, once, when they start; bodies stream through untouched. A refused request
    is answered 429 with problem+json and Retry-After, a refused WebSocket the same before it is accepted (or closed with
    1013). When nobody can decide (`on_error="raise"`), the answer is 503.

    Args:
        limiter: a `Limiter`, or the name of one in `app.state`, looked up at each request.
        key, cost: what they are for a connection; plain or async functions, `cost` also a number.
    """

    def __init__(
        self, app: ASGIApp, limiter: Limiter | str, *, key: KeyFunction | None = None, cost: int | CostFunction = 1
    ) -> None:
        self.app: Final = app
        self.limiter: Final = limiter
        self.key: Final = key or by_ip()
        self.cost: Final = cost

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        try:
            result = await charge(connection, self.limiter, self.key, self.cost)
        except Undecided as undecided:
            await _refuse(scope, receive, send, undecided.response)
            return
        if result:
            await self.app(scope, receive, send if scope["type"] == "websocket" else _with_headers(send, result))
        else:
            await _refuse(scope, receive, send, refusal_response(result))


class Undecided(Exception):
    """The limiter could not decide; `response` is the 503 to answer with."""

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__("the rate limiter could not decide")


async def charge(
    connection: HTTPConnection, limiter: Limiter | str, key: KeyFunction, cost: int | CostFunction
) -> RateLimitResult:
    """Charge one connection. Raises Undecided when nobody can decide; errors of `key` and `cost` are the caller's own."""
    found = find_limiter(connection, limiter)
    name = await settle(key(connection))
    units = await settle(cost(connection)) if callable(cost) else cost
    try:
        return await found.hit(name, units)
    except TROUBLE as error:
        raise Undecided(unavailable_response(error)) from error


def find_limiter(connection: HTTPConnection, limiter: Limiter | str) -> Limiter:
    """The limiter itself, or the one of that name in `app.state`."""
    if isinstance(limiter, Limiter):
        return limiter
    found = getattr(connection.scope["app"].state, limiter, None)
    if not isinstance(found, Limiter):
        raise LookupError(f"app.state.{limiter} should be a Limiter when a request comes, but is {found!r}")
    return found


def refusal_response(result: RateLimitResult) -> Response:
    """429 with problem+json."""
    return Response(problem_body(refusal(result)), 429, headers=result.headers(), media_type=PROBLEM_JSON)


def unavailable_response(error: Exception) -> Response:
    """503 with problem+json."""
    headers = {"Retry-After": RETRY_WHEN_UNAVAILABLE}
    return Response(problem_body(unavailable(error)), 503, headers=headers, media_type=PROBLEM_JSON)


async def settle(value: T | Awaitable[T]) -> T:
    """The value of a function that may be plain or async."""
    found: Any = value
    return cast(T, await found if inspect.isawaitable(found) else found)


def can_answer(scope: Scope) -> bool:
    """Whether a refusal can be an HTTP response here. For a WebSocket that takes an extension of the server."""
    return scope["type"] == "http" or "websocket.http.response" in (scope.get("extensions") or {})


async def _refuse(scope: Scope, receive: Receive, send: Send, response: Response) -> None:
    if can_answer(scope):
        await response(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": "rate limit"})


def _with_headers(send: Send, result: RateLimitResult) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(new_headers(result.headers(), headers.keys()))
        await send(message)

    return sender


def _authenticated_user(connection: HTTPConnection) -> str | None:
    user: Any = connection.scope.get("user")
    if user is None or not user.is_authenticated:
        return None
    try:
        return str(user.identity)
    except NotImplementedError:  # what Starlette's own SimpleUser raises
        return str(user.display_name)


def _template(scope: Scope) -> str:
    # FastAPI shares one route object between all places where a router is included; only this knows the prefix.
    context = scope.get("fastapi", {}).get("effective_route_context")
    path = getattr(context, "path", None) or getattr(scope.get("route"), "path", None)
    if path is None:
        raise LookupError("by_route needs a route: use it with Depends(RateLimit(...)), not in a middleware")
    return str(scope.get("root_path", "")) + str(path)
