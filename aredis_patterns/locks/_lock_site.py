"""`LockSite`: one lock in one event loop. Attempts, leaves, hands over and gives back; knows the scripts."""

from __future__ import annotations

from typing import Final

from aredis_patterns.exceptions import OutcomeUnknown
from aredis_patterns.locks._keys import LockKeys
from aredis_patterns.locks._lease import Lease
from aredis_patterns.locks._lockable import Options
from aredis_patterns.locks._runtime import runtime_of
from aredis_patterns.locks._scripts import Answer, lock_acquire, lock_release, lock_transfer, post_lock_release
from aredis_patterns.locks._waiting import GUARD, MOST_TRANSFERS, Grant, Waiter
from aredis_patterns.pipelining import inbox_of
from aredis_patterns.types import RedisClient

__all__ = ["LockSite"]


class LockSite:
    """Implements `Resource` for those who wait and `Issuer` for the leases that are given."""

    def __init__(
        self, client: RedisClient, keys: LockKeys, options: Options, counts: dict[str, int], *, fair: bool
    ) -> None:
        self.runtime = runtime_of(client)
        self.commands: Final = self.runtime.commands
        self.renewals = self.runtime.renewals
        self.renewer = self.runtime.lock_renewer
        self.inbox = inbox_of(client, options.namespace)
        self.room = self.runtime.room(keys.held)
        self.key = options.key
        self.ttl = options.ttl
        self.fair: Final = fair
        self.lines_up = not fair
        self._client: Final = client  # lives as long as a lease does
        self._keys: Final = keys
        self._options: Final = options
        self._counts: Final = counts
        self._rule: Final = "f" if fair else "u"
        self._countable: Final = not self.runtime.cluster

    def lease(self, waiter: Waiter, grant: Grant) -> Lease:
        """What a grant gives. No suspension between the answer and this."""
        options = self._options
        lease = Lease(
            self,
            token=waiter.token,
            fencing_token=grant.fence,
            claims=((self._keys.held, waiter.token),),
            start=grant.start,
            auto_renew=options.auto_renew,
            max_hold=options.max_hold,
        )
        self.room.holder = lease
        self._counts["waited"] += waiter.waited
        if self.inbox.live:
            self.inbox.expect(waiter.token, lease.message)
        return lease

    # for those who wait

    async def attempt(self, waiter: Waiter, *, enqueue: bool) -> Answer:
        """Take it or, with `enqueue`, stand in the queue."""
        keys, options = self._keys, self._options
        return await lock_acquire(
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

    def leave(self, waiter: Waiter) -> None:
        """Give up lock, reservation and place."""
        self._post_release(waiter.token, self._member(waiter.token))

    async def look(self) -> tuple[int, int]:
        """Wake the next if the lock is free."""
        answer = await lock_release(
            self.commands,
            lock=self._keys.held,
            queue=self._keys.queue,
            token="",
            member="",
            countable=self._countable,
            deadline=self._options.deadline,
        )
        return answer.waiting, answer.again

    # for the leases

    def ended(self, lease: Lease) -> None:
        """See `Issuer.ended`."""
        self.inbox.forget(lease.token)
        if self.room.holder is lease:
            self.room.holder = None

    def let_go(self, lease: Lease) -> None:
        """See `Issuer.let_go`. Whoever stands first in this process asks behind it."""
        self._post_release(lease.token, "")
        self.room.call_first()

    async def give_back(self, lease: Lease) -> bool:
        """See `Issuer.give_back`. Hands it to the next task of this process, if it is its turn."""
        room = self.room
        try:
            if room.line and self.lines_up and room.transfers < MOST_TRANSFERS:
                room.transfers += 1
                return await self._hand_over(lease, room.line[0])
            room.transfers = 0
            return await self._release(lease)
        except BaseException:
            self.let_go(lease)
            raise

    async def _release(self, lease: Lease) -> bool:
        ours = self.runtime.loop.time() < lease.deadline
        if self.room.line:  # who stands first here asks right behind the release
            self.runtime.loop.call_soon(self.room.call_first)
        try:
            released = await self._send_release(lease)
        except OutcomeUnknown:
            # It may have run. Once more; if that finds nothing, it was the first one that released.
            released = await self._send_release(lease) or ours
        return released

    async def _send_release(self, lease: Lease) -> bool:
        answer = await lock_release(
            self.commands,
            lock=self._keys.held,
            queue=self._keys.queue,
            token=lease.token,
            member="",
            countable=self._countable,
            deadline=self._options.deadline,
        )
        if answer.waiting:
            self.room.look_after(int(GUARD * 1000), self, guard=True)
        return bool(answer.released)

    async def _hand_over(self, lease: Lease, heir: Waiter) -> bool:
        """The next task of this process gets it, in one round trip and without a message."""
        keys, options = self._keys, self._options
        start = self.runtime.loop.time()
        heir.asked = True  # the server may come to know it
        try:
            granted, fence = await lock_transfer(
                self.commands,
                lock=keys.held,
                fence=keys.fence,
                queue=keys.queue,
                token=lease.token,
                heir=heir.token,
                member=self._member(heir.token),
                ttl=options.ttl_ms,
                owner=options.owner,
                inbox=self.inbox.channel,
                deadline=options.deadline,
            )
        except BaseException:
            if heir.gone:
                self.leave(heir)
            raise
        if not granted:
            self.room.call_first()
            return False
        self._counts["handed_over"] += 1
        if heir.gone:  # it gave up while this was on its way: once more, behind it
            self.leave(heir)
        else:
            heir.grant = Grant(fence, start)
            heir.wake()
        return True

    def _member(self, token: str) -> str:
        return f"{token}\n{self._rule}\n{self.inbox.channel}"

    def _post_release(self, token: str, member: str) -> None:
        post_lock_release(self.commands, keys=self._keys, token=token, member=member, countable=self._countable)
