"""One cache in one event loop: from the question to the answer.

    near cache  ->  look (one command for all callers of a tick)  ->  flight (one loader in the fleet)

The first two only ever shorten the way of a hit; what is true is decided by the flight and its scripts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from aredis_patterns._core.durations import to_seconds
from aredis_patterns.caching._breaker import is_outage
from aredis_patterns.caching._flight import Flight, Loader, moment
from aredis_patterns.caching._keys import EntryKeys
from aredis_patterns.caching._loads import Loads
from aredis_patterns.caching._looks import Looks, Sight
from aredis_patterns.caching._near import NearCache, NearEntry, NearTable
from aredis_patterns.caching._result import Answer
from aredis_patterns.caching._shared import Shared, unavailable
from aredis_patterns.pipelining import Tracking

__all__ = ["Here"]


class Here:
    """Made on first use in a loop, without I/O."""

    def __init__(self, shared: Shared, near: NearCache | None) -> None:
        self.loop: Final = asyncio.get_running_loop()
        self._shared: Final = shared
        self.near: Final = None if near is None else NearTable(near, shared.policy.ahead(None, 0.0))
        self._tracking = None if near is None else self._track(near)
        self.looks: Final = Looks(shared, self.near)
        self.loads: Final = Loads(shared, self.near)

    def copy_of(self, keys: EntryKeys) -> NearEntry | None:
        """The local copy, if there is one that may be used."""
        if self.near is None or (self._shared.owed and self._shared.owed.covers(keys.value)):
            return None
        return self.near.get(keys.value)

    async def answer(
        self,
        keys: EntryKeys,
        loader: Loader,
        *,
        ttl: int | None = None,
        tags: Sequence[str] = (),
        unreadable: str = "",
        looked: bool = False,
        offline: bool = False,
        with_ttl: bool = False,
        gated: bool = True,
        asked: int | None = None,
        ahead: int | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> Answer:
        """What is there, or what is loaded. `looked`: a look has found nothing, or something that is due by `ahead`, or
        Redis to be `offline`."""
        shared = self._shared
        ahead = self.ahead(ttl) if ahead is None else ahead
        asked = moment() if asked is None else asked
        while True:
            flight = self.loads.current(keys.value)
            if flight is None or flight.answered:
                offline = offline or (bool(shared.owed) and shared.owed.covers(keys.value))
                if offline:
                    pass
                elif not (looked or tags or shared.tagged or unreadable):
                    sight, offline = await self._look(keys, with_ttl)
                    if sight is not None and (not is_due(sight, ahead) or self.loads.refreshing(keys.value)):
                        return answer_of(sight)
                elif not shared.breaker.may_ask():
                    offline = True
                flight, looked = self.loads.current(keys.value), False
            if flight is None or flight.answered:
                flight = Flight(
                    keys,
                    loader,
                    ttl=ttl,
                    tags=tags,
                    ahead=ahead,
                    unreadable=unreadable,
                    offline=offline,
                    gated=gated,
                    on_wait=on_wait,
                )
                self.loads.start(flight)
            else:
                shared.counts.coalesced += 1
                if on_wait is not None:
                    on_wait()
            answer = await flight.join(asked)
            if answer is not None:
                return answer
            offline = False

    async def refresh(self, keys: EntryKeys, loader: Loader, *, ttl: int | None, tags: Sequence[str]) -> Answer:
        """Load now, whatever is there, and whoever else loads."""
        asked = moment()
        while True:
            offline = not self._shared.breaker.may_ask()
            flight = Flight(keys, loader, ttl=ttl, tags=tags, ahead=0, mode="refresh", offline=offline)
            self.loads.start(flight)
            answer = await flight.join(asked)
            if answer is not None:
                return answer

    async def glance(self, keys: EntryKeys, *, with_ttl: bool = False) -> Answer | None:
        """What is there, without loading. Where tags were seen the script judges, in one round trip as well."""
        shared = self._shared
        if shared.owed and shared.owed.covers(keys.value):
            return None
        if not shared.breaker.may_ask():
            if shared.policy.on_error == "raise":
                raise unavailable()
            return None
        try:
            if not shared.tagged:
                sight = await self.looks.look(keys, with_ttl=with_ttl)
                if sight is not None or not shared.tagged:
                    return None if sight is None else answer_of(sight)
            found = await self.loads.asking.peek(keys)
        except (RedisError, OSError) as error:
            if not is_outage(error) or shared.policy.on_error == "raise":
                raise
            return None
        return found

    async def glance_many(self, many: Sequence[EntryKeys]) -> list[Answer | None]:
        """`glance` for many keys: one round trip."""
        shared = self._shared
        if shared.owed or shared.tagged or not shared.breaker.may_ask():
            return await asyncio.gather(*(self.glance(keys) for keys in many))
        try:
            sights = await self.looks.look_many(many)
        except (RedisError, OSError) as error:
            if not is_outage(error) or shared.policy.on_error == "raise":
                raise
            return [None] * len(many)
        if shared.tagged:
            return await asyncio.gather(*(self.glance(keys) for keys in many))
        return [None if sight is None else answer_of(sight) for sight in sights]

    def forget(self, values: Iterable[str]) -> None:
        """These were invalidated here: nobody joins their flights, and no copy is used."""
        for value in values:
            self.loads.detach(value)
            if self.near is not None:
                self.near.drop(value)

    def forget_all(self) -> None:
        """Many were invalidated here."""
        self.loads.detach_all()
        if self.near is not None:
            self.near.clear()

    def ahead(self, ttl: int | None) -> int:
        """How many ms before its end this question takes a value for due. Drawn, with early refresh: once per question."""
        policy = self._shared.policy
        return policy.ahead(ttl, self._shared.counts.load_seconds) if policy.looks_at_ttl else 0

    def is_due(self, keys: EntryKeys, sight: Sight, ahead: int) -> bool:
        """Whether somebody should renew this value now, and nobody in this process does."""
        return is_due(sight, ahead) and not self.loads.refreshing(keys.value)

    def must_do_without(self, error: Exception) -> None:
        """Redis did not answer: raise, unless this cache loads without it."""
        if not is_outage(error) or self._shared.policy.on_error == "raise":
            raise error

    async def _look(self, keys: EntryKeys, with_ttl: bool) -> tuple[Sight | None, bool]:
        """What is stored, and whether Redis is out of reach."""
        shared = self._shared
        if not shared.breaker.may_ask():
            return None, True
        try:
            return await self.looks.look(keys, with_ttl=with_ttl), False
        except (RedisError, OSError) as error:
            self.must_do_without(error)
            return None, True

    async def open(self) -> None:
        """Wait until the near cache is confirmed, a second at most; it works without, only slower."""
        if self._tracking is not None:
            await self._tracking.confirmed(1.0)

    async def close(self) -> None:
        """End what is under way in this loop."""
        if self._tracking is not None:
            await self._tracking.close()
        await self.loads.close()
        await self.looks.close()

    def _track(self, near: NearCache) -> Tracking:
        """Feed the table with what the server says."""
        table, shards = self.near, self._shared.keys.shards
        assert table is not None
        epochs = frozenset(shard.epoch.encode() for shard in shards)
        tags = frozenset(shard.tags.encode() for shard in shards)
        prefixes = [name for shard in shards for name in (shard.values, shard.epoch, shard.tags)]
        return Tracking(
            cast(Redis, self._shared.client),
            prefixes,
            lambda keys: table.changed(keys, epochs, tags),
            table.set_live,
            heartbeat=to_seconds(near.heartbeat),
        )


def is_due(sight: Sight, ahead: int) -> bool:
    """Whether somebody should renew this value."""
    return 0 <= sight.left <= sight.entry.stale + ahead


def answer_of(sight: Sight) -> Answer:
    """What a look has found, as an answer."""
    fresh = sight.left < 0 or sight.left > sight.entry.stale
    return Answer(sight.entry, sight.left, "hit" if fresh else "stale", sight.stored)
