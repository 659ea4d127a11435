"""`Semaphore`: so many at a time, over all processes, each permit with a lease of its own."""

from __future__ import annotations

from typing import Final, Unpack

from aredis_patterns.locks._answers import Answer, Released
from aredis_patterns.locks._keys import LockKeys, permit_keys
from aredis_patterns.locks._options import LeaseOptions, Options, readable
from aredis_patterns.locks._queued import QueuedLock
from aredis_patterns.locks._renewal import Renewer
from aredis_patterns.locks._room import Waiter
from aredis_patterns.locks._scripts import (
    permit_acquire,
    permit_count,
    permit_release,
    post_permit_release,
)
from aredis_patterns.locks._site import Site
from aredis_patterns.types import Key, RedisClient

__all__ = ["Semaphore"]


class Semaphore(QueuedLock):
    """At most `limit` permits at a time; first come, first served.

        async with Semaphore(client, "reports", 3) as lease:
            await render()

    Guarantee: never more than `limit`, while the server keeps its memory. What a killed process had comes back when its
    lease ends, once and never twice. Fails closed. Losing a permit is like losing a lock: see `Lock`, whose options
    these are. A task may take several.

    Round trips: one to acquire, one to release, one more after the wake-up when it had to wait. Memory in Redis: about
    100 bytes per permit that is out or waited for. O(log n) per permit.

    Args:
        limit: permits in all; everybody must give the same. Who gives a smaller one only waits longer.
        weight: permits that one acquisition takes, all or none; at most `limit`.
    """

    def __init__(
        self, client: RedisClient, key: Key, limit: int, *, weight: int = 1, **options: Unpack[LeaseOptions]
    ) -> None:
        for name, value in (("limit", limit), ("weight", weight)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ValueError(f"{name} is a whole number, 1 or more, got {value!r}")
        if weight > limit:
            raise ValueError(f"weight {weight} never fits into a limit of {limit}")
        super().__init__(client, readable(key), Options.checked(**options))
        self.limit: Final = limit
        self.weight: Final = weight
        self.keys: Final = permit_keys(self.options.namespace, key)

    async def in_use(self) -> int:
        """Permits that are out now. One round trip."""
        site = self._here()
        used, _ = await permit_count(
            site.commands, held=self.keys.held, queue=self.keys.queue, deadline=self.options.deadline
        )
        return used

    def _make_site(self) -> Site:
        return _SemaphoreSite(self._client, self, self.counts)


class _SemaphoreSite(Site):
    exclusive = False

    def __init__(self, client: RedisClient, semaphore: Semaphore, counts: dict[str, int]) -> None:
        super().__init__(client, semaphore.key, semaphore.keys.held, semaphore.options, counts)
        self._keys: Final[LockKeys] = semaphore.keys
        self._limit: Final = semaphore.limit
        self._weight: Final = semaphore.weight

    @property
    def renewer(self) -> Renewer:
        return self.runtime.permit_renewer

    async def attempt(self, waiter: Waiter, *, enqueue: bool) -> Answer:
        return await permit_acquire(
            self.commands,
            held=self._keys.held,
            fence=self._keys.fence,
            queue=self._keys.queue,
            token=waiter.token,
            ttl=self.options.ttl_ms,
            limit=self._limit,
            weight=self._weight,
            inbox=self.inbox.channel,
            enqueue=enqueue,
            ticket=waiter.ticket,
            deadline=self.options.deadline,
        )

    def claims(self, token: str) -> tuple[tuple[str, str], ...]:
        return tuple((self._keys.held, f"{token}:{number}") for number in range(1, self._weight + 1))

    def member(self, token: str) -> str:
        return f"{token}\n{self._weight}\n{self.inbox.channel}"

    async def send_release(self, token: str, member: str) -> Released:
        return await permit_release(
            self.commands,
            held=self._keys.held,
            queue=self._keys.queue,
            token=token,
            member=member,
            limit=self._limit,
            countable=self.countable,
            deadline=self.options.deadline,
        )

    def post_release(self, token: str, member: str) -> None:
        post_permit_release(
            self.commands,
            keys=self._keys,
            token=token,
            member=member,
            limit=self._limit,
            countable=self.countable,
        )
