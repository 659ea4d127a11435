"""`ReadWriteLock`: many read, or one writes; neither starves."""

from __future__ import annotations

import asyncio
from typing import Final, Literal, Unpack

from aredis_patterns.exceptions import LockAlreadyHeld
from aredis_patterns.locks._answers import Answer, Released
from aredis_patterns.locks._keys import ReadWriteKeys, read_write_keys
from aredis_patterns.locks._lease import Lease
from aredis_patterns.locks._options import LeaseOptions, Options, readable
from aredis_patterns.locks._queued import QueuedLock
from aredis_patterns.locks._renewal import Renewer
from aredis_patterns.locks._room import Waiter
from aredis_patterns.locks._scripts import post_rw_release, rw_acquire, rw_release
from aredis_patterns.locks._site import Site
from aredis_patterns.types import Key, RedisClient

__all__ = ["ReadWriteLock", "ReadWriteSide"]


class ReadWriteLock:
    """A lock with two sides: `async with lock.read():` and `async with lock.write():`.

        rates = ReadWriteLock(client, "rates")
        async with rates.read():
            ...

    Guarantee: a writer is alone; readers are with readers only. Phase-fair: a waiting writer stops new readers, and when
    it has written, all readers that queued meanwhile come before the next writer. A dead reader or writer is in the way
    for one ttl at most. Everything else, options included, is as with `Lock`.

    Round trips: one to acquire, one to release, one more after the wake-up. Memory in Redis: about 80 bytes per reader
    and waiter. Asking for one side while this task holds the other raises LockAlreadyHeld: it would wait for itself.
    """

    def __init__(self, client: RedisClient, key: Key, **options: Unpack[LeaseOptions]) -> None:
        checked = Options.checked(**options)
        self.key: Final = readable(key)
        self.keys: Final = read_write_keys(checked.namespace, key)
        self._read: Final = ReadWriteSide(client, self.key, self.keys, checked, "r")
        self._write: Final = ReadWriteSide(client, self.key, self.keys, checked, "w")
        self._read.other, self._write.other = self._write, self._read

    def read(self) -> ReadWriteSide:
        """The side that many can hold."""
        return self._read

    def write(self) -> ReadWriteSide:
        """The side that one can hold."""
        return self._write

    def __repr__(self) -> str:
        reading, writing = self._read.statistics().held, self._write.statistics().held
        return f"<ReadWriteLock {self.key!r}, here {reading} read and {writing} write>"


class ReadWriteSide(QueuedLock):
    """Reading, or writing. Has the verbs of `Lockable`."""

    other: ReadWriteSide

    def __init__(
        self, client: RedisClient, key: str, keys: ReadWriteKeys, options: Options, kind: Literal["r", "w"]
    ) -> None:
        super().__init__(client, key, options)
        self.kind: Final[Literal["r", "w"]] = kind
        self.keys: Final = keys

    def _make_site(self) -> Site:
        return _SideSite(self._client, self, self.counts)

    async def _take(self, timeout: float | None) -> Lease | None:
        task = asyncio.current_task()
        if timeout != 0 and (task in self.other._held or (self.kind == "w" and task in self._held)):
            raise LockAlreadyHeld(self.key, "this task is in already, and would wait for itself")
        return await super()._take(timeout)


class _SideSite(Site):
    exclusive = False

    def __init__(self, client: RedisClient, side: ReadWriteSide, counts: dict[str, int]) -> None:
        super().__init__(client, side.key, side.keys.held, side.options, counts)
        self._keys: Final = side.keys
        self._kind: Final = side.kind

    @property
    def renewer(self) -> Renewer:
        return self.runtime.permit_renewer

    async def attempt(self, waiter: Waiter, *, enqueue: bool) -> Answer:
        keys = self._keys
        return await rw_acquire(
            self.commands,
            held=keys.held,
            fence=keys.fence,
            readers=keys.readers,
            writers=keys.writers,
            token=waiter.token,
            kind=self._kind,
            ttl=self.options.ttl_ms,
            inbox=self.inbox.channel,
            enqueue=enqueue,
            ticket=waiter.ticket,
            deadline=self.options.deadline,
        )

    def claims(self, token: str) -> tuple[tuple[str, str], ...]:
        return ((self._keys.held, f"{self._kind}:{token}"),)

    def member(self, token: str) -> str:
        return f"{token}\n{self.inbox.channel}"

    async def send_release(self, token: str, member: str) -> Released:
        return await rw_release(
            self.commands,
            held=self._keys.held,
            readers=self._keys.readers,
            writers=self._keys.writers,
            token=token,
            kind=self._kind,
            member=member,
            countable=self.countable,
            deadline=self.options.deadline,
        )

    def post_release(self, token: str, member: str) -> None:
        post_rw_release(
            self.commands,
            keys=self._keys,
            token=token,
            kind=self._kind,
            member=member,
            countable=self.countable,
        )
