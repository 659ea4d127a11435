"""`@cache.cached("user:{user_id}")`: the cached form of an async function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, cast

from aredis_patterns.caching._result import CacheResult, Loaded
from aredis_patterns.caching._templates import Template, whole_call
from aredis_patterns.types import Seconds

if TYPE_CHECKING:
    from aredis_patterns.caching._cache import Cache

__all__ = ["CachedFunction"]

P = ParamSpec("P")
R = TypeVar("R")


class CachedFunction(Generic[P, R]):
    """What `Cache.cached` makes of a function: called like it, and a little more.

    user = await get_user(42)
    get_user.key(42)                    # "user:42"
    await get_user.invalidate(42)
    user = await get_user.refresh(42)   # load now, store, return
    result = await get_user.fetch(42)   # with status and age
    """

    def __init__(
        self,
        cache: Cache[Any],
        function: Callable[P, Awaitable[R]],
        template: str | None,
        *,
        tags: Iterable[str],
        ttl: Seconds | None,
        condition: Callable[[R], bool] | None,
    ) -> None:
        where = f"@cached on {function.__qualname__}"
        if not inspect.iscoroutinefunction(inspect.unwrap(function)):
            raise TypeError(f"{where}: an async function is needed")
        signature = inspect.signature(function)
        self._cache: Final = cache
        self._function: Final = function
        self._signature: Final = signature
        self._key: Final[Callable[[Mapping[str, Any]], str]] = (
            whole_call(function) if template is None else Template(template, signature, where)
        )
        self._tags: Final = [Template(tag, signature, where) for tag in tags]
        self._ttl: Final = ttl
        self._condition: Final = condition
        self._bound: Final[tuple[Any, ...]] = ()
        functools.update_wrapper(cast(Any, self), function)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The value for these arguments, loaded by the function where there is none."""
        key, tags, load = self._prepare(args, kwargs)
        return cast(R, await self._cache.get_or_load(key, load, ttl=self._ttl, tags=tags))

    async def fetch(self, *args: P.args, **kwargs: P.kwargs) -> CacheResult[R]:
        """The same with status and age."""
        key, tags, load = self._prepare(args, kwargs)
        return await self._cache.fetch(key, load, ttl=self._ttl, tags=tags)

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function now, store what it returns, and return it."""
        key, tags, load = self._prepare(args, kwargs)
        return cast(R, await self._cache.refresh(key, load, ttl=self._ttl, tags=tags))

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Remove the value for these arguments. Raises when Redis does not answer."""
        await self._cache.invalidate(self.key(*args, **kwargs))

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key for these arguments, as the cache knows it. No I/O."""
        return self._key(self._arguments(args, kwargs))

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """As a method: bound to its object."""
        if instance is None:
            return self
        # Made at each call of a method, so nothing is checked or parsed again.
        method: CachedFunction[..., R] = object.__new__(type(self))
        method.__dict__.update(self.__dict__, _bound=(instance,))
        return method

    def __repr__(self) -> str:
        return f"<cached {self._function.__qualname__} in {self._cache.name!r}>"

    def _arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        bound = self._signature.bind(*self._bound, *args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def _prepare(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[str, list[str], Callable[[], Awaitable[Any]]]:
        arguments = self._arguments(args, kwargs)
        call: Callable[..., Awaitable[R]] = self._function

        async def load() -> Any:
            value = await call(*self._bound, *args, **kwargs)
            if self._condition is not None and not self._condition(value):
                return Loaded(value, store=False)
            return value

        return self._key(arguments), [tag(arguments) for tag in self._tags], load
