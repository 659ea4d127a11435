"""What a consumer of a durable subscription says to the server. No waiting, no state but the number of its request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aredis_patterns._core.durations import to_milliseconds
from aredis_patterns.pubsub._delivery import Delivery
from aredis_patterns.pubsub._positions import BEGINNING, EntryId, Position, parse_id
from aredis_patterns.pubsub._scripts import Fetched, durable_fetch, durable_reschedule, durable_settle, post_reschedule
from aredis_patterns.pubsub._surely import surely
from aredis_patterns.pubsub._topic_core import TopicCore

__all__ = ["DurableCalls", "DurableOptions"]

DEADLINE: Final = 5.0
"""Seconds for a fetch. After that the same request is made again, and gets the same messages."""


@dataclass(frozen=True, slots=True)
class DurableOptions:
    """What all consumers of a durable subscription should agree on. Durations in ms."""

    ack_wait: int
    max_deliveries: int
    max_unacked: int
    inactive_after: int


class DurableCalls:
    """The calls of one consumer. Implements `Settler`."""

    def __init__(self, core: TopicCore, name: str, consumer: str, options: DurableOptions) -> None:
        self._core: Final = core
        self._name: Final = name
        self._options: Final = options
        self._keys: Final = core.keys.durable(name)
        self._last: Final = core.keys.last_fetch(name, consumer)
        self._channel: Final = core.keys.channel
        self._request = 1

    async def fetch(self, count: int, *, create_at: Position | None = None) -> Fetched:
        """Take up to `count` messages. Whatever happens to the reply, the next call gets what this one would have got."""
        keys, options = self._keys, self._options
        cursor = create_at or BEGINNING
        fetched = await durable_fetch(
            self._core.commands,
            stream=self._core.stream,
            state=keys.state,
            leases=keys.leases,
            order=keys.order,
            attempts=keys.attempts,
            dead=keys.dead,
            last=self._last,
            durables=self._core.keys.durables,
            floors=self._core.keys.floors,
            name=self._name,
            request=self._request,
            count=count,
            ack_wait=options.ack_wait,
            max_deliveries=options.max_deliveries,
            max_unacked=options.max_unacked,
            inactive_after=options.inactive_after,
            create=create_at is not None,
            cursor=str(cursor.id),
            number=cursor.number or 0,
            deadline=DEADLINE,
        )
        self._request += 1
        return fetched

    async def settle(self, deliveries: list[Delivery[Any]], reason: str) -> list[bool]:
        """See `Settler`."""
        keys = self._keys
        call = partial(
            durable_settle,
            self._core.commands,
            stream=self._core.stream,
            state=keys.state,
            leases=keys.leases,
            order=keys.order,
            attempts=keys.attempts,
            dead=keys.dead,
            floors=self._core.keys.floors,
            durables=self._core.keys.durables,
            name=self._name,
            settled=_named(deliveries),
            reason=reason,
            max_unacked=self._options.max_unacked,
            channel=self._channel,
            sharded=self._core.sharded,
            inactive_after=self._options.inactive_after,
        )
        return [code != 0 for code in await surely(call)]

    async def reschedule(self, delivery: Delivery[Any], delay: float | None) -> bool:
        """See `Settler`. None: hold it for another `ack_wait`."""
        keys = self._keys
        ms = self._options.ack_wait if delay is None else to_milliseconds(delay, "delay") if delay else 0
        call = partial(
            durable_reschedule,
            self._core.commands,
            state=keys.state,
            leases=keys.leases,
            attempts=keys.attempts,
            order=keys.order,
            dead=keys.dead,
            floors=self._core.keys.floors,
            durables=self._core.keys.durables,
            settled=_named([delivery]),
            delay=ms,
            uncounted=False,
            wake=delay is not None,
            channel=self._channel,
            sharded=self._core.sharded,
            name=self._name,
            inactive_after=self._options.inactive_after,
        )
        return (await surely(call))[0] == 1

    def give_back(self, deliveries: list[Delivery[Any]]) -> None:
        """See `Settler`. Lands behind everything that was sent before, and cannot be cancelled."""
        keys = self._keys
        post_reschedule(
            self._core.commands,
            state=keys.state,
            leases=keys.leases,
            attempts=keys.attempts,
            order=keys.order,
            dead=keys.dead,
            floors=self._core.keys.floors,
            durables=self._core.keys.durables,
            settled=_named(deliveries),
            delay=0,
            uncounted=True,
            wake=True,
            channel=self._channel,
            sharded=self._core.sharded,
            name=self._name,
            inactive_after=self._options.inactive_after,
        )

    def parse(self, id: str) -> EntryId:
        """An id of the server."""
        return parse_id(id.encode())


def _named(deliveries: Sequence[Delivery[Any]]) -> str:
    return " ".join(f"{delivery.id} {delivery.attempt}" for delivery in deliveries)
