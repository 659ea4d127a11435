"""Limits of ASGI applications: which limiter, one charge, the answer to a refusal, and a middleware.

Public through `contrib.starlette` and `contrib.fastapi`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, Unpack

from redis.asyncio import Redis, RedisCluster
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aredis_patterns.contrib._http import (
    PROBLEM_JSON,
    RETRY_WHEN_UNAVAILABLE,
    TROUBLE,
    HeaderChoice,
    problem_body,
    refusal,
    result_headers,
    unavailable,
)
from aredis_patterns.contrib._limit_keys import CostFunction, Costs, KeyFunction, Keys, by_ip, settle, with_route
from aredis_patterns.ratelimit import (
    Limit,
    Limiter,
    LimiterOptions,
    MultiLimiter,
    RateLimitResult,
    TokenBucketLimiter,
)
from aredis_patterns.types import RedisClient

__all__ = [
    "LimitSource",
    "RateLimitMiddleware",
    "Undecided",
    "add_headers",
    "can_answer",
    "find_limiter",
    "refusal_response",
]

AnyLimiter: TypeAlias = Limiter | MultiLimiter

_TRY_AGAIN_LATER: Final = 1013


class LimitSource:
    """What an application says about a limit, and the limiter that comes of it.

    A limiter is taken as it is; a name is looked up in the state of the application at each request; a `Limit`, or text
    such as "100/minute burst 20", becomes a token bucket on the client of the application. Such text is parsed here, so
    nonsense is refused when the application is defined.
    """

    def __init__(
        self, limit: AnyLimiter | Limit | str, redis: RedisClient | str, options: LimiterOptions, *, per_route: bool
    ) -> None:
        self._redis: Final = redis
        self._options: Final = options
        self._limit: Final = _parsed(limit)
        self._made: tuple[RedisClient, Limiter] | None = None
        self.per_route: Final = per_route and isinstance(self._limit, Limit) and "name" not in options
        """Each route counts by itself: the limit has no name by which routes could share it."""
        if options and not isinstance(self._limit, Limit):
            raise ValueError(f"options belong to the limiter that is given, got {', '.join(options)}")

    def find(self, connection: HTTPConnection) -> AnyLimiter:
        """The limiter for this connection."""
        if isinstance(self._limit, str):
            return find_limiter(connection, self._limit)
        if not isinstance(self._limit, Limit):
            return self._limit
        client = self._redis if not isinstance(self._redis, str) else _in_state(connection, self._redis)
        if self._made is not None and self._made[0] is client:
            return self._made[1]
        if not isinstance(client, (Redis, RedisCluster)):
            raise LookupError(f"app.state.{self._redis} should be a redis.asyncio client, but is {client!r}")
        options: LimiterOptions = {"name": str(self._limit), **self._options}
        self._made = client, TokenBucketLimiter(client, self._limit, **options)
        return self._made[1]


def _parsed(limit: AnyLimiter | Limit | str) -> AnyLimiter | Limit | str:
    if isinstance(limit, str) and not limit.isidentifier():
        return Limit.parse(limit)
    return limit


def find_limiter(connection: HTTPConnection, name: str) -> AnyLimiter:
    """The limiter of that name in the state of the application."""
    found = _in_state(connection, name)
    if not isinstance(found, (Limiter, MultiLimiter)):
        raise LookupError(f"app.state.{name} should be a limiter when a request comes, but is {found!r}")
    return found


def _in_state(connection: HTTPConnection, name: str) -> object:
    """From `app.state`, or from the state of the lifespan, which mounted applications see, too."""
    found = getattr(connection.scope["app"].state, name, None) if "app" in connection.scope else None
    if found is not None:
        return found
    lifespan: Any = connection.scope.get("state") or {}
    return lifespan.get(name)


class RateLimitMiddleware:
    """Charges every HTTP request and WebSocket to a limiter: one round trip each.

    Allowed responses get the limit's headers, once, when they start; bodies stream through untouched. A refused request
    is answered 429 with problem+json and Retry-After, a refused WebSocket the same before it is accepted (or closed with
    1013). When nobody can decide (`on_error="raise"`), the answer is 503.

    Args:
        limiter: a `Limiter` or `MultiLimiter`; the name of one in `app.state`, looked up at each request; or a `Limit` or
            its text, for a token bucket on `redis`.
        key, cost: what they are for a connection; plain or async functions, `cost` also a number.
        redis: a client, or the name of one in `app.state`. headers: "draft", "legacy", "both" or "none".
        options: those of `Limiter`, for a limit given as such or as text.
    """

    def __init__(
        self,
        app: ASGIApp,
        limiter: AnyLimiter | Limit | str,
        *,
        key: KeyFunction | None = None,
        cost: Costs | CostFunction = 1,
        redis: RedisClient | str = "redis",
        headers: HeaderChoice = "draft",
        **options: Unpack[LimiterOptions],
    ) -> None:
        self.app: Final = app
        self.key: Final = key or by_ip()
        self.cost: Final = cost
        self.headers: Final[HeaderChoice] = headers
        self._source: Final = LimitSource(limiter, redis, options, per_route=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        try:
            result = await charge(HTTPConnection(scope), self._source, self.key, self.cost)
        except Undecided as undecided:
            await _refuse(scope, receive, send, undecided.response)
            return
        if not result:
            await _refuse(scope, receive, send, refusal_response(result, self.headers))
        elif scope["type"] == "websocket":
            await self.app(scope, receive, send)
        else:
            await self.app(scope, receive, _with_headers(send, result_headers(result, self.headers)))


class Undecided(Exception):
    """The limiter could not decide; `response` is the 503 to answer with."""

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__("the rate limiter could not decide")


async def charge(
    connection: HTTPConnection, source: LimitSource, key: KeyFunction, cost: Costs | CostFunction
) -> RateLimitResult:
    """Charge one connection. Raises Undecided when nobody can decide; errors of `key` and `cost` are the caller's own."""
    limiter = source.find(connection)
    found = key(connection)
    name: Keys = found if isinstance(found, str) else await settle(found)
    if source.per_route:
        name = with_route(connection, name)
    units: Costs = cost if isinstance(cost, int) or not callable(cost) else await settle(cost(connection))
    try:
        if isinstance(limiter, MultiLimiter):
            return await limiter.hit(name, units)
        return await limiter.hit(_one(name, "key"), _one(units, "cost"))
    except TROUBLE as error:
        raise Undecided(unavailable_response(error)) from error


