"""`Topic`: publish to everybody who listens now, and to everybody who comes later."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Generic, Literal, TypedDict, TypeVar, get_args, overload

from aredis_patterns._core.codecs import Codec, JSONCodec
from aredis_patterns._core.durations import to_milliseconds, to_seconds
from aredis_patterns._core.instrumentation import hook_of
from aredis_patterns.pubsub._delivery import DeadDelivery, Delivery
from aredis_patterns.pubsub._durable import Durable
from aredis_patterns.pubsub._durable_calls import DurableOptions
from aredis_patterns.pubsub._events import Gap, Gaps
from aredis_patterns.pubsub._positions import EntryId, StartAt, TopicEntry, parse_start
from aredis_patterns.pubsub._topic_core import TopicCore
from aredis_patterns.pubsub._topic_info import TopicInfo, read_dead_letters, read_info
from aredis_patterns.pubsub._topic_publisher import Publication, TopicLimits, TopicPublisher
from aredis_patterns.pubsub._topic_reader import TopicSubscription
from aredis_patterns.types import Key, RedisClient, Seconds

__all__ = ["Publication", "Retention", "Topic", "TopicOptions"]

T = TypeVar("T")

Retention = Literal["limits", "interest"]
"""`limits`: the oldest messages go when there are more than `maxlen`. `interest`: they go only when every durable
subscription that is alive has settled them; until then publishing raises `TopicFull`."""

MOST_AT_ONCE: Final = 1000
"""Messages of one script call."""


class TopicOptions(TypedDict, total=False):
    """The keyword arguments of `Topic`, but for the namespace."""

    codec: Codec[Any]
    maxlen: int | None
    max_age: Seconds | None
    retention: Retention
    dedup_window: Seconds
    buffer: int


class Topic(Generic[T]):
    """A stream of messages that is kept: subscribers get what is published while they listen, and what was before.

    Guarantee: a message is in the topic once, also when replies are lost on the way (`publish` is replay-safe). A
    subscriber gets every message from its start on, in order, once; what was trimmed before it came is a `Gap` with the
    exact number. A durable subscription (`durable`) delivers at least once, to competing consumers, with acks.

    `publish` is one round trip, and carries the message to those who are up to date; nobody polls. Latency is that of
    pub/sub. Memory on the server: about the size of the message and 30 bytes, up to `maxlen`.

    Keys: the stream and its count have no TTL without `max_age`, because a topic is data; with it they live for that long
    after the last message (the count 30 days more). All others have one.

    Args:
        client: any `redis.asyncio` client, pipelined or stock. It is never closed here.
        name: of the topic. Topics of the same namespace and name are the same.
        maxlen: most messages kept (above 1000 a few dozen more may be, because whole nodes are dropped); None: no limit.
        max_age: how long messages are kept, approximately; None: any age. Not with `retention="interest"`.
        retention: see `Retention`.
        dedup_window: how long a `dedup_id` is remembered.
        buffer: most messages that one subscriber holds here; the rest waits in the topic.

    Example:
        topic = Topic(redis, "prices", maxlen=10_000)
        await topic.publish({"EURUSD": 1.09})
        async with topic.subscribe(Last(1)) as subscription:
            async for item in subscription:
                ...
    """

    @overload
    def __init__(
        self: Topic[Any],
        client: RedisClient,
        name: Key,
        *,
        namespace: str = ...,
        codec: None = None,
        maxlen: int | None = ...,
        max_age: Seconds | None = ...,
        retention: Retention = ...,
        dedup_window: Seconds = ...,
        buffer: int = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        client: RedisClient,
        name: Key,
        *,
        namespace: str = ...,
        codec: Codec[T],
        maxlen: int | None = ...,
        max_age: Seconds | None = ...,
        retention: Retention = ...,
        dedup_window: Seconds = ...,
        buffer: int = ...,
    ) -> None: ...
    def __init__(
        self,
        client: RedisClient,
        name: Key,
        *,
        namespace: str = "ap",
        codec: Codec[Any] | None = None,
        maxlen: int | None = 10_000,
        max_age: Seconds | None = None,
        retention: Retention = "limits",
        dedup_window: Seconds = 120.0,
        buffer: int = 1000,
    ) -> None:
        if retention not in get_args(Retention):
            raise ValueError(f"retention is one of {', '.join(get_args(Retention))}, got {retention!r}")
        if retention == "interest" and max_age is not None:
            raise ValueError('retention="interest" keeps what is needed, however old: it goes without max_age')
        self.maxlen: Final = None if maxlen is None else _positive(maxlen, "maxlen")
        self.retention: Final[Retention] = retention
        self.buffer: Final = _positive(buffer, "buffer")
        limits = TopicLimits(
            maxlen=self.maxlen or 0,
            max_age=0 if max_age is None else to_milliseconds(max_age, "max_age"),
            interest=retention == "interest",
            dedup_window=to_milliseconds(dedup_window, "dedup_window"),
        )
        self._core: Final = TopicCore(client, name, namespace=namespace, codec=JSONCodec() if codec is None else codec)
        self._publisher: Final = TopicPublisher(self._core, limits)
        self._hook: Final = hook_of(client, "pubsub")
        self.name: Final = self._core.name

    # publishing -----------------------------------------------------------------------------------------------------

    async def publish(self, data: T, *, dedup_id: Key | None = None, deadline: Seconds | None = None) -> Publication:
        """Append a message and hand it to everybody who listens. One round trip.

        Exactly once: when the reply is lost, the same command is sent again and finds that it has been done. A
        `dedup_id` (of the business event) does the same across processes and restarts, for `dedup_window`; a second
        publication returns the first, with `deduplicated` set.

        Raises EncodeError before any I/O; TopicFull with `retention="interest"`; ReplyTimeout when `deadline` passes:
        then it may have been published, once; ServerUnavailable when it passes before its turn: then it was not.
        """
        bodies = [self._core.codec.encode(data)]
        run = self._publisher.append(bodies, dedup_id, None if deadline is None else to_seconds(deadline, "deadline"))
        return await self._hook.around("publish", run, _outcome)

    async def publish_many(self, items: Iterable[T], *, deadline: Seconds | None = None) -> list[Publication]:
        """Append messages in order. One round trip for each thousand, of which each is in the topic as a whole or not at
        all."""
        bodies = [self._core.codec.encode(item) for item in items]
        limit = None if deadline is None else to_seconds(deadline, "deadline")
        done: list[Publication] = []
        for at in range(0, len(bodies), MOST_AT_ONCE):
            part = bodies[at : at + MOST_AT_ONCE]
            first = await self._hook.around("publish_many", self._publisher.append(part, None, limit), _outcome)
            ms, sequence = first.id
            done += [Publication(EntryId(ms, sequence + n), first.number + n) for n in range(len(part))]
        return done

    # subscribing ----------------------------------------------------------------------------------------------------

    @overload
    def subscribe(
        self, start: StartAt = ..., *, buffer: int | None = ..., gaps: Literal["events"] = "events"
    ) -> TopicSubscription[TopicEntry[T] | Gap]: ...
    @overload
    def subscribe(
        self, start: StartAt = ..., *, buffer: int | None = ..., gaps: Literal["ignore"]
    ) -> TopicSubscription[TopicEntry[T]]: ...
    def subscribe(
        self, start: StartAt = "new", *, buffer: int | None = None, gaps: Gaps = "events"
    ) -> TopicSubscription[Any]:
        """Read the topic from `start` on: `async with` it, or `await` it. Everybody gets everything.

        `start`: "new", "all", `Last(n)`, `entry.position` or an id (behind it), or a datetime. No I/O here; entering
        costs a round trip or two. The server keeps nothing for it. Raises ValueError for what is no place to begin.
        """
        if gaps not in get_args(Gaps):
            raise ValueError(f"gaps is one of {', '.join(get_args(Gaps))}, got {gaps!r}")
        limit = self.buffer if buffer is None else _positive(buffer, "buffer")
        return TopicSubscription(self._core, parse_start(start), buffer=limit, gaps=gaps)

    @overload
    def durable(
        self,
        name: str,
        *,
        start: StartAt = ...,
        ack_wait: Seconds = ...,
        max_deliveries: int | None = ...,
        max_unacked: int = ...,
        prefetch: int = ...,
        inactive_after: Seconds = ...,
        gaps: Literal["events"] = "events",
    ) -> Durable[Delivery[T] | Gap]: ...
    @overload
    def durable(
        self,
        name: str,
        *,
        start: StartAt = ...,
        ack_wait: Seconds = ...,
        max_deliveries: int | None = ...,
        max_unacked: int = ...,
        prefetch: int = ...,
        inactive_after: Seconds = ...,
        gaps: Literal["ignore"],
    ) -> Durable[Delivery[T]]: ...
    def durable(
        self,
        name: str,
        *,
        start: StartAt = "new",
        ack_wait: Seconds = 30.0,
        max_deliveries: int | None = None,
        max_unacked: int = 1000,
        prefetch: int = 16,
        inactive_after: Seconds = 7 * 24 * 3600.0,
        gaps: Gaps = "events",
    ) -> Durable[Any]:
        """Consume the topic under a name whose place the server keeps: `async with` it. See `Durable`.

        Args:
            start: where a subscription begins that does not exist yet.
            ack_wait: how long a consumer may hold a message before it is delivered again.
            max_deliveries: deliveries after which a message goes to the dead letters; None: never.
            max_unacked: most messages that are out at a time, to all consumers of the name.
            prefetch: most messages that one fetch takes. Those that wait here are held, too.
            inactive_after: life of the subscription when nobody consumes it.
        """
        if gaps not in get_args(Gaps):
            raise ValueError(f"gaps is one of {', '.join(get_args(Gaps))}, got {gaps!r}")
        options = DurableOptions(
            ack_wait=to_milliseconds(ack_wait, "ack_wait"),
            max_deliveries=0 if max_deliveries is None else _positive(max_deliveries, "max_deliveries"),
            max_unacked=_positive(max_unacked, "max_unacked"),
            inactive_after=to_milliseconds(inactive_after, "inactive_after"),
        )
        if options.inactive_after < options.ack_wait:
            raise ValueError("inactive_after must not be shorter than ack_wait")
        self._core.keys.durable(name)  # refuses a name that cannot be a key
        return Durable(
            self._core, name, parse_start(start), options, prefetch=_positive(prefetch, "prefetch"), gaps=gaps
        )

    # looking after it -----------------------------------------------------------------------------------------------

    async def info(self) -> TopicInfo:
        """How long it is, and how far its durable subscriptions are. Two round trips."""
        return await read_info(self._core)

    async def dead_letters(self, durable: str, *, count: int = 100) -> list[DeadDelivery]:
        """The newest messages that a durable subscription has given up, newest first. It keeps about a thousand."""
        return await read_dead_letters(self._core, durable, _positive(count, "count"))

    async def remove_durable(self, name: str) -> bool:
        """Delete a durable subscription with its dead letters; whether it was there. One round trip.

        End its consumers first: one that finds it gone begins anew, with everything that is in the topic.
        """
        keys, core = self._core.keys.durable(name), self._core
        replies = await core.commands.batch(
            [
                ("UNLINK", keys.state),
                ("UNLINK", keys.leases, keys.order, keys.attempts, keys.dead),
                ("ZREM", core.keys.durables, name),
                ("HDEL", core.keys.floors, name),
            ],
            key=core.stream,
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return bool(replies[0])

    def __repr__(self) -> str:
        return f"<Topic {self.name!r}, maxlen {self.maxlen}, {self.retention}>"


def _outcome(publication: Publication) -> str:
    return "deduplicated" if publication.deduplicated else "ok"


def _positive(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"{name} is a whole number, at least 1, got {value!r}")
    return value
