"""`Durable`: a named subscription whose place is kept by the server, for any number of competing consumers."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import random
import secrets
from collections import deque
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, cast

from redis.exceptions import ConnectionError, TimeoutError

from aredis_patterns._core.backoff import exponential
from aredis_patterns.exceptions import OutcomeUnknown, ServerRefused, ServerUnavailable, WireClosed
from aredis_patterns.pubsub._delivery import Delivery
from aredis_patterns.pubsub._durable_calls import DurableCalls, DurableOptions
from aredis_patterns.pubsub._events import Gap, Gaps
from aredis_patterns.pubsub._positions import ParsedStart, Stored, TopicEntry
from aredis_patterns.pubsub._scripts import Fetched
from aredis_patterns.pubsub._topic_core import TopicCore
from aredis_patterns.pubsub._topic_feed import POLL, Run, TopicFeed

__all__ = ["Durable"]

ItemT_co = TypeVar("ItemT_co", covariant=True)

LONGEST_SLEEP: Final = 30.0
"""Seconds after which an idle consumer asks all the same: it also says that it is still there."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0


class Durable(Generic[ItemT_co]):
    """A named subscription to a topic. Made by `Topic.durable`.

    Guarantee: at least once. The server keeps the place, so consumers may come and go; each message goes to one of those
    with the same name, and comes again if it is not settled within `ack_wait` (by the server's clock), because its
    consumer was killed or too slow. Order is that of the topic, except for messages that come again.

    One round trip fetches up to `prefetch` messages, and nobody polls: an idle consumer is woken by the publication, or
    by its own timer when a message is due again. Cancelling a read loses nothing. Several tasks may read.

        async with topic.durable("billing") as durable:
            async for delivery in durable:
                async with delivery:
                    await charge(delivery.data)
    """

    def __init__(
        self, core: TopicCore, name: str, start: ParsedStart, options: DurableOptions, *, prefetch: int, gaps: Gaps
    ) -> None:
        self.name: Final = name
        self.prefetch: Final = prefetch
        self._core: Final = core
        self._start: Final = start
        self._ignores_gaps: Final = gaps == "ignore"
        self._calls: Final = DurableCalls(core, name, secrets.token_hex(8), options)
        self._sleep: Final = min(LONGEST_SLEEP, options.inactive_after / 3000)
        self._ready: deque[Delivery[Any] | Gap] = deque()
        self._waiters: set[asyncio.Future[None]] = set()
        self._changed = asyncio.Event()
        """Something may be there to fetch."""
        self._fetching: asyncio.Task[None] | None = None
        self._feed: TopicFeed | None = None
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
        await self.aclose()

    async def _opened(self) -> Self:
        if self._feed is not None or self._ended:
            raise RuntimeError(f"{self!r} was opened before: make another one")
        self._feed = self._core.feed()
        try:
            await self._feed.join(self)
            await self._register(self._start)
        except BaseException:
            self.end(None)
            raise
        return self

    async def _register(self, start: ParsedStart) -> None:
        """See that the subscription exists. It keeps its place when it does, and then `start` means nothing."""
        if (await self._calls.fetch(0)).status:
            return
        position, whole = await self._core.locate(start)
        await self._calls.fetch(0, create_at=position)
        if not whole:
            self._ready.append(Gap("trimmed", None, self._core.name))

    async def aclose(self) -> None:
        """Stop consuming; what was fetched and not taken is given back, uncounted. The subscription stays on the server."""
        self.end(None)
        fetching = self._fetching
        if fetching is not None and fetching is not asyncio.current_task():
            await asyncio.wait([fetching])

    def end(self, error: Exception | None) -> None:
        """See `Reader.end`."""
        if self._ended:
            return
        self._ended, self._error = True, error
        if self._feed is not None:
            self._feed.leave(self)
        self._give_back_what_is_ready()
        self.look()
        self._wake()

    def _give_back_what_is_ready(self) -> None:
        held = [item for item in self._ready if isinstance(item, Delivery)]
        self._ready.clear()
        if held and self._error is None:
            self._calls.give_back(held)

    # reading --------------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT_co:
        while True:
            while not self._ready:
                await self._something()
            item = self._ready.popleft()
            if self._ignores_gaps and isinstance(item, Gap):
                continue
            return cast(ItemT_co, item)

    async def ack_many(self, deliveries: Sequence[Delivery[Any]]) -> list[bool]:
        """Acknowledge several at once: one round trip. See `Delivery.ack`."""
        held = list(deliveries)
        ours = [delivery for delivery in held if delivery.state != "released"]
        done = await self._calls.settle(ours, "") if ours else []
        for delivery, settled in zip(ours, done, strict=True):
            delivery.state = "acked" if settled else "lost"
        return [delivery.state == "acked" for delivery in held]

    async def _something(self) -> None:
        if self._ended:
            if self._error is not None:
                raise self._error
            raise StopAsyncIteration
        if self._feed is None:
            raise RuntimeError(f"{self!r} is not open: use `async with` or `await`")
        loop = self._feed.loop
        if self._fetching is None:
            # A task of its own: a reader that is cancelled must not take a fetch with it, whose messages are ours already.
            self._fetching = loop.create_task(
                self._fetch_until_somebody_has_something(), name="aredis-patterns durable"
            )
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
            if not self._waiters:
                self._changed.set()  # nobody is left to fetch for

    async def _fetch_until_somebody_has_something(self) -> None:
        pauses = exponential(first=FIRST_PAUSE, longest=LONGEST_PAUSE)
        try:
            while self._waiters and not self._ended and not self._ready:
                self._changed.clear()
                try:
                    fetched = await self._calls.fetch(self.prefetch)
                    if not fetched.status:
                        await self._begin_anew()
                        continue
                except (WireClosed, ServerRefused):
                    raise
                except (ConnectionError, TimeoutError):
                    await asyncio.sleep(next(pauses))
                    continue
                await self._take_in(fetched)
                if not self._ready and not self._ended:
                    await self._sleep_until(fetched.next_due)
        except Exception as error:
            self.end(error)
        finally:
            self._fetching = None
            if self._ended:
                self._give_back_what_is_ready()
            self._wake()

    async def _begin_anew(self) -> None:
        """The subscription is gone, and perhaps everything else: what is there now is all that can still be had."""
        self._ready.append(Gap("reset", None, self._core.name))
        await self._register(ParsedStart("all", "", None))

    async def _take_in(self, fetched: Fetched) -> None:
        if fetched.missed:
            known = fetched.missed > 0
            self._ready.append(Gap("trimmed" if known else "reset", fetched.missed if known else None, self._core.name))
        unreadable: list[Delivery[Any]] = []
        for handed in fetched.batch:
            stored = Stored(self._calls.parse(handed.id), handed.number, handed.data)
            entry = self._core.decode(stored)
            if entry is None:
                # Nobody here will ever read it: it goes to the dead letters, not round in circles.
                unreadable.append(
                    Delivery(self._calls, TopicEntry(stored.id, handed.number, None, stored.raw), handed.attempt)
                )
                self._ready.append(Gap("undecodable", 1, self._core.name))
            else:
                self._ready.append(Delivery(self._calls, entry, handed.attempt))
        if unreadable:
            with contextlib.suppress(OutcomeUnknown, ServerUnavailable):  # then they come again, and are given up then
                await self._calls.settle(unreadable, "undecodable")

    async def _sleep_until(self, next_due: int) -> None:
        longest = self._sleep if next_due < 0 else min(self._sleep, next_due / 1000)
        if self._feed is not None and self._feed.polls:
            longest = min(longest, random.uniform(POLL / 2, POLL))
        try:
            async with asyncio.timeout(longest):
                await self._changed.wait()
        except builtins.TimeoutError:
            pass

    # told by the feed -----------------------------------------------------------------------------------------------

    def offer(self, run: Run) -> None:
        """See `Reader.offer`. Who gets a message is for the server to say."""
        self._changed.set()

    def look(self) -> None:
        """See `Reader.look`."""
        self._changed.set()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def __repr__(self) -> str:
        state = "ended" if self._ended else "not open" if self._feed is None else "open"
        return f"<Durable {self.name!r} of {self._core.name!r} {state}, {len(self._ready)} fetched>"
