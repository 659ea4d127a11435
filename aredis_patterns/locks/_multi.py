"""`MultiLock`: several locks at once, all or none, without deadlock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, Unpack

from aredis_patterns.locks._answers import Answer, Released
from aredis_patterns.locks._keys import LockKeys, lock_keys
from aredis_patterns.locks._options import LeaseOptions, Options
from aredis_patterns.locks._queued import QueuedLock
from aredis_patterns.locks._renewal import Renewer
from aredis_patterns.locks._room import Waiter
from aredis_patterns.locks._scripts import (
    lock_acquire,
    lock_release,
    multi_acquire,
    post_lock_release,
)
from aredis_patterns.locks._site import Site
from aredis_patterns.types import Key, RedisClient

__all__ = ["MultiLock"]


MOST_KEYS: Final = 100
"""Their command stays far below the size at which it would leave the ordered connection, and its undo overtake it."""


class MultiLock(QueuedLock):
    """The locks of several keys: the same as `Lock` of each, so the two exclude one another.

        async with MultiLock(client, ["account:1", "account:2"]) as lease:
            await transfer(...)

    Guarantee: all or none. It waits for one that is taken without holding any, so no order of keys can deadlock. If one
    is lost, the lease is; what is left of it is released. Unfair as `Lock(fair=False)`; options as there.

    At most 100 keys. Round trips: one to acquire all, one to release all, one more for each wake-up. In a Cluster the
    keys lie in different slots: there it takes them one after the other, in sorted order, one round trip each; and
    `fencing_token` is the largest of them, which later holders of *one* of the keys exceed only as far as the clocks of
    the nodes agree.
    """

    def __init__(self, client: RedisClient, keys: Iterable[Key], **options: Unpack[LeaseOptions]) -> None:
        if isinstance(keys, (str, bytes)):  # it would lock each letter
            raise TypeError(f"MultiLock takes several keys, got {keys!r}")
        namespace = options.get("namespace", "ap")
        self.all_keys: Final = tuple(sorted({lock_keys(namespace, key) for key in keys}))
        if not self.all_keys:
            raise ValueError("MultiLock needs at least one key")
        if len(self.all_keys) > MOST_KEYS:
            raise ValueError(f"MultiLock takes at most {MOST_KEYS} keys, got {len(self.all_keys)}")
        super().__init__(client, "+".join(keys.held for keys in self.all_keys), Options.checked(**options))

    def _make_site(self) -> Site:
        return _MultiSite(self._client, self, self.counts)


class _MultiSite(Site):
    def __init__(self, client: RedisClient, lock: MultiLock, counts: dict[str, int]) -> None:
        super().__init__(client, lock.key, lock.key, lock.options, counts)
        self._all: Final[tuple[LockKeys, ...]] = lock.all_keys

    @property
    def renewer(self) -> Renewer:
        return self.runtime.lock_renewer

    async def attempt(self, waiter: Waiter, *, enqueue: bool) -> Answer:
        again = waiter.ticket > 0
        if self.runtime.cluster:
            answer, blocker = await self._one_by_one(waiter, enqueue=enqueue)
        else:
            answer, blocker = await multi_acquire(
                self.commands,
                keys=[key for keys in self._all for key in keys],
                token=waiter.token,
                ttl=self.options.ttl_ms,
                owner=self.options.owner,
                inbox=self.inbox.channel,
                enqueue=enqueue,
                ticket=waiter.ticket,
                deadline=self.options.deadline,
            )
        if not answer.granted and again:
            # What was kept for us while we waited elsewhere goes to the next there.
            for keys in self._all[: blocker - 1] + self._all[blocker:]:
                self._post(keys, waiter.token, self.member(waiter.token))
        return answer

    async def _one_by_one(self, waiter: Waiter, *, enqueue: bool) -> tuple[Answer, int]:
        fence = 0
        for number, keys in enumerate(self._all, 1):
            answer = await lock_acquire(
                self.commands,
                lock=keys.held,
                fence=keys.fence,
                queue=keys.queue,
                token=waiter.token,
                ttl=self.options.ttl_ms,
                owner=self.options.owner,
                inbox=self.inbox.channel,
                enqueue=enqueue,
                fair="u",
                ticket=waiter.ticket,
                deadline=self.options.deadline,
            )
            fence = max(fence, answer.fence)
            if not answer.granted:
                for before in self._all[: number - 1]:
                    self._post(before, waiter.token, "")
                return answer, number
        return Answer(1, fence, waiter.ticket, 0), 0

    def claims(self, token: str) -> tuple[tuple[str, str], ...]:
        return tuple((keys.held, token) for keys in self._all)

    def member(self, token: str) -> str:
        return f"{token}\nu\n{self.inbox.channel}"

    async def send_release(self, token: str, member: str) -> Released:
        answers = await asyncio.gather(
            *(
                lock_release(
                    self.commands,
                    lock=keys.held,
                    queue=keys.queue,
                    token=token,
                    member=member,
                    countable=self.countable,
                    deadline=self.options.deadline,
                )
                for keys in self._all
            )
        )
        return Released(
            released=int(all(answer.released for answer in answers)),
            waiting=sum(answer.waiting for answer in answers),
            again=min((answer.again for answer in answers if answer.again), default=0),
        )

    def post_release(self, token: str, member: str) -> None:
        for keys in self._all:
            self._post(keys, token, member)

    def _post(self, keys: LockKeys, token: str, member: str) -> None:
        post_lock_release(self.commands, keys=keys, token=token, member=member, countable=self.countable)
