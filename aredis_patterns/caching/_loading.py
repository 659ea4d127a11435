"""Running a loader: in its turn, within its time, and as bytes.

Everybody gets what was encoded and decoded, the first caller too: what a caller sees never depends on who loaded it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, NamedTuple

from aredis_patterns.caching._entry import Entry, entry_text
from aredis_patterns.caching._flight import Flight
from aredis_patterns.caching._keys import tag_names
from aredis_patterns.caching._policy import Times, ttl_ms
from aredis_patterns.caching._result import Answer, CacheStatus, Loaded
from aredis_patterns.caching._shared import Shared
from aredis_patterns.exceptions import LoadFailed, LoadTimeout

__all__ = ["Loading", "Ready"]


class Ready(NamedTuple):
    """What a loader has returned, ready to be stored."""

    times: Times
    flags: bytes
    payload: bytes
    tags: Sequence[str]
    store: bool
    ttl: int | None
    """What the caller or the loader chose, in ms."""

    def entry_text(self, token: str) -> bytes:
        """For the scripts."""
        return entry_text(self.times.px, self.times.stale, token, self.flags, self.tags, self.payload)

    def answer(self, status: CacheStatus) -> Answer:
        """For those who wait."""
        entry = Entry(0, self.times.px, self.times.stale, self.flags, b"", self.payload)
        return Answer(entry, self.times.px or -1, status)


class Loading:
    """The loaders of one cache in one event loop."""

    def __init__(self, shared: Shared) -> None:
        self._shared: Final = shared
        self._loop: Final = asyncio.get_running_loop()
        most = shared.policy.max_concurrent_loads
        self.gate: Final[AbstractAsyncContextManager[object]] = (
            nullcontext() if most is None else asyncio.Semaphore(most)
        )

    async def run(self, flight: Flight) -> Ready:
        """Load. Raises what the loader raises, LoadTimeout, or EncodeError when the value does not fit the codec."""
        counts = self._shared.counts
        async with self.gate if flight.gated else nullcontext():
            counts.loads += 1
            began = self._loop.time()
            try:
                value = await self._in_time(flight)
                ready = self._ready(flight, value)
            except Exception:
                counts.load_failures += 1
                raise
            counts.loaded(self._loop.time() - began)
        return ready

    async def _in_time(self, flight: Flight) -> Any:
        limit = self._shared.policy.load_timeout
        timer = asyncio.timeout(limit)
        try:
            async with timer:
                return await flight.loader()
        except TimeoutError:
            if limit is None or not timer.expired():
                raise
            raise LoadTimeout(flight.keys.name, limit) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Something inside the loader was cancelled, not this load: for its callers that is a failure like any other.
            raise LoadFailed(flight.keys.name, "CancelledError", "the loader was cancelled from within") from None

    def _ready(self, flight: Flight, value: Any) -> Ready:
        ttl, tags, store = flight.ttl, list(flight.tags), True
        if isinstance(value, Loaded):
            ttl = ttl if value.ttl is None else ttl_ms(value.ttl)
            tags = list(dict.fromkeys([*tags, *tag_names(value.tags)]))
            value, store = value.value, value.store
        flags, payload = self._shared.payloads.encode(value)
        times = self._shared.policy.times(ttl, nothing=value is None)
        return Ready(times, flags, payload, tags, store, ttl)
