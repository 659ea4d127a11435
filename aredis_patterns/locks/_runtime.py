"""What all locks on one client share in one event loop: the ordered commands, the renewals, the waiting rooms.

Found by `runtime_of(client)`. Nothing runs while nothing is held or waited for. It keeps no client alive.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias

from redis.asyncio import RedisCluster
from redis.crc import key_slot

from aredis_patterns.locks._lease import Lease
from aredis_patterns.locks._renewal import Renewals
from aredis_patterns.locks._room import Room
from aredis_patterns.locks._scripts import lock_renew, permit_renew
from aredis_patterns.pipelining import Inbox, inbox_of, lane_of
from aredis_patterns.pipelining._per_loop import PerLoop
from aredis_patterns.types import RedisClient

__all__ = ["BatchRenewer", "Runtime", "close_locks", "runtime_of"]

BATCH: Final = 200
"""Locks renewed by one command: far below the 64 KiB above which a command leaves the lane."""

_log: Final = logging.getLogger("aredis_patterns.locks")


RenewScript: TypeAlias = Callable[[list[str], list[str | int], float], Coroutine[Any, Any, list[int]]]
"""Renews (keys, pairs of claim and ttl in ms) within a deadline."""


class Runtime:
    """One per client and event loop."""

    def __init__(self, client: RedisClient) -> None:
        self.loop = asyncio.get_running_loop()
        self.commands: Final = lane_of(client).here()
        self.cluster: Final = isinstance(client, RedisCluster)
        self.renewals: Final = Renewals(self.loop)
        self.lock_renewer: Final = BatchRenewer(self._renew_locks, grouped=self.cluster)
        self.permit_renewer: Final = BatchRenewer(self._renew_permits, grouped=self.cluster)
        self._rooms: weakref.WeakValueDictionary[str, Room] = weakref.WeakValueDictionary()
        self._inboxes: dict[str, Inbox] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._told = False
        self.closed = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self.commands.statistics().open

    def room(self, key: str) -> Room:
        """The one place in this process where `key` is waited for."""
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = Room(self.loop)
        return room

    def inbox(self, client: RedisClient, namespace: str) -> Inbox:
        """The inbox of a namespace."""
        found = self._inboxes.get(namespace)
        if found is None or found.closed:
            found = self._inboxes[namespace] = inbox_of(client, namespace)
        return found

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background, until closed."""
        task = self.loop.create_task(work, name="look after a lock")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cannot_listen(self, error: Exception) -> None:
        """Say once that those who wait have to poll."""
        if not self._told:
            self._told = True
            _log.warning("waiting for locks by polling, without order: cannot listen to a channel: %s", error)

    async def close(self) -> None:
        """End what runs."""
        self.closed = True
        await self.renewals.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _renew_locks(self, keys: list[str], claims: list[str | int], deadline: float) -> list[int]:
        return await lock_renew(self.commands, locks=keys, claims=claims, deadline=deadline)

    async def _renew_permits(self, keys: list[str], claims: list[str | int], deadline: float) -> list[int]:
        return await permit_renew(self.commands, places=keys, claims=claims, deadline=deadline)

    def abandon(self) -> None:
        """The client was collected: nobody can hold anything."""
        self.closed = True
        self.renewals.stop()


class BatchRenewer:
    """Renews leases of one kind, many with one command; in a Cluster one command per slot, all in one write per node."""

    def __init__(self, script: RenewScript, *, grouped: bool) -> None:
        self._script = script
        self._grouped = grouped

    async def renew(self, leases: Sequence[Lease], ttl: Sequence[float], deadline: float) -> Sequence[int]:
        """See `Renewer.renew`. A lease with several keys is held while each of them is."""
        todo = [
            (at, key, token, round(seconds * 1000))
            for at, (lease, seconds) in enumerate(zip(leases, ttl, strict=True))
            for key, token in lease.claims
        ]
        held = [1] * len(leases)

        async def renew_some(some: list[tuple[int, str, str, int]]) -> None:
            claims: list[str | int] = [word for _, _, token, millis in some for word in (token, millis)]
            answers = await self._script([key for _, key, _, _ in some], claims, deadline)
            for (at, *_), answer in zip(some, answers, strict=True):
                held[at] &= answer

        await asyncio.gather(*(renew_some(some) for some in self._batches(todo)))
        return held

    def _batches(self, todo: list[tuple[int, str, str, int]]) -> list[list[tuple[int, str, str, int]]]:
        if not self._grouped:
            return [todo[start : start + BATCH] for start in range(0, len(todo), BATCH)]
        by_slot: dict[int, list[tuple[int, str, str, int]]] = defaultdict(list)
        for entry in todo:
            by_slot[key_slot(entry[1].encode())].append(entry)
        return list(by_slot.values())


_runtimes: Final[PerLoop[Runtime]] = PerLoop(Runtime)


def runtime_of(client: RedisClient) -> Runtime:
    """The runtime of a client in the running loop, made on first use."""
    return _runtimes.here(client)


async def close_locks(client: RedisClient) -> None:
    """End the background work of all locks on this client in the running loop. What is still held ends with its ttl.
    Using them again begins anew."""
    found = _runtimes.existing(client)
    if found is not None:
        _runtimes.forget(client)
        await found.close()
