"""Whose bucket: keys from an ASGI connection. Public through `contrib.starlette` and `contrib.fastapi`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeVar, cast

from starlette.requests import HTTPConnection
from starlette.types import Scope

from aredis_patterns.contrib._http import client_address

__all__ = ["CostFunction", "Costs", "KeyFunction", "Keys", "by_header", "by_ip", "by_route", "by_user", "settle"]

Keys: TypeAlias = str | Mapping[str, str]
"""A key, or one for each limit of a `MultiLimiter`."""

Costs: TypeAlias = int | Mapping[str, int]
"""A number of units, or one for each limit of a `MultiLimiter`."""

KeyFunction: TypeAlias = Callable[[HTTPConnection], Keys | Awaitable[Keys]]
"""Whose bucket a request takes from. Never empty: an empty key is a ValueError, not "unlimited"."""

CostFunction: TypeAlias = Callable[[HTTPConnection], Costs | Awaitable[Costs]]
"""How many units a request costs."""

T = TypeVar("T")


def by_ip(*, trusted_proxies: int = 0) -> KeyFunction:
    """The client's address. X-Forwarded-For is believed only as far as `trusted_proxies` of your own have written it."""

    def key(connection: HTTPConnection) -> Keys:
        client = connection.scope.get("client")
        hops = connection.headers.getlist("x-forwarded-for") if trusted_proxies > 0 else ()
        return "ip:" + client_address(client[0] if client else None, hops, trusted_proxies)

    return key


def by_header(name: str, *, missing: KeyFunction | None = None) -> KeyFunction:
    """The value of a header, such as an API key that somebody else has checked. Without it: `missing`, or by_ip()."""
    otherwise = missing or by_ip()
    sought, begin = name.lower().encode("latin-1"), f"header:{name.lower()}:"

    def key(connection: HTTPConnection) -> Keys | Awaitable[Keys]:
        for field, value in connection.scope["headers"]:  # lower case, says ASGI; nothing else of them is needed
            if field == sought:
                return begin + value.decode("latin-1") if value else otherwise(connection)
        return otherwise(connection)

    return key


def by_user(
    user: Callable[[HTTPConnection], str | None] | None = None, *, anonymous: KeyFunction | None = None
) -> KeyFunction:
    """The user: what `user(connection)` says, or the identity that AuthenticationMiddleware found. Nobody: `anonymous`,
    or by_ip()."""
    identify = user or _authenticated_user
    otherwise = anonymous or by_ip()

    def key(connection: HTTPConnection) -> Keys | Awaitable[Keys]:
        name = identify(connection)
        return f"user:{name}" if name else otherwise(connection)

    return key


def by_route(then: KeyFunction | None = None) -> KeyFunction:
    """The route as it was declared ("GET /v1/items/{id}"), with its prefixes and mounts, and then another key: by_ip().

    For dependencies. A middleware runs before there is a route, and raw paths would be as many buckets as a client
    likes: there it raises LookupError.
    """
    otherwise = then or by_ip()

    async def key(connection: HTTPConnection) -> Keys:
        return with_route(connection, await settle(otherwise(connection)))

    return key


def with_route(connection: HTTPConnection, key: Keys) -> Keys:
    """The key, for this route alone."""
    scope = connection.scope
    route = f"{scope.get('method', 'WEBSOCKET')} {_template(scope)}"
    if isinstance(key, str):
        return f"{route} {key}"
    return {name: f"{route} {each}" for name, each in key.items()}


async def settle(value: T | Awaitable[T]) -> T:
    """The value of a function that may be plain or async."""
    found: Any = value
    return cast(T, await found if inspect.isawaitable(found) else found)


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
    return _mounted_at(scope, str(path)) + str(path)


def _mounted_at(scope: Scope, path: str) -> str:
    """Where the application is mounted: as it was declared, so that "/t/{tenant}" is one place and not thousands."""
    root = str(scope.get("root_path", ""))
    if not root:
        return ""
    values: Mapping[str, Any] = scope.get("path_params") or {}
    names = {str(value): name for name, value in values.items() if not re.search(rf"{{{name}[:}}]", path)}
    if not names:
        return root
    return "/".join(f"{{{names[part]}}}" if part in names else part for part in root.split("/"))
