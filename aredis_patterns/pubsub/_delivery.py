"""`Delivery`: one message of a durable subscription in the hands of one consumer, and what it may do with it."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from aredis_patterns._core.durations import timeout_seconds
from aredis_patterns.pubsub._positions import EntryId, TopicEntry
from aredis_patterns.types import Seconds

__all__ = ["DeadDelivery", "Delivery", "Settler"]

T = TypeVar("T")

State: TypeAlias = Literal["held", "acked", "nacked", "rejected", "released", "lost"]


class Settler(Protocol):
    """The durable subscription, as a delivery sees it. True: done (or settled before); False: another consumer has it."""

    async def settle(self, deliveries: list[Delivery[Any]], reason: str) -> list[bool]: ...
    async def reschedule(self, delivery: Delivery[Any], delay: float | None) -> bool: ...
    def give_back(self, deliveries: list[Delivery[Any]]) -> None: ...


class Delivery(Generic[T]):
    """One message, held for `ack_wait`. Not settled by then, another consumer gets it.

    Each verb is one round trip, and returns False when the message has been handed to another consumer meanwhile: then
    nothing was done. With `async with` it is acknowledged at the end of the block, given back for another try when the
    block raises, and given back uncounted when it is cancelled.

        async for delivery in durable:
            async with delivery:
                await work(delivery.data)
    """

    __slots__ = ("_settler", "attempt", "entry", "state")

    def __init__(self, settler: Settler, entry: TopicEntry[T], attempt: int) -> None:
        self._settler: Final = settler
        self.entry: Final = entry
        self.attempt: Final = attempt
        """1 for the first delivery."""
        self.state: State = "held"

    @property
    def id(self) -> EntryId:
        """The id of the message."""
        return self.entry.id

    @property
    def number(self) -> int:
        """Its place in the topic."""
        return self.entry.number

    @property
    def data(self) -> T:
        """The message."""
        return self.entry.data

    @property
    def published_at(self) -> float:
        """Seconds since the epoch, by the server's clock."""
        return self.entry.published_at

    async def ack(self) -> bool:
        """Done: it will not be delivered again by this subscription."""
        if self._given_away():
            return False
        return self._now("acked", (await self._settler.settle([self], ""))[0])

    async def nack(self, delay: Seconds = 0.0) -> bool:
        """Try again, in so many seconds, perhaps elsewhere."""
        if self._given_away():
            return False
        return self._now("nacked", await self._settler.reschedule(self, timeout_seconds(delay, "delay")))

    async def reject(self, reason: str = "rejected") -> bool:
        """Never try again: it goes to the dead letters of the subscription."""
        if self._given_away():
            return False
        return self._now("rejected", (await self._settler.settle([self], reason or "rejected"))[0])

    async def extend(self) -> bool:
        """Still at work: hold it for another `ack_wait` from now on."""
        if self._given_away():
            return False
        held = await self._settler.reschedule(self, None)
        if not held:
            self.state = "lost"
        return held

    def release(self) -> None:
        """Give it back at once, as if it had not been delivered. Synchronous: nothing can get in between."""
        if self.state == "held":
            self._settler.give_back([self])
            self.state = "released"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.state != "held":
            return
        if kind is None:
            await self.ack()
        elif issubclass(kind, Exception):
            await self.nack()
        else:  # cancelled: this process is going away, or the caller is
            self.release()

    def _given_away(self) -> bool:
        # The next delivery of what was released has the same count as ours: the server could not tell us apart.
        return self.state == "released"

    def _now(self, state: State, done: bool) -> bool:
        self.state = state if done else "lost"
        return done

    def __repr__(self) -> str:
        return f"<Delivery {self.entry.position} attempt {self.attempt}, {self.state}>"


@dataclass(frozen=True, slots=True)
class DeadDelivery:
    """A message that a durable subscription has given up."""

    number: int
    attempts: int
    reason: str
    """`max_deliveries`, `undecodable`, or what `reject` was told."""
    raw: bytes
