"""The rank changes of one member: a push wakes, a read tells."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from redis.exceptions import ConnectionError as RedisConnectionError

from aredis_patterns._core.backoff import exponential
from aredis_patterns._core.members import M
from aredis_patterns.exceptions import PermissionDenied, ServerUnavailable, WireClosed
from aredis_patterns.leaderboards._records import Entry, RankChange
from aredis_patterns.pipelining import ListenerSubscription, listener_of
from aredis_patterns.types import RedisClient

__all__ = ["watch"]

SETTLE: Final = 0.02
"""Seconds between two reads at least: a burst of writes costs each watcher fifty reads a second, not one per write."""
LONGEST_TRUST: Final = 30.0
"""Seconds without a push after which a watcher looks by itself: a day may have ended, and nobody announces that."""


async def watch(
    client: RedisClient, channel: str, read: Callable[[], Awaitable[Entry[M] | None]], member: M, poll: float
) -> AsyncGenerator[RankChange[M], None]:
    """See `Board.watch`."""
    woken = asyncio.Event()
    subscription = await _subscribe(client, channel, woken)
    try:
        last: Entry[M] | None = None
        first = True
        pauses = exponential(first=0.05, longest=poll)
        while True:
            woken.clear()  # before the read: what is announced during it may be missing from its answer
            try:
                entry = await read()
            except WireClosed:
                raise
            except RedisConnectionError:
                await asyncio.sleep(next(pauses))
                continue
            pauses = exponential(first=0.05, longest=poll)
            if first or _place(entry) != _place(last):
                (rank, score), (rank_before, score_before) = _place(entry), _place(last)
                yield RankChange(member, rank, rank_before, score, score_before)
            first, last = False, entry
            await asyncio.sleep(SETTLE)
            pause = LONGEST_TRUST if subscription is not None else poll
            try:
                async with asyncio.timeout(pause * random.uniform(0.5, 1.5)):
                    await woken.wait()
            except TimeoutError:
                pass
    finally:
        if subscription is not None:
            subscription.close()


async def _subscribe(client: RedisClient, channel: str, woken: asyncio.Event) -> ListenerSubscription | None:
    def wake(*_: object) -> None:
        woken.set()

    try:
        return await listener_of(client).subscribe(channel, wake, on_gap=woken.set)
    except (PermissionDenied, ServerUnavailable):
        return None


def _place(entry: Entry[M] | None) -> tuple[int | None, float | None]:
    return (None, None) if entry is None else (entry.rank, entry.score)
