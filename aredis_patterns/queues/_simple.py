"""`SimpleQueue`: a Redis list, with the two mistakes of the usual recipe taken out."""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, overload

from aredis_patterns._core.codecs import Codec, JSONCodec
from aredis_patterns._core.durations import timeout_seconds, to_seconds
from aredis_patterns.exceptions import DecodeError, QueueClosed
from aredis_patterns.pipelining import lane_of
from aredis_patterns.queues._bell import Bell
from aredis_patterns.queues._keys import list_keys
from aredis_patterns.queues._scripts import simple_pop, simple_push
from aredis_patterns.queues._sessions import Sessions
from aredis_patterns.queues._shelf import Shelf, answer, fail
from aredis_patterns.queues._turns import PATIENCE, Turns, insist, insist_for
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["SimpleQueue"]

T = TypeVar("T")

MOST: Final = 1000
"""Items in one turn."""


class SimpleQueue(Generic[T]):
    """A list of items: LPUSH and BRPOP, done right. At most once.

    Guarantee: at most once. An item is gone when it has been handed out, so a worker that dies takes it along; use
    `ReliableQueue` where that matters. But a cancelled `dequeue` takes nothing along, a lost reply neither loses nor
    doubles items, and a waiting call needs no connection of its own and no polling. Oldest first.

    Cost: one round trip per operation when alone, shared by all that happen in one moment. The list is
    `<namespace>:list:{<name>}`, one encoded item per element, oldest on the left: other programs may RPUSH (found within
    five seconds) and LPOP. Memory: the list, and the items of the last turn of each consumer for an hour or until it is
    closed. Items have no TTL.

        queue = SimpleQueue(redis, "clicks")
        await queue.enqueue({"page": "/"})
        click = await queue.dequeue(timeout=5)

    Args: `client`, `name`, `codec`, `namespace` and `deadline` as for `ReliableQueue`. None cannot be an item: it is what
    `dequeue` returns when there is nothing.
    """

    @overload
    def __init__(
        self: SimpleQueue[Any], client: RedisClient, name: str, *, namespace: str = ..., deadline: Seconds = ...
    ) -> None: ...
    @overload
    def __init__(
        self, client: RedisClient, name: str, *, codec: Codec[T], namespace: str = ..., deadline: Seconds = ...
    ) -> None: ...
    def __init__(
        self,
        client: RedisClient,
        name: str,
        *,
        codec: Codec[Any] | None = None,
        namespace: str = "ap",
        deadline: Seconds = 5.0,
    ) -> None:
        self.name: Final = name
        self.namespace: Final = namespace
        self._client: Final = client
        self._commands: Final = lane_of(client)
        self._codec: Final[Codec[Any]] = codec if codec is not None else JSONCodec()
        self._deadline: Final = to_seconds(deadline, "deadline")
        self._items: Final = list_keys(namespace, name).items
        self._sessions: Final = Sessions(lambda: _Session(self))

    async def enqueue(self, item: T) -> int:
        """Append an item; the length of the queue then. One round trip. Raises EncodeError before any I/O, and
        OutcomeUnknown or ServerUnavailable when the server is away."""
        return await self._sessions.here().push([self._encode(item)])

    async def enqueue_many(self, items: Iterable[T]) -> int:
        """Append items in this order, whole parts of 1000 at a time; the length of the queue then."""
        values = [self._encode(item) for item in items]
        session = self._sessions.here()
        length = None
        for at in range(0, len(values), MOST):
            length = await session.push(values[at : at + MOST])
        return await self.size() if length is None else length

    async def dequeue(self, timeout: Seconds | None = None) -> T | None:
        """The oldest item; None when there was none for `timeout` seconds (None waits for ever, 0 does not wait).

        Cancelled at any moment, it takes nothing along. Raises DecodeError for an item that cannot be read; it is gone.
        """
        value = await self._sessions.here().next(timeout_seconds(timeout))
        return None if value is None else self._codec.decode(value)

    async def dequeue_many(self, count: int, timeout: Seconds | None = None) -> list[T]:
        """At most `count` items (1000): waits for the first one as `dequeue` does, and takes those that are there.

        One that cannot be read ends the batch before it; alone at the head of the next batch it is a DecodeError.
        """
        if not 1 <= count <= MOST:
            raise ValueError(f"count is from 1 to {MOST}, got {count!r}")
        session = self._sessions.here()
        limit = timeout_seconds(timeout)
        items: list[T] = []
        session.look_ahead(count - 1)
        try:
            value = await session.next(limit)
            while value is not None:
                try:
                    items.append(self._codec.decode(value))
                except DecodeError:
                    if not items:
                        raise
                    session.shelf.put_first(value)
                    break
                value = session.shelf.take() if len(items) < count else None
        finally:
            session.look_ahead(1 - count)
        return items

    async def size(self) -> int:
        """How many items there are. One round trip."""
        return int(await self._commands.call("LLEN", self._items, key=self._items, deadline=self._deadline))

    async def clear(self) -> None:
        """Forget all items. One round trip."""
        await self._commands.call("UNLINK", self._items, key=self._items, deadline=self._deadline, replay_safe=True)

    def __aiter__(self) -> AsyncIterator[T]:
        """Items, for ever."""
        return self._iterate()

    async def _iterate(self) -> AsyncGenerator[T, None]:
        while True:
            item = await self.dequeue()
            if item is not None:
                yield item

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what waits (QueueClosed) and be forgotten by the server. Using it again opens it anew."""
        session = self._sessions.forget()
        if session is not None:
            await session.aclose()

    def __repr__(self) -> str:
        return f"<SimpleQueue {self.name!r}>"

    def _encode(self, item: T) -> bytes:
        if item is None:
            raise ValueError("None cannot be an item: it is what dequeue returns when there is nothing")
        return self._codec.encode(item)


class _Session:
    """Both sides of a simple queue in one event loop. See `_consumer.py` for the same thing with leases."""

    def __init__(self, queue: SimpleQueue[Any]) -> None:
        token = secrets.token_hex(8)
        self.shelf: Final[Shelf[bytes]] = Shelf()
        self._name: Final = queue.name
        self._commands: Final = queue._commands
        self._deadline: Final = queue._deadline
        self._push_keys: Final = list_keys(queue.namespace, queue.name, f"producer-{token}")
        self._pop_keys: Final = list_keys(queue.namespace, queue.name, f"consumer-{token}")
        self._bell: Final = Bell(queue._client, queue.namespace, self._rung)
        self._pushing: Final = Turns(self._push, lambda: bool(self._pending), name=f"queue {queue.name}: enqueue")
        self._popping: Final = Turns(self._pop, self._wanted, name=f"queue {queue.name}: dequeue")
        self._pending: deque[tuple[list[bytes], asyncio.Future[int]]] = deque()
        self._returned: list[bytes] = []
        """Items that nobody wanted after all, youngest first."""
        self._pushes = self._pops = 0
        self._asleep = self._look = self._closed = False

    async def push(self, values: list[bytes]) -> int:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending.append((values, done))
        self._pushing.kick()
        return await done

    async def next(self, timeout: float | None) -> bytes | None:
        value = self.shelf.take()
        if value is not None:
            return value
        if self._closed:
            raise QueueClosed(self._name)
        taker, timer = self.shelf.ask(timeout)
        self._popping.kick()
        try:
            return await taker
        except asyncio.CancelledError:
            if self.shelf.leave(taker):
                self._hand_out()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def look_ahead(self, change: int) -> None:
        self.shelf.lookahead += change
        self._hand_out()

    async def aclose(self) -> None:
        self._closed, self._asleep = True, False
        self.shelf.fail(QueueClosed(self._name))
        self.shelf.lookahead = 0
        self._hand_out()
        await self._popping.finish(self._deadline)
        await self._pushing.finish(self._deadline)
        address = self._bell.address
        await self._bell.aclose()
        if address:
            self._commands.post("ZREM", self._pop_keys.consumers, address, key=self._pop_keys.items)
        for used, keys in ((self._pushes, self._push_keys), (self._pops, self._pop_keys)):
            if used:
                self._commands.post("UNLINK", keys.answer, key=keys.items)

    def _rung(self, heard: bool) -> None:
        self._asleep = False
        self._look = self._look or heard
        self._popping.kick()

    def _wanted(self) -> bool:
        if self._look or self.shelf.hasty:
            return True
        return not self._asleep and (bool(self._returned) or (not self._closed and self.shelf.demand > 0))

    def _hand_out(self) -> None:
        self.shelf.hand_out()
        surplus = list(self.shelf.surplus())
        if surplus:
            self._returned += surplus
            self._asleep = False
        self._popping.kick()

    async def _push(self) -> None:
        batch: list[tuple[list[bytes], asyncio.Future[int]]] = []
        count = 0
        while self._pending and (not batch or count + len(self._pending[0][0]) <= MOST):
            values, done = self._pending.popleft()
            if not done.done():
                batch.append((values, done))
                count += len(values)
        if not batch:
            return
        self._pushes += 1
        flat = [value for values, _ in batch for value in values]
        try:
            length = await insist_for(self._deadline, functools.partial(self._send, flat))
        except asyncio.CancelledError:
            for _, done in batch:
                fail(done, QueueClosed(self._name))
            raise
        except Exception as error:
            for _, done in batch:
                fail(done, error)
            return
        for _, done in batch:
            if not done.done():
                done.set_result(length)

    async def _send(self, values: list[bytes]) -> int:
        return await simple_push(
            self._commands, keys=self._push_keys, number=self._pushes, values=values, deadline=self._deadline
        )

    async def _pop(self) -> None:
        self._pops += 1
        self._look = False
        hasty, address = self.shelf.hasty_ones(), self._bell.address
        returned, self._returned = self._returned[:MOST][::-1], self._returned[MOST:]
        want = 0 if self._closed else min(MOST, self.shelf.demand)

        def go_on(error: Exception, seconds: float) -> bool:
            for taker in (*hasty, *self.shelf.hasty_ones()):
                fail(taker, error)
            return True

        try:
            values = await insist(functools.partial(self._take, want, address, returned), go_on)
        except Exception as error:
            self._returned = returned[::-1] + self._returned
            self.shelf.fail(error)
            self._asleep = True
            self._bell.look_in(1.0)
            return
        for value in values:
            self.shelf.put(value)
        self._hand_out()
        for taker in hasty:
            answer(taker, None)
        self._asleep = not self._returned and len(values) < want and bool(address or not self._bell.address)
        if self._asleep:
            self._bell.look_in(None)
        else:
            self._bell.silence()

    async def _take(self, want: int, address: str, returned: list[bytes]) -> list[bytes]:
        return await simple_pop(
            self._commands,
            keys=self._pop_keys,
            number=self._pops,
            want=want,
            address=address,
            patience=PATIENCE,
            returned=returned,
            deadline=self._deadline,
        )
