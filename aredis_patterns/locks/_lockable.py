"""`Lockable`: the verbs that everything which hands out leases shares, and what becomes of the body.

    async with lock as lease:        acquire, then run the body in a scope that ends with the lease
        ...

How a block ends:

| the lease was lost | the body | what is raised |
|---|---|---|
| no | ended, or raised | nothing, or its error; the lease is released |
| yes | was cancelled by us, ended, or swallowed it | LockLost |
| yes | was cancelled by somebody else too | CancelledError: that comes first |
| yes | raised an error of its own | that error, with a note |
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from redis.exceptions import RedisError

from aredis_patterns._core.durations import timeout_seconds
from aredis_patterns._core.instrumentation import hook_of
from aredis_patterns.exceptions import LockLost, LockNotOwned, LockTimeout, PatternError
from aredis_patterns.locks._lease import Lease
from aredis_patterns.locks._options import Options
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["LockStatistics", "Lockable"]
MANY: Final = 64
"""Tasks that hold one object, after which those that have ended are looked for."""

_log: Final = logging.getLogger("aredis_patterns.locks")


@dataclass(frozen=True, slots=True)
class LockStatistics:
    """What one object has done so far."""

    acquired: int
    waited: int
    """Of these, not at the first attempt."""
    timed_out: int
    """Attempts that ended without it, tries included."""
    handed_over: int
    """Releases that gave it to another task of this process at once."""
    lost: int
    held: int
    """Now."""


class Lockable(ABC):
    """Acquire, release, and a block that ends with its lease. Safe to share between tasks: each has its own lease."""

    def __init__(self, client: RedisClient, key: str, options: Options) -> None:
        self.key: Final = key
        self.options: Final = options
        self._client: Final = client
        self._hook: Final = hook_of(client, "locks")
        self._held: dict[asyncio.Task[object] | None, list[Lease]] = {}
        self._many = MANY
        self.counts: Final = {"acquired": 0, "waited": 0, "timed_out": 0, "handed_over": 0, "lost": 0}

    @abstractmethod
    def _take(self, timeout: float | None) -> Coroutine[Any, Any, Lease | None]:
        """A lease, or None when it could not be had in time. Cancelled, nothing stays behind."""

    async def acquire(self, blocking: bool = True, timeout: Seconds | None = None) -> bool:
        """Take it for this task; whether that worked. One round trip when it is free.

        `timeout` in seconds: None waits for ever, 0 does not wait, as does `blocking=False`. To be followed by `release`
        in the same task; nothing is cancelled when the lock is lost. Prefer `async with`.
        """
        lease = await self._take_for(timeout_seconds(timeout if blocking else 0))
        if lease is None:
            return False
        self._remember(lease)
        return True

    async def try_acquire(self) -> Lease | None:
        """A lease that any task may release, or None at once. One round trip; never enters the queue."""
        return await self._take_for(0.0)

    async def release(self) -> None:
        """Release what this task acquired last. One round trip; cancelled, the release is written all the same.

        Raises LockNotOwned when this task holds nothing (nothing is changed), LockLost when it had been lost before.
        """
        await self._forget().release()

    def using(self, *, timeout: Seconds | None) -> AbstractAsyncContextManager[Lease]:
        """`async with lock.using(timeout=2) as lease:` waits so long at most, then raises LockTimeout."""
        return _Using(self, timeout_seconds(timeout))

    def statistics(self) -> LockStatistics:
        """A snapshot of what this object has done."""
        return LockStatistics(**self.counts, held=self._held_here())

    def __aenter__(self) -> Coroutine[Any, Any, Lease]:
        return self._enter(None)

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Coroutine[Any, Any, None]:
        return self._leave(self._forget(), error)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key!r}, {self._held_here()} held here, ttl {self.options.ttl:g} s>"

    async def _take_for(self, timeout: float | None) -> Lease | None:
        lease = await self._hook.call("acquire", _outcome, self._take, timeout)
        self.counts["timed_out" if lease is None else "acquired"] += 1
        return lease

    def _remember(self, lease: Lease) -> None:
        lease.task = asyncio.current_task()
        self._held.setdefault(lease.task, []).append(lease)
        if len(self._held) > self._many:
            self._forget_the_dead()

    def _held_here(self) -> int:
        return sum(lease.held for leases in self._held.values() for lease in leases)

    def _forget_the_dead(self) -> None:
        """Tasks that ended without releasing: the renewals have given back what they held."""
        for task in [each for each in self._held if each is not None and each.done()]:
            del self._held[task]
        self._many = max(MANY, 2 * len(self._held))

    def _forget(self) -> Lease:
        task = asyncio.current_task()
        leases = self._held.get(task)
        if not leases:
            raise LockNotOwned(self.key, "this task does not hold it")
        lease = leases.pop()
        if not leases:
            del self._held[task]
        return lease

    async def _enter(self, timeout: float | None) -> Lease:
        # As `_take_for`, without a layer: this is the path of nearly everybody.
        lease = await self._hook.call("acquire", _outcome, self._take, timeout)
        if lease is None:
            self.counts["timed_out"] += 1
            raise LockTimeout(self.key, f"not acquired within {timeout:g} s")
        self.counts["acquired"] += 1
        self._remember(lease)
        if self.options.cancel_on_loss:
            lease.guard()
        return lease

    async def _leave(self, lease: Lease, error: BaseException | None) -> None:
        ours = lease.unguard(error) or error is None
        if lease.reason:
            self.counts["lost"] += 1
            self._hook.event("hold", "lost")
            if ours:
                raise LockLost(self.key, lease.reason) from error
            if error is not None and not isinstance(error, LockLost):
                error.add_note(f"Meanwhile the lock {self.key!r} was lost: {lease.reason}.")
            return
        if lease.released:
            return  # by the body itself
        if not self.options.await_release:
            lease.release_nowait()
            return
        try:
            await lease.release()
        except LockLost as lost:
            self.counts["lost"] += 1
            self._hook.event("hold", "lost")
            if error is None:
                raise
            error.add_note(f"Meanwhile the lock {self.key!r} was lost: {lost.reason}.")
        except (RedisError, PatternError, OSError) as trouble:
            # The body ran under the lock from beginning to end: no error for the caller. The ttl ends it.
            _log.warning("the release of %r could not be confirmed: %s", self.key, trouble)


class _Using(AbstractAsyncContextManager[Lease]):
    def __init__(self, lockable: Lockable, timeout: float | None) -> None:
        self._lockable = lockable
        self._timeout = timeout

    async def __aenter__(self) -> Lease:
        return await self._lockable._enter(self._timeout)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._lockable.__aexit__(kind, error, traceback)


def _outcome(lease: Lease | None) -> str:
    return "refused" if lease is None else "acquired"
