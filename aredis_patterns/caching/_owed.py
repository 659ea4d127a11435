"""Invalidations that Redis has not heard of yet, and their replay when it is back.

Only with `replay_invalidations`. What is owed is neither read from Redis nor from local copies in this process until it was
replayed; other processes cannot know, and may read the old value until then.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from redis.exceptions import RedisError

from aredis_patterns.caching._keys import EntryKeys
from aredis_patterns.caching._result import Counts

__all__ = ["Owed", "Replay"]

_log: Final = logging.getLogger("aredis_patterns")

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0


class Owed:
    """What is owed, bounded: when there is too much, the whole cache is."""

    def __init__(self, most: int, counts: Counts) -> None:
        if most < 0:
            raise ValueError(f"replay_invalidations is a number of invalidations, 0 for none, got {most!r}")
        self.most: Final = most
        self.keys: dict[str, tuple[EntryKeys, int]] = {}
        self.tags: dict[str, int] = {}
        self.everything = 0
        """When it was last invalidated; 0 not owed."""
        self._counts: Final = counts
        self._stamp = 0

    def __bool__(self) -> bool:
        return bool(self.keys or self.tags or self.everything)

    def covers(self, value: str) -> bool:
        """Whether this value may be one of them. Of tags nobody here knows which values bear them."""
        return bool(self.everything or self.tags) or value in self.keys

    def add_keys(self, many: Iterable[EntryKeys]) -> None:
        """These could not be invalidated."""
        self._stamp += 1
        for keys in many:
            self.keys[keys.value] = (keys, self._stamp)
        self._bound()

    def add_tags(self, names: Sequence[str]) -> None:
        """Nor could these tags; without names: nor could the cache be cleared."""
        self._stamp += 1
        self.tags.update(dict.fromkeys(names, self._stamp))
        if not names:
            self.everything = self._stamp
        self._bound()

    def settle(self, upto: int) -> None:
        """All that was owed at this moment was done; what was added since is owed still."""
        self.keys = {value: owed for value, owed in self.keys.items() if owed[1] > upto}
        self.tags = {name: stamp for name, stamp in self.tags.items() if stamp > upto}
        self.everything = self.everything if self.everything > upto else 0
        self._count()

    @property
    def now(self) -> int:
        """The present moment, for `settle`."""
        return self._stamp

    def _bound(self) -> None:
        if len(self.keys) + len(self.tags) > self.most:
            self.keys.clear()
            self.tags.clear()
            self.everything = self._stamp
        self._count()

    def _count(self) -> None:
        self._counts.owed = len(self.keys) + len(self.tags) + bool(self.everything)


class Replay:
    """Tries, with pauses, until nothing is owed. One task, in one event loop."""

    def __init__(
        self,
        owed: Owed,
        invalidate: Callable[[list[EntryKeys]], Awaitable[object]],
        bump: Callable[[Sequence[str]], Awaitable[object]],
    ) -> None:
        self._owed: Final = owed
        self._invalidate: Final = invalidate
        self._bump: Final = bump
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """There is something to do."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="aredis-patterns cache replay")

    async def close(self) -> None:
        """Try once more, then give up and say so."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        if self._owed:
            try:
                await self._pay()
            except (RedisError, OSError) as error:
                _log.error("closing a cache that could not replay its invalidations: %s", error)

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while self._owed:
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                await self._pay()
            except (RedisError, OSError):
                continue

    async def _pay(self) -> None:
        owed, upto = self._owed, self._owed.now
        if owed.everything:
            await self._bump(())
        if owed.tags:
            await self._bump(list(owed.tags))
        if owed.keys:
            await self._invalidate([keys for keys, _ in owed.keys.values()])
        owed.settle(upto)
