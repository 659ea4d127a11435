"""`PubSub`: publish to everybody who listens now, and know when you may have missed something."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, Literal, Self, TypeVar, get_args, overload

from redis.asyncio import RedisCluster

from aredis_patterns._core.codecs import Codec, JSONCodec
from aredis_patterns._core.durations import timeout_seconds, to_seconds
from aredis_patterns._core.instrumentation import hook_of
from aredis_patterns.pipelining import listener_of
from aredis_patterns.pubsub._buffer import make_buffer
from aredis_patterns.pubsub._events import Event, Gap, Gaps, Handler, Overflow
from aredis_patterns.pubsub._keys import ChannelNames, text_of
from aredis_patterns.pubsub._listening import Listening, OnError, OnGap
from aredis_patterns.pubsub._options import PubSubStatistics, check_buffer, check_overflow
from aredis_patterns.pubsub._publisher import Publisher
from aredis_patterns.pubsub._routes import Address, Kind, SwitchboardOptions
from aredis_patterns.pubsub._subscription import Subscription
from aredis_patterns.pubsub._switchboard import Switchboard
from aredis_patterns.types import Key, RedisClient, Seconds

__all__ = ["PubSub"]

T = TypeVar("T")


class PubSub(Generic[T]):
    """Publish and subscribe: each message to everybody who listens at that moment, and to nobody else.

    Guarantee: at most once, in order per channel. What is published after `subscribe` has returned arrives, or a `Gap`
    stands in its place: the connection was lost meanwhile, or this subscriber was slower than its buffer. For messages
    that must not be missed use a `Topic`.

    One connection listens, for all subscriptions on this client (one per node for shard channels). It comes back by
    itself after a loss, and a peer that has gone silent is noticed within two heartbeats (20 s). Publishing shares the
    connection of all other patterns. Nobody waits for a slow subscriber: not the reader, not the others, not Redis.

    Args:
        client: any `redis.asyncio` client, pipelined or stock. It is never closed here.
        namespace: begins every channel on the server. Empty: channels as they are, to talk to other programs.
        codec: how data becomes bytes; JSON by default. Decoded once per process.
        sharded: "auto" uses shard channels in a Cluster, where a plain PUBLISH goes to every node. They have no patterns.
        buffer: most messages that one subscriber may be behind. Memory per subscriber: one reference for each; the
            messages themselves are shared.
        overflow: what happens then; see `Overflow`.
        sequence: the server numbers the messages of each channel, so that gaps are exact, also after a reconnect, and a
            reconnect that missed nothing is no gap. Publisher and subscribers must agree. One script instead of PUBLISH,
            and a small key per channel that lives for a day after the last message.
        linger: seconds that a channel stays subscribed after the last subscriber has left.

    Example:
        pubsub = PubSub(redis)
        async with pubsub.subscribe("orders") as subscription:
            await pubsub.publish("orders", {"id": 1})
            async for item in subscription:
                if isinstance(item, Gap):
                    ...  # read the state again
                else:
                    print(item.data)
    """

    @overload
    def __init__(
        self: PubSub[Any],
        client: RedisClient,
        *,
        namespace: str = ...,
        codec: None = None,
        sharded: bool | Literal["auto"] = ...,
        buffer: int = ...,
        overflow: Overflow = ...,
        sequence: bool = ...,
        linger: Seconds = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        client: RedisClient,
        *,
        namespace: str = ...,
        codec: Codec[T],
        sharded: bool | Literal["auto"] = ...,
        buffer: int = ...,
        overflow: Overflow = ...,
        sequence: bool = ...,
        linger: Seconds = ...,
    ) -> None: ...
    def __init__(
        self,
        client: RedisClient,
        *,
        namespace: str = "ap",
        codec: Codec[Any] | None = None,
        sharded: bool | Literal["auto"] = "auto",
        buffer: int = 1000,
        overflow: Overflow = "drop_oldest",
        sequence: bool = False,
        linger: Seconds = 1.0,
    ) -> None:
        self.buffer: Final = check_buffer(buffer)
        self.overflow: Final[Overflow] = check_overflow(overflow)
        self.sharded: Final = isinstance(client, RedisCluster) if sharded == "auto" else bool(sharded)
        self.sequence: Final = sequence
        self._client: Final = client
        self._codec: Final[Codec[Any]] = codec if codec is not None else JSONCodec()
        self._hook: Final = hook_of(client, "pubsub")
        self._names: Final = ChannelNames(namespace)
        self._publisher: Final = Publisher(client, self._names, sharded=self.sharded, numbered=sequence)
        self._options: Final = SwitchboardOptions(
            names=self._names,
            decode=self._codec.decode,
            linger=timeout_seconds(linger, "linger") or 0.0,
            counted=self._publisher.counted if sequence else None,
        )
        self._boards: dict[asyncio.AbstractEventLoop, Switchboard] = {}

    # publishing -----------------------------------------------------------------------------------------------------

    async def publish(self, channel: Key, data: T, *, deadline: Seconds | None = None) -> int:
        """Publish to whoever listens now. One round trip.

        Returns how many connections got it, as PUBLISH does: a process counts once however many subscribe in it. In a
        Cluster plain PUBLISH counts only those on one node.

        Raises EncodeError before any I/O; OutcomeUnknown when the reply was lost: it may have been published, once, and
        is never sent again.
        """
        name, body = self._names.on_server(channel), self._codec.encode(data)
        return await self._hook.around("publish", self._publisher.publish(name, body, _deadline(deadline)))

    async def publish_many(self, messages: Iterable[tuple[Key, T]], *, deadline: Seconds | None = None) -> list[int]:
        """Publish each (channel, data), in this order per channel. One round trip, in a Cluster one per node.

        Returns the receivers of each. Not atomic: when this raises, others may have been published. Data that cannot be
        encoded raise EncodeError before anything is.
        """
        todo = [(self._names.on_server(channel), self._codec.encode(data)) for channel, data in messages]
        return await self._hook.around("publish_many", self._publisher.publish_all(todo, _deadline(deadline)))

    # subscribing ----------------------------------------------------------------------------------------------------

    @overload
    def subscribe(
        self,
        *channels: Key,
        pattern: bool = ...,
        buffer: int | None = ...,
        overflow: Overflow | None = ...,
        gaps: Literal["events"] = "events",
    ) -> Subscription[Event[T] | Gap]: ...
    @overload
    def subscribe(
        self,
        *channels: Key,
        pattern: bool = ...,
        buffer: int | None = ...,
        overflow: Overflow | None = ...,
        gaps: Literal["ignore"],
    ) -> Subscription[Event[T]]: ...
    def subscribe(
        self,
        *channels: Key,
        pattern: bool = False,
        buffer: int | None = None,
        overflow: Overflow | None = None,
        gaps: Gaps = "events",
    ) -> Subscription[Any]:
        """Subscribe to channels, or patterns (`news.*`, as Redis matches them): `async with` it, or `await` it.

        No I/O here; entering costs one round trip for channels that this process does not hear yet, and none for others.
        `buffer` and `overflow` replace those of the object. `gaps="ignore"` leaves gaps out (they are still counted).

        Raises ValueError for patterns with shard channels. Entering raises PermissionDenied or ServerUnavailable; later
        losses of the connection are healed, and told as a `Gap`.
        """
        kind: Kind = "channel"
        if pattern:
            if self.sharded:
                raise ValueError("shard channels have no patterns: use PubSub(client, sharded=False) on all sides")
            kind = "pattern"
        elif self.sharded:
            kind = "shard"
        if gaps not in get_args(Gaps):
            raise ValueError(f"gaps is one of {', '.join(get_args(Gaps))}, got {gaps!r}")
        limit = self.buffer if buffer is None else check_buffer(buffer)
        policy = self.overflow if overflow is None else check_overflow(overflow)
        address_of = partial(self._address, kind)
        addresses = [address_of(channel) for channel in channels]
        return Subscription(self._board, addresses, make_buffer(limit, policy), gaps, address_of)

    async def listen(
        self,
        channel: Key,
        handler: Handler[T],
        *,
        pattern: bool = False,
        concurrency: int = 1,
        buffer: int | None = None,
        overflow: Overflow | None = None,
        on_gap: OnGap | None = None,
        on_error: OnError | None = None,
    ) -> Listening[T]:
        """Call `handler(event)`, a function or coroutine function, for each message. Returns when confirmed.

        The handler runs in a task of its own: a slow one fills only its own buffer, and what it raises goes to
        `on_error` (default: the log) and ends nothing. The result is ended by `aclose()`, or with this `PubSub`.

            async with await pubsub.listen("orders", handle):
                ...
        """
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency!r}")
        subscription = await self.subscribe(channel, pattern=pattern, buffer=buffer, overflow=overflow)
        listening: Listening[T] = Listening(
            subscription, handler, concurrency=concurrency, on_gap=on_gap, on_error=on_error
        )
        listening.start(self._board().spawn)
        return listening

    # ----------------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all subscriptions and handlers of the running event loop, not the client. Using it again opens anew."""
        board = self._boards.pop(asyncio.get_running_loop(), None)
        if board is not None:
            await board.close()

    def statistics(self) -> PubSubStatistics:
        """A snapshot."""
        board = self._board()
        return PubSubStatistics(
            published=self._publisher.published,
            received=board.received,
            channels=board.routes,
            subscriptions=len(board.subscriptions()),
        )

    def __repr__(self) -> str:
        kind = "sharded " if self.sharded else ""
        prefix = text_of(self._names.prefix)
        return f"<PubSub {kind}{prefix!r}, buffer {self.buffer} {self.overflow}, {self._publisher.published} published>"

    def _board(self) -> Switchboard:
        loop = asyncio.get_running_loop()
        board = self._boards.get(loop)
        if board is None:
            for old in [each for each in self._boards if each.is_closed()]:
                del self._boards[old]
            board = self._boards[loop] = Switchboard(self._options, lambda: listener_of(self._client))
        return board

    def _address(self, kind: Kind, channel: Key) -> Address:
        if kind == "pattern":
            name = self._names.pattern_on_server(channel)
            return Address(kind, name, self._names.pattern_here(name))
        name = self._names.on_server(channel)
        return Address(kind, name, self._names.here(name))


def _deadline(deadline: Seconds | None) -> float | None:
    return None if deadline is None else to_seconds(deadline, "deadline")
