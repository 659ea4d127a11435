"""The leases that this process holds, prolonged by one task while their loaders work.

So a lease is short whatever the loader takes: when its process dies, another one loads within the length of a lease.
"""

from __future__ import annotations

import asyncio
from typing import Final

from redis.exceptions import RedisError

from aredis_patterns.caching import _scripts
from aredis_patterns.caching._shared import Shared

__all__ = ["Leases"]


class Leases:
    """Of one cache in one event loop. The task lives as long as there is a lease."""

    def __init__(self, shared: Shared) -> None:
        self._shared: Final = shared
        self._held: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    def keep(self, token: str, lease: str) -> None:
        """Prolong this lease from now on."""
        self._held[token] = lease
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._renew(), name="aredis-patterns cache leases")

    def drop(self, token: str) -> None:
        """It has been given back."""
        self._held.pop(token, None)

    async def close(self) -> None:
        """End the task."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _renew(self) -> None:
        pause = self._shared.policy.lease / 3000
        while True:
            await asyncio.sleep(pause)
            if not self._held:
                self._task = None
                return
            renewals = (self._prolong(token, lease) for token, lease in list(self._held.items()))
            await asyncio.gather(*renewals)

    async def _prolong(self, token: str, lease: str) -> None:
        policy = self._shared.policy
        try:
            held = await self._shared.ask(
                _scripts.renew(
                    self._shared.commands, lease=lease, token=token, lease_ms=policy.lease, deadline=policy.deadline
                )
            )
        except (RedisError, OSError):
            return  # the next round tries again; the lease lives for three
        if not held:
            self.drop(token)
