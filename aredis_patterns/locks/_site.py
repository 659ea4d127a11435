"""`Site`: one lockable thing in one event loop. Between those who wait and hold, and the scripts.

Implements `Resource` for `_waiting` and `Issuer` for `_lease`; a kind of lock adds its scripts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Final

from aredis_patterns.exceptions import OutcomeUnknown
from aredis_patterns.locks._answers import Answer, Released
from aredis_patterns.locks._lease import Lease
from aredis_patterns.locks._options import Options
from aredis_patterns.locks._renewal import Renewer
from aredis_patterns.locks._room import Grant, Waiter
from aredis_patterns.locks._runtime import runtime_of
from aredis_patterns.locks._waiting import GUARD
from aredis_patterns.types import RedisClient

__all__ = ["Site"]


class Site(ABC):
    """What is the same for all kinds."""

    lines_up = False
    exclusive = True
    """Whether a second lease in this process means that the first was lost."""

    def __init__(self, client: RedisClient, key: str, place: str, options: Options, counts: dict[str, int]) -> None:
        self.runtime = runtime_of(client)
        self.renewals = self.runtime.renewals
        self.inbox = self.runtime.inbox(client, options.namespace)
        self.room = self.runtime.room(place)
        self.key = key
        self.ttl = options.ttl
        self.commands: Final = self.runtime.commands
        self.options: Final = options
        self.counts: Final = counts
        self.countable: Final = not self.runtime.cluster
        """Whether PUBLISH says how many have heard it."""
        self._client: Final = client  # lives as long as a lease does

    @property
    @abstractmethod
    def renewer(self) -> Renewer:
        """Who prolongs its leases."""

    @abstractmethod
    def attempt(self, waiter: Waiter, *, enqueue: bool) -> Coroutine[Any, Any, Answer]:
        """Ask the server once, and stand in its queue with `enqueue`."""

    @abstractmethod
    def claims(self, token: str) -> tuple[tuple[str, str], ...]:
        """What a token has on the server when it was granted."""

    @abstractmethod
    def member(self, token: str) -> str:
        """The entry of a token in the queue."""

    @abstractmethod
    def send_release(self, token: str, member: str) -> Coroutine[Any, Any, Released]:
        """End what a token has and wake the next. With empty arguments: only the latter."""

    @abstractmethod
    def post_release(self, token: str, member: str) -> None:
        """The same without waiting."""

    def lease(self, waiter: Waiter, grant: Grant) -> Lease:
        """What a grant gives. No suspension between the answer and this."""
        token = waiter.token
        lease = Lease(
            self, self.options, token=token, fencing_token=grant.fence, claims=self.claims(token), start=grant.start
        )
        if self.exclusive:
            self.room.holder = lease
        self.counts["waited"] += waiter.waited
        if self.inbox.live:
            self.inbox.expect(waiter.token, lease.message)
        return lease

    def leave(self, waiter: Waiter) -> None:
        """See `Resource.leave`."""
        self.post_release(waiter.token, self.member(waiter.token))

    async def look(self) -> tuple[int, int]:
        """See `Resource.look`."""
        answer = await self.send_release("", "")
        return answer.waiting, answer.again

    def ended(self, lease: Lease) -> None:
        """See `Issuer.ended`."""
        if self.inbox.waiting:
            self.inbox.forget(lease.token)
        if self.room.holder is lease:
            self.room.holder = None

    def let_go(self, lease: Lease) -> None:
        """See `Issuer.let_go`."""
        self.post_release(lease.token, "")

    def give_back(self, lease: Lease) -> Coroutine[Any, Any, bool]:
        """See `Issuer.give_back`."""
        return self._release(lease)

    async def _release(self, lease: Lease) -> bool:
        ours = self.runtime.loop.time() < lease.deadline
        try:
            try:
                answer = await self.send_release(lease.token, "")
            except OutcomeUnknown:
                # It may have run. Once more; if that finds nothing, it was the first one that released.
                answer = await self.send_release(lease.token, "")
                answer = answer._replace(released=answer.released or ours)
        except BaseException:
            self.let_go(lease)
            raise
        if answer.waiting:
            self.room.look_after(int(GUARD * 1000), self, guard=True)
        return bool(answer.released)
