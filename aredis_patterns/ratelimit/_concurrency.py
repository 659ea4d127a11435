"""`ConcurrencyLimiter`: how many at once, not how many in how long."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from redis import exceptions as redis_errors

from aredis_patterns._core.durations import timeout_seconds, to_microseconds, to_seconds
from aredis_patterns._core.instrumentation import hook_of
from aredis_patterns.exceptions import ConcurrencyLimitExceeded, PatternError
from aredis_patterns.pipelining import Inbox, inbox_of, lane_of
from aredis_patterns.ratelimit._base import check_count, readable
from aredis_patterns.ratelimit._keys import leases_keys, line_key
from aredis_patterns.ratelimit._result import Decision
from aredis_patterns.ratelimit._scripts import concurrency_acquire, concurrency_release, post_concurrency_release
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["ConcurrencyLimiter", "ConcurrencyStatistics", "Place"]

POLL: Final = 0.25
"""Seconds between looks when the server cannot wake us, give or take half."""
LONGEST_SLEEP: Final = 30.0
"""Seconds after which a waiter shows that it still lives, however long the leases are."""
_TROUBLE: Final = (PatternError, redis_errors.RedisError, OSError)


@dataclass(frozen=True, slots=True)
class ConcurrencyStatistics:
    """What one object has done so far; `held` and `waiting` are now."""

    held: int
    waiting: int
    granted: int
    refused: int
    lost: int
    """Places whose lease ended while their holder was at work."""


class Place:
    """One of the places, while it is held. `lost` is set when its lease ended before it was given back."""

    def __init__(self, key: str | bytes, token: str) -> None:
        self.key: Final = key
        self.token: Final = token
        self.lost = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Place {self.key!r}, {'lost' if self.lost.is_set() else 'held'}>"


class ConcurrencyLimiter:
    """At most `limit` holders of a key at once, in all processes.

        renders = ConcurrencyLimiter(redis, 4, lease=30)
        async with renders.hold("org:acme", timeout=2):
            ...  # renewed in the background for as long as it takes

    Guarantee: at most `limit` leases by the server's clock. A holder that crashes or hangs loses its place after
    `lease` seconds; one that is merely cut off from the server is told (`Place.lost`), and may overlap with its successor
    until it looks. First come, first served over all processes: a place that is given back is handed to whoever has waited
    longest, who is woken by a message, within about one round trip. A waiter that is cancelled leaves the line; one whose
    process died wastes one lease when its turn comes.

    Cost: one round trip to take a place and one to give it back; waiting costs one message, and a look each time the
    first lease ends. About 90 bytes per holder and per waiter; the holders' key goes with the last lease, the line ten
    minutes after the last look. Complexity O(log n).

    Args:
        client: any `redis.asyncio` client. It is never closed here.
        limit: places per key.
        lease: seconds that a place is held without renewal; renewed at a third of it.
        namespace, name: as for `Limiter`. deadline: seconds that one question to the server may take.

    Fails closed: Redis errors are raised, because whoever must not be more than `limit` cannot go on without an answer.
    """

    def __init__(
        self,
        client: RedisClient,
        limit: int,
        *,
        lease: Seconds = 30.0,
        namespace: str = "ap",
        name: str = "default",
        deadline: Seconds = 1.0,
    ) -> None:
        self.limit: Final = check_count(limit, "limit", 1)
        self.lease: Final = to_seconds(lease, "lease")
        self.name: Final = name
        self._lease_us: Final = to_microseconds(lease, "lease")
        self._client: Final = client
        self._namespace: Final = namespace
        self._commands: Final = lane_of(client)
        self._hook: Final = hook_of(client, "ratelimit")
        self._keys: Final = leases_keys(namespace, name)
        self._deadline: Final = to_seconds(deadline, "deadline")
        self._held = self._waiting = self._granted = self._refused = self._lost = 0

    @asynccontextmanager
    async def hold(self, key: str | bytes, *, timeout: Seconds | None = None) -> AsyncGenerator[Place, None]:
        """A place for the time of the block: one round trip before it, one after it, and renewals in between.

        `timeout`: seconds to wait for a place; None waits as long as it takes, 0 does not. Raises
        ConcurrencyLimitExceeded when there was none in time. However the block ends, the place is given back.
        """
        place = await self.acquire(key, timeout=timeout)
        renewing = asyncio.get_running_loop().create_task(self._keep(place), name=f"renew {place.key!r}")
        self._held += 1
        try:
            yield place
        except BaseException:
            self._post_release(place.key, place.token, "")  # cannot be cancelled
            raise
        else:
            await self._release_at_end(place)
        finally:
            self._held -= 1
            renewing.cancel()

    async def acquire(self, key: str | bytes, *, timeout: Seconds | None = None) -> Place:
        """A place that the caller renews and gives back; see `hold`. Cancelled, the place goes to the next in line."""
        return await self._hook.around("hold", self._acquire(key, timeout_seconds(timeout)))

    async def try_acquire(self, key: str | bytes) -> Place | None:
        """A place, or None; one round trip. Give it back within `lease` seconds, or renew it."""
        token = uuid.uuid4().hex
        try:
            decision = await self._ask(key, token, 0, "")
        except BaseException:
            self._post_release(key, token, "")
            raise
        self._granted += decision.allowed
        self._refused += not decision.allowed
        return Place(key, token) if decision.allowed else None

    async def renew(self, place: Place) -> bool:
        """Another `lease` seconds for a place, if it is still held. One round trip."""
        held = bool((await self._ask(place.key, place.token, 2, "")).allowed)
        if not held and not place.lost.is_set():
            self._lost += 1
            place.lost.set()
        return held

    async def release(self, place: Place) -> bool:
        """Give a place back; whether it was still held. One round trip. A second time does nothing."""
        return await concurrency_release(
            self._commands,
            holders=self._keys.key(place.key),
            line=line_key(self._keys, place.key),
            limit=self.limit,
            lease=self._lease_us,
            token=place.token,
            deadline=self._deadline,
        )

    async def holders(self, key: str | bytes) -> int:
        """How many places are held now, counting leases that have ended and were not cleared yet. One round trip."""
        full_key = self._keys.key(key)
        return int(await self._commands.call("ZCARD", full_key, key=full_key, deadline=self._deadline))

    def statistics(self) -> ConcurrencyStatistics:
        """A snapshot of what this object has done."""
        return ConcurrencyStatistics(self._held, self._waiting, self._granted, self._refused, self._lost)

    def __repr__(self) -> str:
        return f"<ConcurrencyLimiter {self.name!r} {self.limit} at once: {self._held} held, {self._waiting} waiting>"

    async def _acquire(self, key: str | bytes, patience: float | None) -> Place:
        place = await self.try_acquire(key)
        if place is not None:
            return place
        self._refused -= 1
        token = uuid.uuid4().hex
        inbox = await self._open_inbox() if patience != 0 else None
        self._waiting += 1
        try:
            async with asyncio.timeout(patience):
                if patience != 0:
                    await self._stand_in_line(key, token, inbox)
                    self._granted += 1
                    return Place(key, token)
        except TimeoutError:
            self._post_release(key, token, _channel(inbox))
        except BaseException:
            self._post_release(key, token, _channel(inbox))
            raise
        finally:
            self._waiting -= 1
            if inbox is not None:
                inbox.forget(token)
        self._refused += 1
        raise ConcurrencyLimitExceeded(readable(key), self.limit)

    async def _stand_in_line(self, key: str | bytes, token: str, inbox: Inbox | None) -> None:
        """Until the place is ours: by a message, or found when we look again."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[bool] = loop.create_future()

        def wake(payload: bytes | None) -> None:
            if not woken.done():
                woken.set_result(payload is not None)

        if inbox is not None:
            inbox.expect(token, wake)
        while True:
            decision = await self._ask(key, token, 1, _channel(inbox))
            if decision.allowed:
                return
            timer = loop.call_later(self._pause(decision, inbox), wake, None)
            try:
                if await woken:
                    return
            finally:
                timer.cancel()
            woken = loop.create_future()

    def _pause(self, decision: Decision, inbox: Inbox | None) -> float:
        """Until the first lease ends; without messages, until the next look."""
        until_first = decision.retry_after / 1_000_000 if decision.retry_after > 0 else POLL
        if inbox is None or not inbox.live:
            return min(until_first, random.uniform(POLL / 2, POLL * 1.5))
        return min(until_first, LONGEST_SLEEP)

    async def _open_inbox(self) -> Inbox | None:
        inbox = inbox_of(self._client, self._namespace)
        try:
            await inbox.open()
        except _TROUBLE:
            return None
        return inbox

    async def _ask(self, key: str | bytes, token: str, mode: int, channel: str) -> Decision:
        return await concurrency_acquire(
            self._commands,
            holders=self._keys.key(key),
            line=line_key(self._keys, key),
            limit=self.limit,
            lease=self._lease_us,
            token=token,
            mode=mode,
            channel=channel,
            deadline=self._deadline,
        )

    async def _keep(self, place: Place) -> None:
        """Renew until the block ends, or the place is lost."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.lease
        while not place.lost.is_set():
            await asyncio.sleep(self.lease / 3)
            asked = loop.time()
            try:
                if await self.renew(place):
                    ends = asked + self.lease
            except _TROUBLE:
                if loop.time() >= ends:  # nobody can say, but the lease has surely ended
                    self._lost += 1
                    place.lost.set()

    async def _release_at_end(self, place: Place) -> None:
        try:
            await self.release(place)
        except asyncio.CancelledError:
            self._post_release(place.key, place.token, "")
            raise
        except _TROUBLE:
            return  # the work is done; the lease gives the place back

    def _post_release(self, key: str | bytes, token: str, channel: str) -> None:
        post_concurrency_release(
            self._commands,
            holders=self._keys.key(key),
            line=line_key(self._keys, key),
            limit=self.limit,
            lease=self._lease_us,
            token=token,
            channel=channel,
        )


def _channel(inbox: Inbox | None) -> str:
    return "" if inbox is None else inbox.channel
