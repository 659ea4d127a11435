"""Reading what is there: one command for all callers of one tick of the event loop.

A caller may share a read that has not been sent yet, never one that has: the server may have answered that one before
something was invalidated, and the caller may know of the invalidation already. So sharing costs no freshness.

    tick n      100 callers ask for 3 keys            one MGET goes out
    tick n+1    50 more callers ask for them          one more MGET goes out
    tick n+k    the replies come                      each caller wakes with the bytes
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from aredis_patterns.caching._entry import Entry, Payloads, parse_entry
from aredis_patterns.caching._immutable import is_immutable
from aredis_patterns.caching._keys import EntryKeys, ShardKeys
from aredis_patterns.caching._near import NearTable
from aredis_patterns.caching._shared import Shared

__all__ = ["Looks", "Sight"]

MOST_KEYS: Final = 64
"""In one command, so that a reply of large values does not stall everybody behind it."""
MOST_AT_ONCE: Final = 256
SHARED: Final = -1


class Sight:
    """What a look has found, for all who share it. It counts; whether it is due is for the caller to say."""

    __slots__ = ("_value", "_wanted", "entry", "left", "stored")

    def __init__(self, entry: Entry, left: int, stored: bytes) -> None:
        self.entry: Final = entry
        self.left: Final = left
        """ms of life; -1 endless or not asked for."""
        self.stored: Final = stored
        self._value: Any = None
        self._wanted = 0

    def value(self, payloads: Payloads[Any]) -> Any:
        """The decoded value: anew for each caller, unless nobody could change it."""
        if self._wanted == SHARED:
            return self._value
        value = payloads.decode(self.entry.flags, self.entry.payload)
        self._wanted += 1
        if self._wanted == 2:  # looking whether it can be changed is not worth it for one
            self._value, self._wanted = (value, SHARED) if is_immutable(value) else (None, 2)
        return value


_Asked = tuple[EntryKeys, list["asyncio.Future[Sight | None]"]]
_Batch = dict[str, _Asked]


class Looks:
    """The reads of one cache in one event loop. One round trip each, none of which changes anything."""

    def __init__(self, shared: Shared, near: NearTable | None) -> None:
        self._shared: Final = shared
        self._near: Final = near
        self._with_ttl: Final = shared.policy.looks_at_ttl or near is not None
        self._loop: Final = asyncio.get_running_loop()
        self._asking = 0
        self._crowded = False
        """Whether several callers shared the last tick: then the next one is not sent off alone, before the others."""
        self._batch: _Batch = {}
        """What was asked for in this tick."""
        self._tasks: set[asyncio.Task[None]] = set()

    def look(self, keys: EntryKeys, *, with_ttl: bool = False) -> Awaitable[Sight | None]:
        """What is stored and counts; None when there is nothing, or when only the script can tell (tags).

        To be awaited at once. No coroutine where a future will do: this is what a hit costs.
        """
        if with_ttl or not (self._asking or self._crowded):
            return self._alone(keys, with_ttl or self._with_ttl)
        waiter: asyncio.Future[Sight | None] = self._loop.create_future()
        found = self._batch.get(keys.value)
        if found is not None:
            found[1].append(waiter)
            return waiter
        if not self._batch:
            self._loop.call_soon(self._send)
        self._batch[keys.value] = (keys, [waiter])
        return waiter

    async def _alone(self, keys: EntryKeys, with_ttl: bool) -> Sight | None:
        """There is nobody to share with: no detour through a task."""
        self._asking += 1
        try:
            return (await self._fetch(keys.shard, [keys], with_ttl=with_ttl))[0]
        finally:
            self._asking -= 1

    async def look_many(self, many: Sequence[EntryKeys]) -> list[Sight | None]:
        """The same for many keys: one round trip for each 256 of them."""
        if len(many) > MOST_AT_ONCE:
            parts = [many[start : start + MOST_AT_ONCE] for start in range(0, len(many), MOST_AT_ONCE)]
            return [sight for part in parts for sight in await self.look_many(part)]
        by_shard: dict[ShardKeys, list[EntryKeys]] = {}
        for keys in many:
            by_shard.setdefault(keys.shard, []).append(keys)
        answers = await asyncio.gather(
            *(self._fetch(shard, group, with_ttl=self._with_ttl) for shard, group in by_shard.items())
        )
        found = {
            keys.value: sight
            for group, sights in zip(by_shard.values(), answers, strict=True)
            for keys, sight in zip(group, sights, strict=True)
        }
        return [found[keys.value] for keys in many]

    async def close(self) -> None:
        """Wait for what was sent. Each is bounded by the deadline."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _send(self) -> None:
        """All that was asked for in this tick goes out now, back to back."""
        batch, self._batch = self._batch, {}
        by_shard: dict[ShardKeys, list[_Asked]] = {}
        callers = 0
        for asked in batch.values():
            by_shard.setdefault(asked[0].shard, []).append(asked)
            callers += len(asked[1])
        self._crowded = callers > 1
        self._shared.counts.coalesced += callers - len(batch)
        for shard, everybody in by_shard.items():
            for start in range(0, len(everybody), MOST_KEYS):
                task = self._loop.create_task(self._answer(shard, everybody[start : start + MOST_KEYS]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _answer(self, shard: ShardKeys, asked: list[_Asked]) -> None:
        self._asking += 1
        try:
            sights = await self._fetch(shard, [keys for keys, _ in asked], with_ttl=self._with_ttl)
            for (_, waiters), sight in zip(asked, sights, strict=True):
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(sight)
        except Exception as error:
            for _, waiters in asked:
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_exception(error)
        finally:
            self._asking -= 1

    async def _fetch(self, shard: ShardKeys, many: Sequence[EntryKeys], *, with_ttl: bool) -> list[Sight | None]:
        near = self._near
        if near is None:
            return await self._read(shard, many, with_ttl)
        # Before the read is sent: what is invalidated from now on takes the mark away.
        marks = [near.expect(keys.value) for keys in many]
        sights: list[Sight | None] = [None] * len(marks)
        try:
            sights = await self._read(shard, many, with_ttl)
        finally:
            for mark, sight in zip(marks, sights, strict=True):
                near.offer(mark, sight)
        return sights

    async def _read(self, shard: ShardKeys, many: Sequence[EntryKeys], with_ttl: bool) -> list[Sight | None]:
        shared = self._shared
        get = ("MGET", shard.epoch, *(keys.value for keys in many))
        deadline = shared.policy.deadline
        if with_ttl:
            commands = [get, *(("PTTL", keys.value) for keys in many)]
            run = shared.commands.batch(commands, key=shard.epoch, replay_safe=True, deadline=deadline)
            replies = _raised(await shared.ask(run))
            (current, *values), lives = replies[0], [0 if left == -2 else left for left in replies[1:]]
        else:
            single = shared.commands.call(*get, key=shard.epoch, replay_safe=True, deadline=deadline)
            current, *values = await shared.ask(single)
            lives = [-1] * len(values)
        epoch = None if current is None else int(current)
        return [self._judge(stored, epoch, left, with_ttl) for stored, left in zip(values, lives, strict=True)]

    def _judge(self, stored: bytes | None, epoch: int | None, left: int, with_ttl: bool) -> Sight | None:
        if stored is None:
            return None
        entry = parse_entry(stored)
        if entry.version != -1 and (epoch is None or entry.version < epoch):
            return None
        if entry.tags:
            self._shared.tagged = True
            return None
        if entry.stale and not with_ttl:
            return None  # stored by a cache with other options; whether it has expired only its TTL tells
        return Sight(entry, left, stored)


def _raised(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
