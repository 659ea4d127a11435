"""Rate limits, sessions and locks for aiohttp's server: middleware, decorators for single handlers, and keys from a request.

    app = web.Application(middlewares=[rate_limit_middleware(limiter, key=by_ip())])
    setup_sessions(app, sessions)

Only translates: request to key, result to headers. What is allowed is decided by the limiter.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias, TypeVar, cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from aredis_patterns.contrib._cookies import SessionCookie
from aredis_patterns.contrib._http import (
    PROBLEM_JSON,
    RETRY_WHEN_UNAVAILABLE,
    TROUBLE,
    HeaderChoice,
    client_address,
    new_headers,
    problem_body,
    refusal,
    result_headers,
    unavailable,
)
from aredis_patterns.contrib._locks_aiohttp import locked
from aredis_patterns.contrib._monitoring_aiohttp import health_handler, metrics_handler
from aredis_patterns.contrib._push_aiohttp import event_stream, last_event_id, pump_websocket
from aredis_patterns.contrib._sessions import RequestSession
from aredis_patterns.contrib._sessions_aiohttp import (
    SessionSource,
    csrf_protected,
    current_session,
    session_middleware,
    setup_sessions,
)
from aredis_patterns.ratelimit import Limiter, MultiLimiter, RateLimitResult

__all__ = [
    "CostFunction",
    "Costs",
    "HeaderChoice",
    "KeyFunction",
    "Keys",
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
    "event_stream",
    "health_handler",
    "last_event_id",
    "locked",
    "metrics_handler",
    "pump_websocket",
    "rate_limit_middleware",
    "rate_limited",
    "session_middleware",
    "setup_sessions",
]

Keys: TypeAlias = str | Mapping[str, str]
"""A key, or one for each limit of a `MultiLimiter`."""

Costs: TypeAlias = int | Mapping[str, int]
"""A number of units, or one for each limit of a `MultiLimiter`."""

KeyFunction: TypeAlias = Callable[[web.Request], Keys | Awaitable[Keys]]
"""Whose bucket a request takes from. Never empty: an empty key is a ValueError, not "unlimited"."""

CostFunction: TypeAlias = Callable[[web.Request], Costs | Awaitable[Costs]]
"""How many units a request costs."""

LimiterSource: TypeAlias = Limiter | MultiLimiter | web.AppKey[Limiter] | web.AppKey[MultiLimiter]
"""A limiter, or the key of one in the application, looked up at each request."""

T = TypeVar("T")

# aiohttp 3.14 warns of keys that are text; before, there was nothing else.
_HEADERS: Final[Any] = (
    web.RequestKey("aredis_patterns.headers", dict[str, str])
    if hasattr(web, "RequestKey")
    else "aredis_patterns.ratelimit.headers"
)


def by_ip(*, trusted_proxies: int = 0) -> KeyFunction:
    """The client's address. X-Forwarded-For is believed only as far as `trusted_proxies` of your own have written it."""

    def key(request: web.Request) -> Keys:
        return "ip:" + client_address(request.remote, request.headers.getall("X-Forwarded-For", []), trusted_proxies)

    return key


def by_header(name: str, *, missing: KeyFunction | None = None) -> KeyFunction:
    """The value of a header, such as an API key that somebody else has checked. Without it: `missing`, or by_ip()."""
    otherwise = missing or by_ip()

    async def key(request: web.Request) -> Keys:
        value = request.headers.get(name)
        return f"header:{name.lower()}:{value}" if value else await _settle(otherwise(request))

    return key


def by_user(user: Callable[[web.Request], str | None], *, anonymous: KeyFunction | None = None) -> KeyFunction:
    """What `user(request)` says; when that is nobody, `anonymous`, or by_ip()."""
    otherwise = anonymous or by_ip()

    async def key(request: web.Request) -> Keys:
        name = user(request)
        return f"user:{name}" if name else await _settle(otherwise(request))

    return key


def by_route(then: KeyFunction | None = None) -> KeyFunction:
    """The route as it was declared ("GET /v1/items/{id}"), and then another key: by_ip(). Paths without a route share
    one bucket."""
    otherwise = then or by_ip()

    async def key(request: web.Request) -> Keys:
        resource = request.match_info.route.resource
        template = resource.canonical if resource is not None else "(none)"
        found: Keys = await _settle(otherwise(request))
        if isinstance(found, str):
            return f"{request.method} {template} {found}"
        return {name: f"{request.method} {template} {each}" for name, each in found.items()}

    return key


def rate_limit_middleware(
    limiter: LimiterSource,
    *,
    key: KeyFunction | None = None,
    cost: Costs | CostFunction = 1,
    headers: HeaderChoice = "draft",
) -> Middleware:
    """A middleware that charges every request: one round trip.

    The limit's headers are on the response, also when it is refused: 429 with problem+json and Retry-After. When nobody
    can decide (`on_error="raise"`), the answer is 503. Streams and WebSockets have sent their headers when a middleware
    sees them; for those add `app.on_response_prepare.append(add_rate_limit_headers)`. `headers`: "draft", "legacy"
    (X-RateLimit-*), "both" or "none".
    """
    key_of = key or by_ip()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await _limited(request, handler, limiter, key_of, cost, headers)

    return middleware


def rate_limited(
    limiter: LimiterSource,
    *,
    key: KeyFunction | None = None,
    cost: Costs | CostFunction = 1,
    headers: HeaderChoice = "draft",
) -> Callable[[Handler], Handler]:
    """The same for one handler: `@rate_limited(limiter, key=by_user(...), cost=5)` above `async def handler(request)`."""
    key_of = key or by_ip()

    def decorate(handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def limited(request: web.Request) -> web.StreamResponse:
            return await _limited(request, handler, limiter, key_of, cost, headers)

        return limited

    return decorate


async def add_rate_limit_headers(request: web.Request, response: web.StreamResponse) -> None:
    """For `app.on_response_prepare`: the headers of the last limit that allowed this request."""
    fields: dict[str, str] = request.get(_HEADERS, {})
    response.headers.update(new_headers(fields, list(response.headers)))


async def _limited(
    request: web.Request,
    handler: Handler,
    source: LimiterSource,
    key: KeyFunction,
    cost: Costs | CostFunction,
    headers: HeaderChoice,
) -> web.StreamResponse:
    limiter: Any = source if isinstance(source, (Limiter, MultiLimiter)) else request.config_dict[source]
    name = await _settle(key(request))
    units = await _settle(cost(request)) if callable(cost) else cost
    try:
        result: RateLimitResult = await limiter.hit(name, units)
    except TROUBLE as error:
        return _problem(503, problem_body(unavailable(error)), {"Retry-After": RETRY_WHEN_UNAVAILABLE})
    fields = result_headers(result, headers)
    if not result:
        return _problem(429, problem_body(refusal(result)), fields)
    request[_HEADERS] = fields
    try:
        response = await handler(request)
    except web.HTTPException as answer:
        _add_headers(answer, fields)
        raise
    _add_headers(response, fields)
    return response


def _add_headers(response: web.StreamResponse, fields: dict[str, str]) -> None:
    if not response.prepared:
        response.headers.update(new_headers(fields, list(response.headers)))


def _problem(status: int, body: bytes, headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, body=body, headers=headers, content_type=PROBLEM_JSON)


async def _settle(value: T | Awaitable[T]) -> T:
    found: Any = value
    return cast(T, await found if inspect.isawaitable(found) else found)
