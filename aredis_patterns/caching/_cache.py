"""`Cache`: the face of the family. What is true is decided in `_loads` and the scripts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar, cast, overload

from redis.exceptions import RedisError

from aredis_patterns._core.durations import to_milliseconds
from aredis_patterns.caching._base import CacheBase
from aredis_patterns.caching._decorator import CachedFunction
from aredis_patterns.caching._flight import moment
from aredis_patterns.caching._keys import tag_names
from aredis_patterns.caching._many import answer_many, one_of
from aredis_patterns.caching._policy import optional_ms, ttl_ms
from aredis_patterns.caching._result import (
    MISSING,
    CacheResult,
    LoadFunction,
    Missing,
    RawResult,
    found_or_miss,
    outcome_of,
    result_of,
)
from aredis_patterns.caching._write import WriteBracket
from aredis_patterns.caching._writes import all_of
from aredis_patterns.exceptions import DecodeError
from aredis_patterns.types import Key, Seconds

__all__ = ["Cache"]

T = TypeVar("T")
D = TypeVar("D")
K = TypeVar("K", bound=Key)
P = ParamSpec("P")
R = TypeVar("R")


class Cache(CacheBase[T]):
    """Values in front of a slow source, for any number of processes.

    Guarantees: one load per key at a time in the whole fleet. Nobody gets a value that was loaded before an invalidation
    which had finished when it asked (on one primary; what was not yet replicated is lost in a failover). Reads do without
    Redis when they must; invalidations raise when they did not happen. None is a value.

    A hit is one round trip, shared by all callers who ask before it is sent; a miss three (look, lease, fill) and the loader.
    Memory: about 150 bytes per entry besides its value.

        users = Cache(redis, "users", ttl=300, stale_ttl=60, model=User)
        user = await users.get_or_load("42", lambda: db.user(42))
    """

    async def get_or_load(
        self, key: Key, loader: LoadFunction[T], *, ttl: Seconds | None = None, tags: Iterable[str] = ()
    ) -> T:
        """The value of `key`. Where there is none, `loader()` is awaited, once in the whole fleet, and its value stored.

        A hit is one round trip. On a miss one process gets a lease and loads; all others, in this process and elsewhere,
        are handed its value when it is there. Cancelling a caller, the first one included, harms nobody else.

        Guarantee: never a value that was loaded before an invalidation that had finished before this call, while Redis
        answers; without it a load under way is shared, whenever it began. Loads are at most once per key and lease; a
        loader whose process dies is replaced within the length of a lease.

        Args:
            loader: takes nothing and returns the value, or a `Loaded` to choose ttl and tags itself. None is a value.
            ttl: instead of the ttl of the cache. tags: see `invalidate_tags`.

        Raises what the loader raises (in other processes LoadFailed), LoadTimeout, EncodeError. Redis out of reach: loads,
        unless on_error="raise".

            user = await cache.get_or_load("42", lambda: db.user(42))
        """
        keys = self._keys.of(key)
        here = self.here()
        if here.near is not None and (copy := self._from_near(here, keys)) is not None:
            return cast(T, copy[0])
        names, ms, shared = tag_names(tags) if tags else (), ttl_ms(ttl), self._shared
        if not names and shared.plain and self._hook.silent:
            # The short way of a hit: what follows does the same, with more to it.
            asked, offline, ahead = moment(), False, None
            try:
                sight = await here.looks.look(keys)
                if sight is not None:
                    if sight.left < 0:
                        value: T = sight.value(shared.payloads)
                        shared.counts.hits += 1
                        return value
                    ahead = here.ahead(ms)
                    if not here.is_due(keys, sight, ahead):
                        value = sight.value(shared.payloads)
                        shared.counts.count_sight(sight.left, sight.entry.stale)
                        return value
            except DecodeError:
                asked = moment()
            except (RedisError, OSError) as error:
                here.must_do_without(error)
                offline = True
            run = self._value(here, keys, loader, ms, names, looked=True, offline=offline, asked=asked, ahead=ahead)
        else:
            run = self._value(here, keys, loader, ms, names)
        return cast(T, (await self._hook.around("get_or_load", run, outcome_of))[0])

    async def fetch(
        self, key: Key, loader: LoadFunction[T], *, ttl: Seconds | None = None, tags: Iterable[str] = ()
    ) -> CacheResult[T]:
        """`get_or_load`, with where the value came from, its age and the time it has left."""
        keys = self._keys.of(key)
        here = self.here()
        if here.near is not None and (copy := self._from_near(here, keys)) is not None:
            return result_of(copy[0], copy[1].answer())
        run = self._value(here, keys, loader, ttl_ms(ttl), tag_names(tags), with_ttl=True)
        return result_of(*await self._hook.around("fetch", run, outcome_of))

    async def fetch_raw(
        self, key: Key, loader: LoadFunction[T], *, ttl: Seconds | None = None, tags: Iterable[str] = ()
    ) -> RawResult:
        """`fetch`, but the bytes of the codec instead of the value: for answers that are sent on as they are stored."""
        keys = self._keys.of(key)
        here = self.here()
        copy = here.copy_of(keys)
        if copy is not None:
            self._shared.counts.near_hits += 1
            answer = copy.answer()
        else:
            run = here.answer(keys, loader, ttl=ttl_ms(ttl), tags=tag_names(tags), with_ttl=True)
            answer = await self._hook.around("fetch", run, found_or_miss)
            self._shared.counts.count(answer.status)
        data = self._shared.payloads.plain(answer.entry.flags, answer.entry.payload)
        seen = result_of(data, answer)
        return RawResult(data, seen.status, seen.age, seen.ttl)

    async def get_or_load_many(
        self,
        keys: Iterable[K],
        batch_loader: Callable[[list[K]], Awaitable[Mapping[K, T]]],
        *,
        ttl: Seconds | None = None,
        tags: Iterable[str] = (),
    ) -> dict[K, T]:
        """The values of many keys. `batch_loader(missing)` is called once, with the keys that nobody else is loading.

        One round trip when all are there. Keys that the loader leaves out are stored as None, and come back as None. Two
        processes that ask for overlapping keys load each key once, in whatever order they name them.
        """
        many = {key: self._keys.of(key) for key in keys}
        run = answer_many(self._shared, self.here(), many, batch_loader, ttl=ttl_ms(ttl), tags=tag_names(tags))
        answers = await self._hook.around("get_or_load_many", run)
        values = {key: self._fresh_or(answer, MISSING, stale=True) for key, answer in answers.items()}
        for key in [key for key, value in values.items() if value is MISSING]:  # those that could not be read
            values[key] = await self.refresh(key, one_of(batch_loader, key), ttl=ttl, tags=tags)
        return values

    async def refresh(
        self, key: Key, loader: LoadFunction[T], *, ttl: Seconds | None = None, tags: Iterable[str] = ()
    ) -> T:
        """Load now and store, whatever is there; readers have the old value meanwhile. Two round trips.

        Whoever loads at the moment began earlier, so its value will not be kept.
        """
        keys = self._keys.of(key)
        run = self.here().refresh(keys, loader, ttl=ttl_ms(ttl), tags=tag_names(tags))
        answer = await self._hook.around("refresh", run, found_or_miss)
        self._shared.counts.count(answer.status)
        return cast(T, self._decode(answer))

    @overload
    async def get(self, key: Key) -> T | Missing: ...
    @overload
    async def get(self, key: Key, default: D) -> T | D: ...
    async def get(self, key: Key, default: Any = MISSING) -> Any:
        """The value of `key`, if there is one that has not expired, else `default`. One round trip; loads nothing.

        None is a value; without a default a miss is MISSING, which is false. Redis out of reach: a miss, unless
        on_error="raise".
        """
        keys = self._keys.of(key)
        here = self.here()
        if here.near is not None and (copy := self._from_near(here, keys)) is not None:
            return copy[0]
        answer = await self._hook.around("get", here.glance(keys), found_or_miss)
        return self._fresh_or(answer, default)

    async def get_many(self, keys: Iterable[K]) -> dict[K, T]:
        """The values of those keys that are there. One round trip; loads nothing."""
        many = {key: self._keys.of(key) for key in keys}
        answers = await self._hook.around("get_many", self.here().glance_many(list(many.values())))
        values = {key: self._fresh_or(answer, MISSING) for key, answer in zip(many, answers, strict=True)}
        return {key: value for key, value in values.items() if value is not MISSING}

    async def set(
        self,
        key: Key,
        value: T,
        *,
        ttl: Seconds | None = None,
        nx: bool = False,
        xx: bool = False,
        keep_ttl: bool = False,
        tags: Iterable[str] = (),
    ) -> bool:
        """Store a value; True unless `nx` (only where there is none) or `xx` (only where there is one) forbids it.

        One round trip, atomic. Loads under way are older than this value and will not be kept. `keep_ttl` leaves the
        remaining life of the old value as it is. To change the source and the cache together use `write`.

        Raises EncodeError before any I/O; redis errors always, whatever `on_error` says.
        """
        if nx + xx + (keep_ttl and ttl is not None) > 1:
            raise ValueError("nx and xx exclude each other, as do ttl and keep_ttl")
        only = "NX" if nx else "XX" if xx else ""
        run = self._writes.put(
            self._keys.of(key), value, ttl=ttl_ms(ttl), only=only, keep_ttl=keep_ttl, tags=tag_names(tags)
        )
        return await self._hook.around("set", run)

    async def set_many(self, values: Mapping[K, T], *, ttl: Seconds | None = None, tags: Iterable[str] = ()) -> None:
        """Store many values: one round trip. Each is atomic, all together are not."""
        names, ms = tag_names(tags), ttl_ms(ttl)
        for value in values.values():
            self._shared.payloads.encode(value)  # what cannot be written leaves nothing half-done
        puts = (
            self._writes.put(self._keys.of(key), value, ttl=ms, only="", keep_ttl=False, tags=names)
            for key, value in values.items()
        )
        await self._hook.around("set_many", all_of(puts))

    async def delete(self, *keys: Key) -> int:
        """Remove values and end their loads; how many there were. The same as `invalidate`, counted."""
        return await self._hook.around("delete", self._writes.invalidate(map(self._keys.of, keys), 0))

    async def invalidate(self, *keys: Key, hold: Seconds = 0) -> None:
        """The source has changed: remove these values, and keep nothing that was loaded before. One round trip.

        `hold`: for so long, load without storing; for sources that read from a replica which lags behind.

        Fails closed: raises when Redis does not answer, because a stale value may still be there.
        """
        await self._hook.around(
            "invalidate", self._writes.invalidate(map(self._keys.of, keys), optional_ms(hold, "hold"))
        )

    async def invalidate_tags(self, *tags: str) -> None:
        """Remove all values that bear one of these tags: one command, however many there are. Raises like `invalidate`."""
        if tags:
            await self._hook.around("invalidate_tags", self._writes.bump(tag_names(tags)))

    async def clear(self) -> None:
        """Remove all values of this cache: one command. Their memory is given back as their TTLs end.

        Values that something else wrote under our keys do not bear a version, and stay until they expire.
        """
        await self._hook.around("clear", self._writes.bump(()))

    def write(self, key: Key, *, timeout: Seconds = 30.0) -> WriteBracket[T]:
        """A write to the source and the cache, safe against readers and other writers. Two round trips.

            async with cache.write("42") as w:
                user = await db.update_user(42, name="Ada")
                w.set(user)

        `timeout`: how long the block may take before the bracket ends by itself. See `WriteBracket`.
        """
        return WriteBracket(self._shared, self._writes, self._keys.of(key), to_milliseconds(timeout, "timeout"))

    def cached(
        self,
        template: str | None = None,
        *,
        tags: Iterable[str] = (),
        ttl: Seconds | None = None,
        condition: Callable[[Any], bool] | None = None,
    ) -> Callable[[Callable[P, Awaitable[R]]], CachedFunction[P, R]]:
        """Cache an async function: `@users.cached("user:{user_id}", tags=["org:{org_id}"])`.

        Templates name parameters, or attributes of one ("{user.id}"), and are checked here: ValueError for anything else.
        Different values give different keys, also 1 and "1". Without a template the key is the function's full name and
        all its arguments; of a method `self` is one, so its class needs a stable text (a dataclass, or a method
        `__cache_key__`), or a template that says what matters. `condition(value)` false: return it, but do not store it.

        The result has `.key(...)`, `.fetch(...)`, `.refresh(...)` and `.invalidate(...)`, called with the function's own
        arguments.
        """

        if isinstance(tags, str):
            raise TypeError(f"tags is a list of templates, got {tags!r}")
        templates = tuple(tags)

        def decorate(function: Callable[P, Awaitable[R]]) -> CachedFunction[P, R]:
            return CachedFunction(self, function, template, tags=templates, ttl=ttl, condition=condition)

        return decorate
