"""`LockSite`: an exclusive lock in one event loop. An unfair one stays in the process for some turns."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, Literal

from aredis_patterns.locks._answers import Answer, Released
from aredis_patterns.locks._keys import LockKeys
from aredis_patterns.locks._lease import Lease
from aredis_patterns.locks._options import Options
from aredis_patterns.locks._renewal import Renewer
from aredis_patterns.locks._room import Grant, Waiter
from aredis_patterns.locks._scripts import (
    lock_acquire,
    lock_release,
    lock_transfer,
    post_lock_release,
)
from aredis_patterns.locks._site import Site
from aredis_patterns.locks._waiting import MOST_TRANSFERS
from aredis_patterns.types import RedisClient

__all__ = ["LockSite"]


class LockSite(Site):
    """See `Site`."""

    def __init__(
        self, client: RedisClient, key: str, keys: LockKeys, options: Options, counts: dict[str, int], *, fair: bool
    ) -> None:
        super().__init__(client, key, keys.held, options, counts)
        self.lines_up = not fair
        self._keys: Final = keys
        self._rule: Final[Literal["f", "u"]] = "f" if fair else "u"

    @property
    def renewer(self) -> Renewer:
        return self.runtime.lock_renewer

    def attempt(self, waiter: Waiter, *, enqueue: bool) -> Coroutine[Any, Any, Answer]:
        keys, options = self._keys, self.options
        return lock_acquire(
            self.commands,
            lock=keys.held,
            fence=keys.fence,
            queue=keys.queue,
            token=waiter.token,
            ttl=options.ttl_ms,
            owner=options.owner,
            inbox=self.inbox.channel,
            enqueue=enqueue,
            fair=self._rule,
            ticket=waiter.ticket,
            deadline=options.deadline,
        )

    def claims(self, token: str) -> tuple[tuple[str, str], ...]:
        return ((self._keys.held, token),)

    def member(self, token: str) -> str:
        return f"{token}\n{self._rule}\n{self.inbox.channel}"

    def send_release(self, token: str, member: str) -> Coroutine[Any, Any, Released]:
        return lock_release(
            self.commands,
            lock=self._keys.held,
            queue=self._keys.queue,
            token=token,
            member=member,
            countable=self.countable,
            deadline=self.options.deadline,
        )

    def post_release(self, token: str, member: str) -> None:
        post_lock_release(self.commands, keys=self._keys, token=token, member=member, countable=self.countable)

    def let_go(self, lease: Lease) -> None:
        super().let_go(lease)
        self.room.call_first()  # it asks behind the release

    def give_back(self, lease: Lease) -> Coroutine[Any, Any, bool]:
        room = self.room
        if room.line:
            if self.lines_up and room.transfers < MOST_TRANSFERS:
                room.transfers += 1
                return self._hand_over(lease, room.line[0])
            room.transfers = 0
            self.runtime.loop.call_soon(room.call_first)  # it asks right behind the release, which is written before
        return self._release(lease)

    async def _hand_over(self, lease: Lease, heir: Waiter) -> bool:
        """The next task of this process gets it, in one round trip and without a message."""
        keys, options = self._keys, self.options
        start = self.runtime.loop.time()
        heir.asked = True  # the server comes to know it
        self.room.heir = heir
        try:
            granted, fence = await lock_transfer(
                self.commands,
                lock=keys.held,
                fence=keys.fence,
                queue=keys.queue,
                token=lease.token,
                heir=heir.token,
                member=self.member(heir.token),
                ttl=options.ttl_ms,
                owner=options.owner,
                inbox=self.inbox.channel,
                deadline=options.deadline,
            )
        except BaseException:
            self.room.heir = None
            self.let_go(lease)
            if heir.gone:
                self.leave(heir)
            raise
        self.room.heir = None
        if not granted:
            self.room.call_first()
        elif heir.gone:  # it gave up while this was on its way: once more, behind it
            self.leave(heir)
            self.room.call_first()
        else:
            self.counts["handed_over"] += 1
            heir.grant = Grant(fence, start)
            heir.wake()
        return bool(granted)
