"""`CacheBase`: how a cache is made, found in each event loop, counted and closed. Its verbs are in `_cache`."""

from __future__ import annotations

import asyncio
import hashlib
import weakref
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from redis.asyncio import RedisCluster

from aredis_patterns._core.codecs import Codec, JSONCodec
from aredis_patterns._core.instrumentation import hook_of
from aredis_patterns.caching._entry import Payloads
from aredis_patterns.caching._flight import Loader
from aredis_patterns.caching._here import Here
from aredis_patterns.caching._keys import CacheKeys, EntryKeys
from aredis_patterns.caching._near import NearCache, NearEntry
from aredis_patterns.caching._policy import OnAbandon, OnError, policy_of
from aredis_patterns.caching._result import Answer, CacheStatistics
from aredis_patterns.caching._shared import Shared
from aredis_patterns.caching._writes import Writes
from aredis_patterns.exceptions import DecodeError
from aredis_patterns.pipelining import lane_of
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["CacheBase"]

T = TypeVar("T")


class CacheBase(Generic[T]):
    """What every verb of a cache needs."""

    def __init__(
        self,
        client: RedisClient,
        name: str,
        *,
        ttl: Seconds | None,
        model: type[T] | None = None,
        codec: Codec[T] | None = None,
        stale_ttl: Seconds = 0,
        refresh_at: float | None = None,
        early_refresh: float | None = None,
        negative_ttl: Seconds | None = None,
        jitter: float = 0.05,
        load_timeout: Seconds | None = 30.0,
        soft_timeout: Seconds = 0,
        throttle: Seconds = 10.0,
        error_ttl: Seconds = 0,
        lease: Seconds = 5.0,
        deadline: Seconds = 0.25,
        on_error: OnError = "load",
        on_abandon: OnAbandon = "finish",
        max_concurrent_loads: int | None = None,
        near: NearCache | None = None,
        compress_above: int | None = None,
        replay_invalidations: int = 0,
        shards: int = 1,
        namespace: str = "ap",
    ) -> None:
        """Nothing is sent here; ValueError for options that make no sense.

        Args:
            client: any `redis.asyncio` client, pipelined or stock. It is never closed here.
            name: the cache's name in keys; caches of one name and namespace share their values, in all processes.
            ttl: seconds for which a value is fresh, 1 ms to ten years; None: it does not expire.
            model: a dataclass, Struct, pydantic model or other type that JSON is checked against. codec: instead of JSON.
            stale_ttl: seconds after `ttl` in which a value is still handed out while one process loads the next.
            refresh_at: a part of the TTL (0.8) from which on the next read makes one process load ahead.
            early_refresh: XFetch's beta (1 is usual): load ahead by chance, the likelier the nearer the end and the slower the
                loads, which are measured.
            negative_ttl: seconds for None. jitter: TTLs are shortened by up to this part, so that they do not end together.
            load_timeout: seconds after which a loader is cancelled (LoadTimeout). soft_timeout: seconds to wait for a new value
                where an expired one is at hand; 0 hands that out at once.
            throttle: seconds without another attempt after a load has failed while an expired value is usable.
            error_ttl: seconds for which a failure is remembered where there is no value.
            lease: seconds after which a loader whose process died is replaced; prolonged while it lives.
            deadline: seconds that one operation may wait for Redis in all. on_error: "load" without Redis then, or "raise".
            on_abandon: when all callers of a load were cancelled, "finish" it or "cancel" it.
            max_concurrent_loads: loaders at once in this process and event loop.
            near: a `NearCache`. compress_above: bytes from which payloads are deflated.
            replay_invalidations: how many invalidations may be queued while Redis is away, instead of raising.
            shards: slots of a Cluster over which the cache is spread. `clear` and `invalidate_tags` cost one command each.
        """
        policy = policy_of(
            ttl=ttl,
            stale_ttl=stale_ttl,
            negative_ttl=negative_ttl,
            refresh_at=refresh_at,
            early_refresh=early_refresh,
            jitter=jitter,
            lease=lease,
            load_timeout=load_timeout,
            soft_timeout=soft_timeout,
            throttle=throttle,
            error_ttl=error_ttl,
            deadline=deadline,
            on_error=on_error,
            on_abandon=on_abandon,
            max_concurrent_loads=max_concurrent_loads,
        )
        if codec is not None and model is not None:
            raise ValueError("give a model or a codec: a codec knows its model")
        if near is not None and isinstance(client, RedisCluster):
            raise ValueError("a near cache needs one server to track: leave near out for a Cluster client")
        chosen: Codec[Any] = codec if codec is not None else JSONCodec(model)
        self.name: Final = name
        self._near: Final = near
        self._shared: Final = Shared(
            client=client,
            commands=lane_of(client),
            namespace=namespace,
            keys=CacheKeys(namespace, name, shards),
            policy=policy,
            payloads=Payloads(chosen, compress_above),
            replay=replay_invalidations,
        )
        self._keys: Final = self._shared.keys
        self._hook: Final = hook_of(client, "caching")
        self._writes: Final = Writes(self._shared, self.here)
        self._here: Here | None = None
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Here] = weakref.WeakKeyDictionary()

    async def __aenter__(self) -> Self:
        await self.here().open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the loads that run in this loop, give their leases back, and forget local copies. The client lives on.

        Whoever still waits gets WireClosed. Safe to call twice; using the cache again opens it anew.
        """
        await self._writes.close()
        here = self._by_loop.pop(asyncio.get_running_loop(), None)
        self._here = None
        if here is not None:
            await here.close()

    def statistics(self) -> CacheStatistics:
        """A snapshot of what this object has done in this process."""
        return self._shared.counts.snapshot()

    def __repr__(self) -> str:
        now = self.statistics()
        loading = self._here.loads.loading if self._here is not None else 0
        return (
            f"<{type(self).__name__} {self.name!r}: {now.hits + now.near_hits + now.stale} hits, "
            f"{now.loads} loads, {loading} loading, Redis {'not asked' if self._shared.breaker.open else 'in use'}>"
        )

    def here(self) -> Here:
        """This cache in the running loop."""
        here = self._here
        loop = asyncio.get_running_loop()
        if here is None or here.loop is not loop:
            here = self._by_loop.get(loop)
            if here is None:
                # Each refers to its loop, so the entry of a closed loop does not go by itself.
                for old in [each for each in self._by_loop if each.is_closed()]:
                    del self._by_loop[old]
                here = self._by_loop[loop] = Here(self._shared, self._near)
            self._here = here
        return here

    async def _value(
        self,
        here: Here,
        keys: EntryKeys,
        loader: Loader,
        ttl: int | None,
        tags: tuple[str, ...],
        *,
        with_ttl: bool = False,
        looked: bool = False,
        offline: bool = False,
        asked: int | None = None,
        ahead: int | None = None,
    ) -> tuple[Any, Answer]:
        """The decoded value and its story. What cannot be read is loaded anew, once."""
        unreadable = ""
        while True:
            answer = await here.answer(
                keys,
                loader,
                ttl=ttl,
                tags=tags,
                unreadable=unreadable,
                with_ttl=with_ttl,
                looked=looked,
                offline=offline,
                asked=asked,
                ahead=ahead,
            )
            try:
                value = self._decode(answer)
            except DecodeError:
                if unreadable or answer.stored is None:
                    raise
                self._shared.counts.unreadable += 1
                unreadable = hashlib.sha1(answer.stored, usedforsecurity=False).hexdigest()
                continue
            self._shared.counts.count(answer.status)
            return value, answer

    def _decode(self, answer: Answer) -> Any:
        return self._shared.payloads.decode(answer.entry.flags, answer.entry.payload)

    def _fresh_or(self, answer: Answer | None, default: Any, *, stale: bool = False) -> Any:
        counts = self._shared.counts
        if answer is None or (answer.status == "stale" and not stale):
            counts.misses += 1
            return default
        try:
            value = self._decode(answer)
        except DecodeError:
            counts.unreadable += 1
            return default
        counts.count(answer.status)
        return value

    def _from_near(self, here: Here, keys: EntryKeys) -> tuple[Any, NearEntry] | None:
        """The local copy, if there is one that may be used."""
        copy = here.copy_of(keys)
        if copy is None:
            return None
        if not copy.shared:
            try:
                value = self._shared.payloads.decode(copy.entry.flags, copy.entry.payload)
            except DecodeError:
                here.forget([keys.value])
                return None
            copy.remember(value)
        else:
            value = copy.value
        self._shared.counts.near_hits += 1
        self._hook.event("read", "near")
        return value, copy