def _one(value: Any, what: Literal["key", "cost"]) -> Any:
    if not isinstance(value, (str, int)):
        raise ValueError(f"a {what} for each limit needs a MultiLimiter, got {value!r}")
    return value


def refusal_response(result: RateLimitResult, headers: HeaderChoice = "draft") -> Response:
    """429 with problem+json."""
    fields = result_headers(result, headers)
    return Response(problem_body(refusal(result)), 429, headers=fields, media_type=PROBLEM_JSON)


def unavailable_response(error: Exception) -> Response:
    """503 with problem+json."""
    headers = {"Retry-After": RETRY_WHEN_UNAVAILABLE}
    return Response(problem_body(unavailable(error)), 503, headers=headers, media_type=PROBLEM_JSON)


def can_answer(scope: Scope) -> bool:
    """Whether a refusal can be an HTTP response here. For a WebSocket that takes an extension of the server."""
    return scope["type"] == "http" or "websocket.http.response" in (scope.get("extensions") or {})


async def _refuse(scope: Scope, receive: Receive, send: Send, response: Response) -> None:
    if can_answer(scope):
        await response(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": "rate limit"})


def add_headers(present: list[tuple[bytes, bytes]], fields: Mapping[str, str]) -> None:
    """Add to raw headers the fields whose names are not there yet: a header never appears twice."""
    taken = {name.lower() for name, _ in present} if present else ()
    for name, value in fields.items():
        raw = name.lower().encode("latin-1")
        if raw not in taken:
            present.append((raw, value.encode("latin-1")))


def _with_headers(send: Send, fields: dict[str, str]) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message["headers"] = list(message.get("headers", ()))
            add_headers(headers, fields)
        await send(message)

    return sender
