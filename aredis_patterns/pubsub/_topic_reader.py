"""`TopicSubscription`: reads a topic from a position of its own, live when it is up to date, from the stream when not.

    up to date:  offered messages that follow the position are taken           no round trip
    behind:      buffer full, a hole in the numbers, a lost connection ->      read the stream, until up to date again

The position only moves when messages are in the buffer, so a reader that is cancelled anywhere loses nothing.
"""

from __future__ import annotations

import asyncio
import builtins
import random
from collections import deque
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, cast

from redis.exceptions import ConnectionError, TimeoutError

from aredis_patterns._core.backoff import exponential
from aredis_patterns.exceptions import ServerRefused, WireClosed
from aredis_patterns.pubsub._batches import Batches
from aredis_patterns.pubsub._events import Gap, Gaps
from aredis_patterns.pubsub._positions import BEGINNING, ParsedStart, Position, Stored, TopicEntry
from aredis_patterns.pubsub._topic_core import TopicCore
from aredis_patterns.pubsub._topic_feed import POLL, Run, TopicFeed

__all__ = ["TopicSubscription"]

ItemT_co = TypeVar("ItemT_co", covariant=True)

MOST_READ: Final = 256
"""Messages of one read of the stream."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0


class TopicSubscription(Generic[ItemT_co]):
    """The messages of a topic, in order, each once. Made by `Topic.subscribe`.

        async with topic.subscribe("all") as subscription:
            async for item in subscription:
                ...

    Nothing is lost while the topic keeps it: a reader that is slow, or cut off for a while, reads on where it was. What
    was trimmed before it got there is a `Gap` with the exact number. It survives restarts of the server by trying again
    until somebody answers; give it a timeout where that is not wanted. One task reads.
    """

    def __init__(self, core: TopicCore, start: ParsedStart, *, buffer: int, gaps: Gaps) -> None:
        self._core: Final = core
        self._start: Final = start
        self._limit: Final = buffer
        self._ignores_gaps: Final = gaps == "ignore"
        self._items: deque[TopicEntry[Any] | Gap] = deque()
        self._position: Position = BEGINNING
        self._behind = True
        self._again = False
        """Something came while the stream was being read."""
        self._feed: TopicFeed | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._ended = False

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
        if self._feed is not None or self._ended:
            raise RuntimeError(f"{self!r} was opened before: subscribe again")
        self._feed = self._core.feed()
        self._feed.respect(self._limit)
        try:
            await self._feed.join(self)  # first listen, then look where we are: nothing falls in between
            self._position, whole = await self._core.locate(self._start)
        except BaseException:
            self.close()
            raise
        self._behind = self._start.kind != "new" or self._again
        if not whole:
            self._items.append(Gap("trimmed", None, self._core.name))
        return self

    def close(self) -> None:
        """End the subscription. A task that waits in `async for` ends normally. Safe to call twice."""
        self.end(None)
        self._items.clear()

    async def aclose(self) -> None:
        """As `close`."""
        self.close()

    @property
    def position(self) -> str:
        """Behind which message to read on, for `start=` of another subscription. Of the newest one in the buffer."""
        return str(self._position)

    # reading --------------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT_co:
        while True:
            try:
                item: Any = self._items.popleft()
            except IndexError:
                await self._something()
                continue
            if type(item) is not Gap or not self._ignores_gaps:
                return cast(ItemT_co, item)

    def batches(self) -> Batches[ItemT_co]:
        """As `async for`, but everything that is here at a time, as a list. See `Subscription.batches`."""
        return Batches(self.batch)

    async def batch(self) -> list[ItemT_co]:
        """Everything that is here, at least one item. StopAsyncIteration at the end: see `batches`."""
        found = [await anext(self)]
        rest, self._items = self._items, deque()
        found += [cast(ItemT_co, item) for item in rest if type(item) is not Gap or not self._ignores_gaps]
        return found

    async def _something(self) -> None:
        feed = self._feed
        if self._ended:
            if self._error is not None:
                raise self._error
            raise StopAsyncIteration
        if feed is None:
            raise RuntimeError(f"{self!r} is not open: use `async with` or `await`")
        if self._waiter is not None:
            raise RuntimeError("another task reads this subscription: subscribe once for each reader")
        if self._behind:
            await self._catch_up()
            return
        self._waiter = feed.loop.create_future()
        try:
            if feed.polls:
                async with asyncio.timeout(random.uniform(POLL / 2, POLL)):
                    await self._waiter
            else:
                await self._waiter
        except builtins.TimeoutError:
            self._behind = True
        finally:
            self._waiter = None

    async def _catch_up(self) -> None:
        count = min(self._limit, MOST_READ)
        self._again = False
        stored = await self._read(count)
        self._take_in(stored)
        self._behind = self._again or len(stored) == count

    async def _read(self, count: int) -> Sequence[Stored]:
        """Read on, for as long as it takes until somebody answers."""
        pauses = exponential(first=FIRST_PAUSE, longest=LONGEST_PAUSE)
        while True:
            try:
                return await self._core.read(self._position.id, count)
            except (WireClosed, ServerRefused):
                raise
            except (ConnectionError, TimeoutError):
                await asyncio.sleep(next(pauses))

    def _take_in(self, stored: Sequence[Stored]) -> None:
        for each in stored:
            last = self._position.number
            number = each.number
            if number is None:
                number = (last or 0) + 1
                each = each._replace(number=number)
            if last is not None and number > last + 1:
                self._items.append(Gap("trimmed", number - last - 1, self._core.name))
            elif last is not None and number <= last:
                self._items.append(Gap("reset", None, self._core.name))
            self._append(self._core.decode(each))
            self._position = Position(each.id, number)

    def _append(self, entry: TopicEntry[Any] | None) -> None:
        self._items.append(Gap("undecodable", 1, self._core.name) if entry is None else entry)

    # told by the feed -----------------------------------------------------------------------------------------------

    def offer(self, run: Run) -> None:
        """See `Reader.offer`."""
        position = self._position
        if self._behind:
            self._again = True
        elif run.last.id <= position.id:
            return  # read before
        elif (
            position.number is not None
            and run.number == position.number + 1
            and run.first.id > position.id
            and len(self._items) + len(run.entries) <= self._limit
        ):
            if run.readable:
                self._items.extend(run.entries)  # type: ignore[arg-type]  # no None among them
            else:
                for entry in run.entries:
                    self._append(entry)
            self._position = run.end
        else:
            self._behind = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def look(self) -> None:
        """See `Reader.look`."""
        self._again = self._behind = True
        self._wake()

    def end(self, error: Exception | None) -> None:
        """See `Reader.end`. What is in the buffer can still be read."""
        if self._ended:
            return
        self._ended, self._error = True, error
        if self._feed is not None:
            self._feed.leave(self)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __repr__(self) -> str:
        state = "ended" if self._ended else "not open" if self._feed is None else "behind" if self._behind else "live"
        return f"<TopicSubscription {self._core.name!r} {state} at {self._position}, {len(self._items)} buffered>"
