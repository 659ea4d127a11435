"""Rate limits, sessions and locks for aiohttp's server: middleware, decorators for single handlers, and keys from a request.

    app = web.Application(middlewares=[rate_limit_middleware(limiter, key=by_ip())])
    setup_sessions(app, sessions)

Only translates: request to key, result to headers. What is allowed is decided by the limiter.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar, cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

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
from aredis_patterns.contrib._locks_aiohttp import locked
from aredis_patterns.contrib._monitoring_aiohttp import health_handler, metrics_handler
from aredis_patterns.contrib._sessions import RequestSession
from aredis_patterns.contrib._sessions_aiohttp import (
    SessionSource,
    csrf_protected,
    current_session,
    session_middleware,
    setup_sessions,
)
from aredis_patterns.ratelimit import Limiter, RateLimitResult

__all__ = [
    "CostFunction",
    "KeyFunction",
    "LimiterSource",
    "RequestSession",
    "SessionCookie",
    "SessionSource",
    "add_rate_limit_headers",
    "by_header",
    "by_ip",
    "by_route",
    "by_user",
    "csrf_protected",
    "current_session",
    "health_handler",
    "locked",
    "metrics_handler",
    "rate_limit_middleware",
    "rate_limited",
    "session_middleware",
    "setup_sessions",
]

KeyFunction: TypeAlias = Callable[[web.Request], str | Awaitable[str]]
"""Whose bucket a request takes from. Never empty: an empty key is a ValueError, not "unlimited"."""

CostFunction: TypeAlias = Callable[[web.Request], int | Awaitable[int]]
"""How many units a request costs."""

LimiterSource: TypeAlias = Limiter | web.AppKey[Limiter]
"""A limiter, or the key of one in the application, looked up at each request."""

T = TypeVar("T")

# aiohttp 3.14 warns of keys that are text; before, there was nothing else.
_RESULT: Final[Any] = (
    web.RequestKey("aredis_patterns.result", RateLimitResult)
    if hasattr(web, "RequestKey")
    else "aredis_patterns.ratelimit.result"
)


def by_ip(*, trusted_proxies: int = 0) -> KeyFunction:
    """The client's address. X-Forwarded-For is believed only as far as `trusted_proxies` of your own have written it."""

    def key(request: web.Request) -> str:
        return "ip:" + client_address(request.remote, request.headers.getall("X-Forwarded-For", []), trusted_proxies)

    return key


def by_header(name: str, *, missing: KeyFunction | None = None) -> KeyFunction:
    """The value of a header, such as an API key that somebody else has checked. Without it: `missing`, or by_ip()."""
    otherwise = missing or by_ip()

    async def key(request: web.Request) -> str:
        value = request.headers.get(name)
        return f"header:{name.lower()}:{value}" if value else await _settle(otherwise(request))

    return key


def by_user(user: Callable[[web.Request], str | None], *, anonymous: KeyFunction | None = None) -> KeyFunction:
    """What `user(request)` says; when that is nobody, `anonymous`, or by_ip()."""
    otherwise = anonymous or by_ip()

    async def key(request: web.Request) -> str:
        name = user(request)
        return f"user:{name}" if name else await _settle(otherwise(request))

    return key


def by_route(then: KeyFunction | None = None) -> KeyFunction:
    """The route as it was declared ("GET /v1/items/{id}"), and then another key: by_ip(). Paths without a route share
    one bucket."""
    otherwise = then or by_ip()

    async def key(request: web.Request) -> str:
        resource = request.match_info.route.resource
        template = resource.canonical if resource is not None else "(none)"
        return f"{request.method} {template} {await _settle(otherwise(request))}"

    return key


def rate_limit_middleware(
    limiter: LimiterSource, *, key: KeyFunction | None = None, cost: int | CostFunction = 1
) -> Middleware:
    """A middleware that charges every request: one round trip.

    The limit's headers are on the response, also when it is refused: 429 with problem+json and Retry-After. When nobody
    can decide (`on_error="raise"`), the answer is 503. Streams and WebSockets have sent their headers when a middleware
    sees them; for those add `app.on_response_prepare.append(add_rate_limit_headers)`.
    """
    key_of = key or by_ip()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await _limited(request, handler, limiter, key_of, cost)

    return middleware


def rate_limited(
    limiter: LimiterSource, *, key: KeyFunction | None = None, cost: int | CostFunction = 1
) -> Callable[[Handler], Handler]:
    """The same for one handler: `@rate_limited(limiter, key=by_user(...), cost=5)` above `async def handler(request)`."""
    key_of = key or by_ip()

    def decorate(handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def limited(request: web.Request) -> web.StreamResponse:
            return await _limited(request, handler, limiter, key_of, cost)

        return limited

    return decorate


async def add_rate_limit_headers(request: web.Request, response: web.StreamResponse) -> None:
    """For `app.on_response_prepare`: the headers of the last limit that allowed this request."""
    result: RateLimitResult | None = request.get(_RESULT)
    if result is not None:
        _add_headers(response, result)


async def _limited(
    request: web.Request, handler: Handler, limiter: LimiterSource, key: KeyFunction, cost: int | CostFunction
) -> web.StreamResponse:
    found = limiter if isinstance(limiter, Limiter) else request.config_dict[limiter]
    name = await _settle(key(request))
    units = await _settle(cost(request)) if callable(cost) else cost
    try:
        result = await found.hit(name, units)
    except TROUBLE as error:
        return _problem(503, problem_body(unavailable(error)), {"Retry-After": RETRY_WHEN_UNAVAILABLE})
    if not result:
        return _problem(429, problem_body(refusal(result)), result.headers())
    request[_RESULT] = result
    try:
        response = await handler(request)
    except web.HTTPException as answer:
        _add_headers(answer, result)
        raise
    _add_headers(response, result)
    return response


def _add_headers(response: web.StreamResponse, result: RateLimitResult) -> None:
    if not response.prepared:
        response.headers.update(new_headers(result.headers(), list(response.headers)))


def _problem(status: int, body: bytes, headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, body=body, headers=headers, content_type=PROBLEM_JSON)


async def _settle(value: T | Awaitable[T]) -> T:
    found: Any = value
    return cast(T, await found if inspect.isawaitable(found) else found)
