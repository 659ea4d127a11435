"""`ReliableQueue`: work that is delivered at least once, and handled exactly once wherever Redis can see to it."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar, overload

from aredis_patterns._core.codecs import Codec, JSONCodec
from aredis_patterns._core.durations import timeout_seconds
from aredis_patterns.exceptions import LeaseLost
from aredis_patterns.queues._administration import Administration
from aredis_patterns.queues._backoff import Backoff
from aredis_patterns.queues._consumer import MOST_TAKEN, Consumer
from aredis_patterns.queues._envelope import facts_of, pack
from aredis_patterns.queues._keys import queue_keys
from aredis_patterns.queues._message import Message
from aredis_patterns.queues._policy import Policy
from aredis_patterns.queues._processing import MessageHandler, Processor, stopping_on
from aredis_patterns.queues._producer import MOST_IN_A_TURN, MessageId, Producer
from aredis_patterns.queues._sessions import Sessions
from aredis_patterns.queues._statistics import QueueStatistics
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["ReliableQueue"]

T = TypeVar("T")


class _Session(NamedTuple):
    """Both sides of the queue in one event loop."""

    producer: Producer
    consumer: Consumer


class ReliableQueue(Administration, Generic[T]):
    """A queue that loses nothing: at least once, fenced by leases, exactly once where only replies were lost.

    Guarantee. A message that `enqueue` returned for is delivered until somebody acks it, or it has failed
    `max_deliveries` times and lies with the dead letters. While its lease lives, nobody else gets it; leases are renewed
    by themselves and end by the server's clock, so what a killed worker had comes back within one lease. Lost replies
    cause neither duplicates nor losses: scripts know a repeated turn. What remains possible: a second delivery after a
    lease was lost, and what a failover of an asynchronous replica forgets.

    Order: higher priority first, then oldest first. With `group`, groups of one priority take turns. With
    `ordering_key`, one message per key at a time, in the order of enqueueing. A message that comes back stands before
    all that are younger.

    Cost: one round trip per operation when alone; what happens in one loop tick, or while a request is under way, shares
    one. Acks ride on the next dequeue. Idle: a look every five seconds, woken by a push. One shared connection and one
    that listens, per client. Memory: about 300 bytes and the body per message, 130 more while it is leased or delayed.
    Complexity O(log n) per message.

        queue = ReliableQueue(redis, "mails")
        await queue.enqueue({"to": "ada@example.org"})
        async for message in queue.consume():
            async with message:
                await send_mail(message.body)

    Args:
        client: any `redis.asyncio` client, pipelined or stock. It is never closed here.
        name: of the queue; the same in all processes.
        lease: seconds for which a delivery belongs to its consumer, renewed at each third of it. What a worker that
            died had comes back so much later.
        max_deliveries: failures after which a message is dead; None for never.
        backoff: pause after a failure.
        maxlen: unfinished messages that the queue may hold when this producer adds some; None for no bound.
        dead_letter: False forgets messages that failed too often, instead of keeping them.
        dedup_window: seconds in which a `dedup_key` stands for the first message that had it.
        codec: how bodies become bytes; JSON by default. `JSONCodec(Model)` types them.
        namespace: begins every key.
        deadline: seconds after which a silent server is an error for `enqueue` and the administrative methods. Consumers
            wait for it to come back.

    Fails closed: while the server is away `enqueue` raises, and nothing is delivered.
    """

    @overload
    def __init__(
        self: ReliableQueue[Any],
        client: RedisClient,
        name: str,
        *,
        lease: Seconds = ...,
        max_deliveries: int | None = ...,
        backoff: Backoff | None = ...,
        maxlen: int | None = ...,
        dead_letter: bool = ...,
        dedup_window: Seconds = ...,
        namespace: str = ...,
        deadline: Seconds = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        client: RedisClient,
        name: str,
        *,
        codec: Codec[T],
        lease: Seconds = ...,
        max_deliveries: int | None = ...,
        backoff: Backoff | None = ...,
        maxlen: int | None = ...,
        dead_letter: bool = ...,
        dedup_window: Seconds = ...,
        namespace: str = ...,
        deadline: Seconds = ...,
    ) -> None: ...
    def __init__(
        self,
        client: RedisClient,
        name: str,
        *,
        codec: Codec[Any] | None = None,
        lease: Seconds = 30.0,
        max_deliveries: int | None = 5,
        backoff: Backoff | None = None,
        maxlen: int | None = None,
        dead_letter: bool = True,
        dedup_window: Seconds = 300.0,
        namespace: str = "ap",
        deadline: Seconds = 5.0,
    ) -> None:
        self._policy: Final = Policy.checked(
            lease=lease,
            max_deliveries=max_deliveries,
            backoff=backoff,
            maxlen=maxlen,
            dead_letter=dead_letter,
            dedup_window=dedup_window,
            deadline=deadline,
        )
        super().__init__(
            client,
            name,
            namespace=namespace,
            codec=codec if codec is not None else JSONCodec(),
            deadline=self._policy.deadline,
        )
        self._sessions: Final = Sessions(self._begin)

    # producing --------------------------------------------------------------------------------------------------------

    async def enqueue(
        self,
        body: T,
        *,
        delay: Seconds | None = None,
        at: datetime | None = None,
        priority: int = 0,
        group: str | None = None,
        ordering_key: str | None = None,
        dedup_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        wait: Seconds | None = 0,
    ) -> MessageId:
        """Add one message. One round trip, shared with all other calls of the same moment.

        Not delivered before `delay` seconds are over, or before the moment `at` (with a time zone). `priority` from -100
        to 100. `group`: whose share of the queue it takes. `ordering_key`: only one message of a key is under way. With a
        `dedup_key` that was used within `dedup_window`, nothing is enqueued: the id is that of the first message, and its
        `deduplicated` is true. `headers` are text beside the body. `wait`: seconds for room in a bounded queue.

        Raises EncodeError or ValueError before any I/O, QueueFull when there was no room in time, OutcomeUnknown or
        ServerUnavailable when the server is away. Cancelled before it was sent, nothing is enqueued.
        """
        facts = None
        if (
            delay is not None
            or at is not None
            or priority
            or group is not None
            or ordering_key is not None
            or dedup_key is not None
            or headers
        ):
            facts = facts_of(
                delay=delay,
                at=at,
                priority=priority,
                group=group,
                ordering_key=ordering_key,
                dedup_key=dedup_key,
                headers=headers,
            )
        envelope = pack(facts, self._codec.encode(body))
        return (await self._here().producer.put((envelope,), timeout_seconds(wait, "wait")))[0]

    async def enqueue_many(
        self,
        bodies: Iterable[T],
        *,
        delay: Seconds | None = None,
        at: datetime | None = None,
        priority: int = 0,
        group: str | None = None,
        ordering_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        wait: Seconds | None = 0,
    ) -> list[MessageId]:
        """Add messages, in this order. Options and errors as for `enqueue`; all are encoded before anything is sent.

        All or nothing, in one round trip, up to 1000 messages. More are added in parts of 1000, each whole; where `maxlen`
        would make that half a batch, more than 1000 are a ValueError.
        """
        facts = facts_of(delay=delay, at=at, priority=priority, group=group, ordering_key=ordering_key, headers=headers)
        encode = self._codec.encode
        envelopes = [pack(facts, encode(body)) for body in bodies]
        limit = timeout_seconds(wait, "wait")
        if len(envelopes) > MOST_IN_A_TURN and self._policy.most_messages:
            raise ValueError(f"a bounded queue takes {MOST_IN_A_TURN} messages at once, got {len(envelopes)}")
        producer = self._here().producer
        ids: list[MessageId] = []
        for at_ in range(0, len(envelopes), MOST_IN_A_TURN):
            ids += await producer.put(envelopes[at_ : at_ + MOST_IN_A_TURN], limit)
        return ids

    # consuming --------------------------------------------------------------------------------------------------------

    async def dequeue(self, timeout: Seconds | None = None) -> Message[T] | None:
        """The next message; None when there was none for `timeout` seconds (None waits for ever, 0 does not wait).

        Cancelled at any moment, it loses nothing: a message that had come already goes to the next who waits, or back.
        """
        return await self._here().consumer.next(timeout_seconds(timeout))

    async def dequeue_many(self, count: int, timeout: Seconds | None = None) -> list[Message[T]]:
        """At most `count` messages (500): waits for the first one as `dequeue` does, and takes those that come with it."""
        if not 1 <= count <= MOST_TAKEN:
            raise ValueError(f"count is from 1 to {MOST_TAKEN}, got {count!r}")
        consumer = self._here().consumer
        messages: list[Message[T]] = []
        consumer.look_ahead(count - 1)
        try:
            message = await consumer.next(timeout_seconds(timeout))
            while message is not None:
                messages.append(message)
                message = consumer.shelf.take() if len(messages) < count else None
        finally:
            consumer.look_ahead(1 - count)
        return messages

    async def consume(self, *, prefetch: int = 0) -> AsyncGenerator[Message[T], None]:
        """Messages one after the other, for ever; `prefetch` of them are taken ahead.

            async for message in queue.consume():
                async with message:
                    ...

        What was taken ahead is given back, without counting, when the iteration ends. Close it (`contextlib.aclosing`)
        where you leave it early and other consumers should have those messages at once.
        """
        _check_count(prefetch, "prefetch", least=0)
        consumer = self._here().consumer
        consumer.look_ahead(prefetch)
        try:
            while True:
                message = await consumer.next(None)
                if message is not None:
                    yield message
        finally:
            consumer.look_ahead(-prefetch)

    async def process(
        self,
        handler: MessageHandler[T],
        *,
        concurrency: int = 32,
        prefetch: int | None = None,
        shutdown_grace: Seconds = 30.0,
        cancel_on_loss: bool = True,
        stop: asyncio.Event | None = None,
    ) -> None:
        """Run `handler(message)` for each message, `concurrency` at a time, until told to stop; then drain.

        A handler that returns acks, one that raises nacks with the backoff of the queue; it may decide itself. When the
        lease is lost, it is cancelled (`cancel_on_loss`). `prefetch` messages are taken ahead (None: as many as
        `concurrency`).

        Told to stop by SIGTERM (where the program has no handler of its own for it), by `stop` being set, or by being
        cancelled: what was taken ahead is given back at once, without counting; running handlers have `shutdown_grace`
        seconds, then they are cancelled and their messages nacked. Cancelled once more, it does not wait. Returns when
        every decision is settled.

        Raises what the server refuses for good (a wrong password, a wrong type); waits while it is merely away.
        """
        _check_count(concurrency, "concurrency", least=1)
        ahead = concurrency if prefetch is None else _check_count(prefetch, "prefetch", least=0)
        grace = timeout_seconds(shutdown_grace, "shutdown_grace") or 0.0
        stop = stop if stop is not None else asyncio.Event()
        worker = Processor(
            self._here().consumer, handler, concurrency=concurrency, prefetch=ahead, cancel_on_loss=cancel_on_loss
        )
        with stopping_on((signal.SIGTERM,), stop):
            await worker.run(stop, grace=grace, deadline=self._policy.deadline)

    async def ack_many(self, messages: Iterable[Message[T]]) -> None:
        """Ack all of them, in one round trip. Raises LeaseLost for the first that was lost; the others are acked."""
        answers = await asyncio.gather(*(message.ack() for message in messages), return_exceptions=True)
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        if errors:
            raise next((error for error in errors if not isinstance(error, LeaseLost)), errors[0])

    # looking --------------------------------------------------------------------------------------------------------

    async def requeue_expired(self) -> int:
        """Make messages ready whose lease has expired; how many there were. One round trip.

        Every dequeue does this, so it is needed only where nobody consumes. Leases that are alive are not touched.
        """
        consumer = self._here().consumer
        before = consumer.expired
        consumer.look()
        await consumer.finish(self._policy.deadline)
        return consumer.expired - before

    def statistics(self) -> QueueStatistics:
        """What this object has done in the running event loop. No I/O."""
        session = self._sessions.existing()
        if session is None:
            return QueueStatistics(0, 0, 0, 0, 0, 0, 0, 0)
        desk, consumer = session.consumer.desk, session.consumer
        return QueueStatistics(
            enqueued=session.producer.enqueued,
            delivered=consumer.delivered,
            acked=desk.acked,
            nacked=desk.nacked,
            released=desk.released,
            lost=desk.lost,
            expired=consumer.expired,
            turns=consumer.turns,
        )

    # life -------------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Settle what was decided, give back what nobody has looked at, and end what waits (QueueClosed).

        A queue that is only used and never closed loses nothing either: leases expire. Using it again opens it anew.
        """
        session = self._sessions.forget()
        if session is not None:
            await session.consumer.aclose()
            await session.producer.aclose()

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<ReliableQueue {self.name!r}: {now.enqueued} enqueued, {now.delivered} delivered, {now.acked} acked>"

    def _here(self) -> _Session:
        return self._sessions.here()

    def _begin(self) -> _Session:
        token = secrets.token_hex(8)
        client, commands, policy = self._client, self._commands, self._policy
        producer = Producer(
            client,
            commands,
            queue_keys(self.namespace, self.name, f"producer-{token}"),
            namespace=self.namespace,
            name=self.name,
            most=policy.most_messages,
            window=policy.dedup_window,
            deadline=policy.deadline,
        )
        consumer = Consumer(
            client,
            commands,
            queue_keys(self.namespace, self.name, f"consumer-{token}"),
            namespace=self.namespace,
            name=self.name,
            policy=policy,
            codec=self._codec,
        )
        return _Session(producer, consumer)


def _check_count(value: int, name: str, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"{name} is a whole number, {least} or more, got {value!r}")
    return value
