"""The sending half of a topic: one script, sent again as often as needed, executed once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from aredis_patterns.exceptions import ServerUnavailable, TopicFull
from aredis_patterns.pubsub._operations import WINDOW
from aredis_patterns.pubsub._positions import EntryId, parse_id
from aredis_patterns.pubsub._scripts import topic_publish
from aredis_patterns.pubsub._surely import surely
from aredis_patterns.pubsub._topic_core import TopicCore
from aredis_patterns.types import Key

__all__ = ["Publication", "TopicLimits", "TopicPublisher"]


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published, or had been before under the same `dedup_id`."""

    id: EntryId
    number: int
    deduplicated: bool = False


@dataclass(frozen=True, slots=True)
class TopicLimits:
    """What is kept. Durations in ms, 0: no limit."""

    maxlen: int
    max_age: int
    interest: bool
    dedup_window: int


class TopicPublisher:
    """Appends to one topic."""

    def __init__(self, core: TopicCore, limits: TopicLimits) -> None:
        self._core: Final = core
        self._limits: Final = limits

    async def append(self, bodies: Sequence[bytes], dedup_id: Key | None, deadline: float | None) -> Publication:
        """Append bodies as one operation; the first of them. One round trip."""
        limits = self._limits
        core, keys, feed = self._core, self._core.keys, self._core.feed()
        operation = await (feed.operations.begin() if deadline is None else self._begin_within(deadline))
        try:
            call = partial(
                topic_publish,
                core.commands,
                stream=core.stream,
                counter=keys.counter,
                window=keys.published(feed.producer),
                dedup=keys.counter if dedup_id is None else keys.dedup(dedup_id),
                durables=keys.durables,
                floors=keys.floors,
                operation=operation,
                remember=WINDOW,
                dedup_ttl=0 if dedup_id is None else limits.dedup_window,
                maxlen=limits.maxlen,
                max_age=limits.max_age,
                interest=limits.interest,
                channel=keys.channel,
                sharded=core.sharded,
                lengths=",".join(str(len(body)) for body in bodies),
                bodies=b"".join(bodies),
                deadline=deadline,
            )
            done = await surely(call)
        finally:
            feed.operations.end(operation)
        if not done.status:
            raise TopicFull(core.name, done.number)
        return Publication(parse_id(done.id.encode()), done.number, done.status == 2)

    async def _begin_within(self, deadline: float) -> int:
        try:
            async with asyncio.timeout(deadline):
                return await self._core.feed().operations.begin()
        except TimeoutError:
            raise ServerUnavailable(
                f"{self._core.name!r}: not published, for {deadline:g} s others before it were waiting for their replies"
            ) from None
