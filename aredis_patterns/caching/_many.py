"""Many keys at once: one read for all, one run of the batch loader for those whose leases are ours, then the others.

Own keys are loaded before anybody is waited for, so two processes with overlapping keys in any order cannot wait for
each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from redis.exceptions import RedisError

from aredis_patterns.caching._breaker import is_outage
from aredis_patterns.caching._flight import Loader
from aredis_patterns.caching._here import Here, answer_of, is_due
from aredis_patterns.caching._keys import EntryKeys
from aredis_patterns.caching._result import Answer
from aredis_patterns.caching._shared import Shared
from aredis_patterns.types import Key

__all__ = ["answer_many", "one_of"]

K = TypeVar("K", bound=Key)

BatchLoader = Callable[[list[K]], Awaitable[Mapping[K, Any]]]


async def answer_many(
    shared: Shared,
    here: Here,
    many: Mapping[K, EntryKeys],
    batch_loader: BatchLoader[K],
    *,
    ttl: int | None,
    tags: Sequence[str],
) -> dict[K, Answer]:
    """An answer for each key."""
    ahead = here.ahead(ttl)
    answers = await _look(shared, here, many, ahead) if not (tags or shared.tagged) else {}
    missing = {key: keys for key, keys in many.items() if key not in answers}
    if not missing:
        return answers
    batch = Batch(batch_loader, missing, here)

    async def one(key: K, keys: EntryKeys) -> Answer:
        try:
            return await here.answer(
                keys,
                batch.loader(key),
                ttl=ttl,
                tags=tags,
                ahead=ahead,
                looked=True,
                gated=False,
                on_wait=lambda: batch.decided(key),
            )
        finally:
            batch.decided(key)

    loaded = await asyncio.gather(*(one(key, keys) for key, keys in missing.items()), return_exceptions=True)
    for key, answer in zip(missing, loaded, strict=True):
        if isinstance(answer, BaseException):
            raise answer
        answers[key] = answer
    return answers


def one_of(batch_loader: BatchLoader[K], key: K) -> Loader:
    """The loader of a single key."""

    async def load() -> Any:
        return (await batch_loader([key])).get(key)

    return load


async def _look(shared: Shared, here: Here, many: Mapping[K, EntryKeys], ahead: int) -> dict[K, Answer]:
    """Those that are there and not due."""
    if shared.owed or not shared.breaker.may_ask():
        return {}
    try:
        sights = await here.looks.look_many(list(many.values()))
    except (RedisError, OSError) as error:
        if not is_outage(error) or shared.policy.on_error == "raise":
            raise
        return {}
    return {
        key: answer_of(sight)
        for key, sight in zip(many, sights, strict=True)
        if sight is not None and not is_due(sight, ahead)
    }


class Batch(Generic[K]):
    """Gathers the keys whose leases this call holds. Runs the loader when it is known of every key who loads it."""

    def __init__(self, load: BatchLoader[K], keys: Mapping[K, EntryKeys], here: Here) -> None:
        self._load: Final = load
        self._here: Final = here
        self._undecided = set(keys)
        self._own: dict[K, asyncio.Future[Any]] = {}
        self._tasks: dict[asyncio.Task[None], dict[K, asyncio.Future[Any]]] = {}

    def loader(self, key: K) -> Loader:
        """The loader of one key: its part of the batch."""

        async def load() -> Any:
            mine = self._own[key] = self._here.loop.create_future()
            self.decided(key)
            try:
                return await mine
            except asyncio.CancelledError:
                mine.cancel()
                self._abandon()
                raise

        return load

    def decided(self, key: K) -> None:
        """Somebody loads this key, or it is there."""
        self._undecided.discard(key)
        if self._own and not self._undecided:
            own, self._own = self._own, {}
            task = self._here.loop.create_task(self._run(own), name="aredis-patterns cache batch")
            self._tasks[task] = own
            task.add_done_callback(self._ended)

    def _abandon(self) -> None:
        """A load was cancelled. When it was the last one of its batch, the batch loader works for nobody."""
        for task, own in self._tasks.items():
            if all(mine.done() for mine in own.values()):
                task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)

    async def _run(self, own: dict[K, asyncio.Future[Any]]) -> None:
        try:
            async with self._here.loads.gate:
                values = await self._load([key for key, mine in own.items() if not mine.done()])
        except BaseException as error:
            for mine in own.values():
                if not mine.done():
                    mine.set_exception(
                        error if isinstance(error, Exception) else RuntimeError("the batch was cancelled")
                    )
            if not isinstance(error, Exception):
                raise
            return
        for key, mine in own.items():
            if not mine.done():
                mine.set_result(values.get(key))
