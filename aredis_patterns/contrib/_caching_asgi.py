"""Cached values in Starlette and FastAPI: a dependency, and responses that are sent as they are stored."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from aredis_patterns.caching import Cache, CachedFunction
from aredis_patterns.caching._templates import Template
from aredis_patterns.contrib._http_caching import cache_headers, is_not_modified
from aredis_patterns.types import Key, Seconds

__all__ = ["Cached", "stored_response"]

T = TypeVar("T")

_REQUEST: Final = "aredis_patterns_request"


class Cached(Generic[T]):
    """A dependency: what `load` returns for the parameters of a request, from a cache.

        async def load_user(user_id: int) -> User: ...

        @app.get("/users/{user_id}")
        async def show(user: Annotated[User, Depends(Cached("users", load_user, key="user:{user_id}"))]) -> User: ...

    FastAPI fills the parameters of `load` as it would those of a route. One round trip when the value is there.

    Args:
        cache: a `Cache`, or the name of one in `app.state`, looked up at each request; so it may be made in the lifespan.
        load: an async function with annotated parameters.
        key, tags: templates of its parameters, checked here (ValueError). See `Cache.cached`.

    A cached function (`@cache.cached(...)`) is a dependency by itself: `Depends(get_user)`.
    """

    def __init__(
        self,
        cache: Cache[Any] | str,
        load: Callable[..., Awaitable[T]],
        *,
        key: str | None = None,
        tags: Iterable[str] = (),
        ttl: Seconds | None = None,
    ) -> None:
        signature = inspect.signature(load, eval_str=True)
        self._tags: Final = tuple(tags)
        for template in (*([] if key is None else [key]), *self._tags):
            Template(template, signature, f"Cached({load.__qualname__})")
        self._cache: Final = cache
        self._load: Final = load
        self._key: Final = key
        self._ttl: Final = ttl
        self._made: dict[int, tuple[Cache[Any], CachedFunction[..., T]]] = {}
        request = inspect.Parameter(_REQUEST, inspect.Parameter.KEYWORD_ONLY, annotation=Request)
        parameters = list(signature.parameters.values())
        # FastAPI reads this, and passes everything by name.
        self.__signature__ = signature.replace(parameters=[*parameters, request])

    async def __call__(self, **values: Any) -> T:
        request: Request = values.pop(_REQUEST)
        cache = self._cache if isinstance(self._cache, Cache) else getattr(request.app.state, self._cache)
        return await self._function(cache)(**values)

    def _function(self, cache: Cache[Any]) -> CachedFunction[..., T]:
        found = self._made.get(id(cache))
        if found is None:
            # Holds the cache, so its id is not used again.
            load: Any = self._load
            made: CachedFunction[..., T] = cache.cached(self._key, tags=self._tags, ttl=self._ttl)(load)
            found = self._made[id(cache)] = (cache, made)
        return found[1]


async def stored_response(
    request: Request,
    cache: Cache[T],
    key: Key,
    loader: Callable[[], Awaitable[T]],
    *,
    ttl: Seconds | None = None,
    tags: Iterable[str] = (),
    shared: bool = False,
    media_type: str = "application/json",
) -> Response:
    """A response with the stored bytes, neither decoded nor encoded: for caches whose codec writes what clients read.

    With an ETag of the content, the same in every process, and a max-age of the seconds that the value stays fresh in the
    cache; 304 without a body when the client has it. `shared=True` lets proxies keep it, too: only for what is the same
    for all users. One round trip when the value is there.

        @app.get("/users/{user_id}")
        async def show(request: Request, user_id: int) -> Response:
            return await stored_response(request, users, f"user:{user_id}", lambda: load_user(user_id))
    """
    stored = await cache.fetch_raw(key, loader, ttl=ttl, tags=tags)
    headers = cache_headers(stored, shared=shared)
    if request.method in ("GET", "HEAD") and is_not_modified(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(stored.data, headers=headers, media_type=media_type)
