"""Changing what is stored: values that the caller has, invalidations, and writes to the source.

All of it raises when Redis does not answer. A read may do without Redis; an invalidation that did not happen must not look
like one that did.
"""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, TypeVar, cast

from redis.exceptions import RedisError

from aredis_patterns.caching import _scripts
from aredis_patterns.caching._breaker import is_outage
from aredis_patterns.caching._entry import entry_text
from aredis_patterns.caching._here import Here
from aredis_patterns.caching._keys import EntryKeys, ShardKeys
from aredis_patterns.caching._owed import Replay
from aredis_patterns.caching._scripts import Put
from aredis_patterns.caching._shared import Shared

__all__ = ["Writes", "all_of"]

R = TypeVar("R")

BATCH: Final = 256
"""Scripts sent at a time. Each has the deadline of a single call, so thousands at once would wait for each other."""


class Writes:
    """The writing half of a cache."""

    def __init__(self, shared: Shared, here: Callable[[], Here]) -> None:
        self._shared: Final = shared
        self._here: Final = here
        self._replays: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Replay] = weakref.WeakKeyDictionary()

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
        """Remove values and end their leases. Returns how many there were."""
        todo, here = list(many), self._here()
        here.forget(keys.value for keys in todo)
        try:
            return await self._invalidate(todo, hold)
        except (RedisError, OSError) as error:
            if not self._may_owe(error):
                raise
            self._shared.owed.add_keys(todo)
            self._replay_soon()
            return 0
        finally:
            here.forget(keys.value for keys in todo)

    async def bump(self, names: Sequence[str]) -> None:
        """Invalidate everything with one of these tags, or the whole cache: one command per shard."""
        here = self._here()
        here.forget_all()
        try:
            await self._bump(names)
        except (RedisError, OSError) as error:
            if not self._may_owe(error):
                raise
            self._shared.owed.add_tags(names)
            self._replay_soon()
        finally:
            here.forget_all()

    def owe(self, keys: EntryKeys, error: BaseException) -> bool:
        """A write to the source could not tell Redis. True when that will be made good later."""
        if not self._may_owe(error):
            return False
        self._shared.owed.add_keys([keys])
        self._replay_soon()
        return True

    async def close(self) -> None:
        """Replay what is owed, if that can be done now."""
        replay = self._replays.pop(asyncio.get_running_loop(), None)
        if replay is not None:
            await replay.close()

    async def _invalidate(self, many: list[EntryKeys], hold: int = 0) -> int:
        shared = self._shared

        async def one(keys: EntryKeys) -> bool:
            deadline = shared.policy.deadline
            return await shared.ask(_scripts.invalidate(shared.commands, **keys.named, hold=hold, deadline=deadline))

        return sum(await all_of(one(keys) for keys in many))

    async def _bump(self, names: Sequence[str]) -> None:
        shared = self._shared
        horizon, text = shared.policy.horizon(None), " ".join(names)

        async def one(shard: ShardKeys) -> None:
            await shared.ask(
                _scripts.bump(
                    shared.commands,
                    epoch=shard.epoch,
                    tags=shard.tags,
                    names=text,
                    horizon=horizon,
                    deadline=shared.policy.deadline,
                )
            )

        await all_of(one(shard) for shard in shared.keys.shards)

    def _may_owe(self, error: BaseException) -> bool:
        return self._shared.owed.most > 0 and is_outage(error)

    def _replay_soon(self) -> None:
        loop = asyncio.get_running_loop()
        replay = self._replays.get(loop)
        if replay is None:
            replay = self._replays[loop] = Replay(self._shared.owed, self._invalidate, self._bump)
        replay.start()


async def all_of(runs: Iterable[Coroutine[Any, Any, R]]) -> list[R]:
    """All results, a batch at a time; the first error of a batch is raised when all of the batch have ended."""
    todo = iter(runs)
    done: list[R] = []
    while batch := list(itertools.islice(todo, BATCH)):
        if len(batch) == 1:
            done.append(await batch[0])
            continue
        results = await asyncio.gather(*batch, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        done += cast("list[R]", results)
    return done
