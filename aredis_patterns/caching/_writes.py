"""Changing what is stored: values that the caller has, invalidations, and writes to the source.

All of it raises when Redis does not answer. A read may do without Redis; an invalidation that did not happen must not look
like one that did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from aredis_patterns.caching import _scripts
from aredis_patterns.caching._entry import entry_text
from aredis_patterns.caching._here import Here
from aredis_patterns.caching._keys import EntryKeys
from aredis_patterns.caching._scripts import Put
from aredis_patterns.caching._shared import Shared

__all__ = ["Writes", "all_of"]


class Writes:
    """The writing half of a cache."""

    def __init__(self, shared: Shared, here: Callable[[], Here]) -> None:
        self._shared: Final = shared
        self._here: Final = here

    def forget(self, keys: EntryKeys) -> None:
        """The value is about to change, or has changed, by a write from here."""
        self._here().forget([keys.value])

    def entry(self, value: Any, token: str, ttl: int | None, tags: Sequence[str]) -> tuple[bytes, int]:
        """What the scripts store, and its life. EncodeError before any I/O."""
        shared = self._shared
        flags, payload = shared.payloads.encode(value)
        times = shared.policy.times(ttl, nothing=value is None)
        return entry_text(times.px, times.stale, token, flags, tags, payload), times.px

    async def put(
        self, keys: EntryKeys, value: Any, *, ttl: int | None, only: str, keep_ttl: bool, tags: Sequence[str]
    ) -> bool:
        """Store; whether the condition held."""
        shared = self._shared
        token = shared.token()
        entry, px = self.entry(value, token, ttl, tags)
        horizon = shared.policy.horizon(ttl)
        self._here().forget([keys.value])
        while True:
            status = await shared.ask(
                _scripts.put(
                    shared.commands,
                    **keys.named,
                    token=token,
                    entry=entry,
                    px=px,
                    only=only,
                    keep_ttl=keep_ttl,
                    horizon=horizon,
                    deadline=shared.policy.deadline,
                )
            )
            if status is not Put.CARE:
                self._here().forget([keys.value])
                return status is Put.STORED
            await shared.ask(shared.tend(keys.shard, horizon))

    async def invalidate(self, many: Iterable[EntryKeys], hold: int) -> int:
        """Remove values and end their leases: one round trip. Returns how many there were."""
        shared, todo = self._shared, list(many)
        here = self._here()
        here.forget(keys.value for keys in todo)
        runs = [
            _scripts.invalidate(
                shared.commands,
                **keys.named,
                hold=hold,
                deadline=shared.policy.deadline,
            )
            for keys in todo
        ]
        try:
            return sum(await all_of(shared.ask(run) for run in runs))
        finally:
            here.forget(keys.value for keys in todo)

    async def bump(self, names: Sequence[str]) -> None:
        """Invalidate everything with one of these tags, or the whole cache: one command per shard."""
        shared = self._shared
        here = self._here()
        here.forget_all()
        horizon = shared.policy.horizon(None)
        runs = [
            _scripts.bump(
                shared.commands,
                epoch=shard.epoch,
                tags=shard.tags,
                names=" ".join(names),
                horizon=horizon,
                deadline=shared.policy.deadline,
            )
            for shard in shared.keys.shards
        ]
        try:
            await all_of(shared.ask(run) for run in runs)
        finally:
            here.forget_all()


async def all_of(runs: Iterable[Any]) -> list[Any]:
    """All results; the first error is raised when all have ended."""
    results = await asyncio.gather(*runs, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
