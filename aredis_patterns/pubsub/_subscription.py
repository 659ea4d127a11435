"""`Subscription`: what a subscriber holds. It waits; everything else is decided by its buffer and its switchboard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, cast

from aredis_patterns.exceptions import SlowConsumer
from aredis_patterns.pubsub._batches import Batches
from aredis_patterns.pubsub._buffer import LatestBuffer, RingBuffer
from aredis_patterns.pubsub._events import Event, Gap, Gaps

if TYPE_CHECKING:
    from aredis_patterns.pubsub._routes import Address
    from aredis_patterns.pubsub._switchboard import Switchboard

__all__ = ["Subscription", "SubscriptionStatistics"]

ItemT_co = TypeVar("ItemT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class SubscriptionStatistics:
    """What one subscription has seen."""

    received: int
    """Messages that came for it, dropped ones included."""
    buffered: int
    """Waiting to be read."""
    missed: int
    """Dropped because it was slow."""
    conflated: int
    """Replaced by a newer message of their channel (`latest`)."""
    gaps: int
    """Gaps delivered, or ignored as asked."""


class Subscription(Generic[ItemT_co]):
    """Messages of some channels, in the order of the server. Made by `PubSub.subscribe`.

        async with pubsub.subscribe("news") as subscription:
            async for item in subscription:
                ...

    `async with` (or `await`) returns when the server has confirmed all channels: what is published after that arrives, or
    a `Gap` stands in its place. One task reads; for another reader, subscribe again, it costs no connection.
    Cancelling a read loses nothing. Leaving the block, or `close()`, ends the iteration of a waiting reader.
    """

    def __init__(
        self,
        switchboard: Callable[[], Switchboard],
        addresses: Sequence[Address],
        buffer: RingBuffer[Any] | LatestBuffer[Any],
        gaps: Gaps,
        address_of: Callable[[str | bytes], Address],
    ) -> None:
        self._find: Final = switchboard
        self._address_of: Final = address_of
        self.addresses: Final = dict.fromkeys(addresses)
        """What it is subscribed to, in order."""
        self._buffer: Final = buffer
        self._items: Any = buffer.items if isinstance(buffer, RingBuffer) else buffer
        self._ignores_gaps: Final = gaps == "ignore"
        self._board: Switchboard | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._ended = False
        self._received = self._gaps = 0

    # opening and closing --------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._opened().__await__()

    async def __aenter__(self) -> Self:
        return await self._opened()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def _opened(self) -> Self:
        if self._board is not None or self._ended:
            raise RuntimeError(f"{self!r} was opened before: subscribe again")
        self._board = self._find()
        try:
            await self._board.join(self, list(self.addresses))
        except BaseException:
            self.close()
            raise
        return self

    async def add(self, *channels: str | bytes) -> None:
        """Subscribe to more channels (patterns, if it is a pattern subscription). Returns when confirmed."""
        board = self._opened_board()
        added = [address for address in map(self._address_of, channels) if address not in self.addresses]
        self.addresses.update(dict.fromkeys(added))
        try:
            await board.join(self, added)
        except BaseException:
            self._drop(added)
            raise

    def remove(self, *channels: str | bytes) -> None:
        """Leave channels. What is in the buffer stays there."""
        self._opened_board()
        self._drop([address for address in map(self._address_of, channels) if address in self.addresses])

    def close(self) -> None:
        """Leave all channels. A task that waits in `async for` ends normally. Safe to call twice."""
        self.end(None)
        self._buffer.clear()

    async def aclose(self) -> None:
        """As `close`."""
        self.close()

    def _drop(self, addresses: Sequence[Address]) -> None:
        for address in addresses:
            self.addresses.pop(address, None)
            if self._board is not None:
                self._board.leave(self, address)

    def _opened_board(self) -> Switchboard:
        if self._board is None or self._ended:
            raise RuntimeError(f"{self!r} is not open: use `async with` or `await`")
        return self._board

    # reading --------------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT_co:
        # The one hot path of a subscriber: nothing here that is not needed while there is something to read.
        while True:
            try:
                item: ItemT_co = self._items.popleft()
            except IndexError:
                waiter = self._something()
                try:
                    await waiter
                finally:
                    self._waiter = None
                continue
            if type(item) is not Gap:
                return item
            self._gaps += 1
            self._buffer.took_gap()
            if not self._ignores_gaps:
                return item

    def batches(self) -> Batches[ItemT_co]:
        """As `async for`, but everything that is there at a time, as a list: for readers that can do more with many.

        async for items in subscription.batches():
            await database.insert(items)
        """
        return Batches(self.batch)

    async def batch(self) -> list[ItemT_co]:
        """Everything that is there, at least one item. StopAsyncIteration at the end: see `batches`."""
        found = [await anext(self)]
        items = self._items
        while items:
            item: Any = items.popleft()
            if type(item) is Gap:
                self._gaps += 1
                self._buffer.took_gap()
                if self._ignores_gaps:
                    continue
            found.append(cast(ItemT_co, item))
        return found

    def _something(self) -> asyncio.Future[None]:
        """Done when there is something to read; raises what the end of the subscription means."""
        if self._buffer.overrun:
            self.end(SlowConsumer(self._names(), self._buffer.missed))
        if self._ended:
            if self._error is not None:
                raise self._error
            raise StopAsyncIteration
        if self._board is None:
            raise RuntimeError(f"{self!r} is not open: use `async with` or `await`")
        if self._waiter is not None:
            raise RuntimeError("another task reads this subscription: subscribe once for each reader")
        self._waiter = waiter = self._board.loop.create_future()
        return waiter

    # told by the switchboard ----------------------------------------------------------------------------------------

    def fill(self, events: Sequence[Event[Any]]) -> None:
        """Messages have come."""
        self._received += len(events)
        self._buffer.fill(events)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def note(self, gap: Gap) -> None:
        """Messages will not come."""
        self._buffer.note(gap)
        self._wake()

    def end(self, error: Exception | None) -> None:
        """Nothing more comes. What is in the buffer can still be read."""
        if self._ended:
            return
        self._ended, self._error = True, error
        self._drop(list(self.addresses))
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # looking --------------------------------------------------------------------------------------------------------

    @property
    def limit(self) -> int:
        """Most messages that it may be behind."""
        return self._buffer.limit

    @property
    def live(self) -> bool:
        """Whether the server has confirmed all channels on a connection that is open now."""
        board = self._board
        return board is not None and not self._ended and all(board.live(address) for address in self.addresses)

    def statistics(self) -> SubscriptionStatistics:
        """A snapshot."""
        return SubscriptionStatistics(
            received=self._received,
            buffered=len(self._buffer),
            missed=self._buffer.missed,
            conflated=self._buffer.conflated if isinstance(self._buffer, LatestBuffer) else 0,
            gaps=self._gaps,
        )

    def __repr__(self) -> str:
        state = "ended" if self._ended else "not open" if self._board is None else "live" if self.live else "waiting"
        return f"<Subscription {self._names()} {state}, {len(self._buffer)} of {self._buffer.limit} buffered>"

    def _names(self) -> str:
        return ", ".join(address.name for address in self.addresses)
