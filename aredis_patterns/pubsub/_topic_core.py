"""What a `Topic`, its subscriptions and its durable subscriptions share: keys, commands, codec, and one feed per loop."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from redis.asyncio import RedisCluster

from aredis_patterns._core.codecs import Codec
from aredis_patterns.pipelining import lane_of, listener_of
from aredis_patterns.pubsub._keys import TopicKeys, text_of
from aredis_patterns.pubsub._positions import EntryId, ParsedStart, Position, Stored, TopicEntry, parse_id, read_entries
from aredis_patterns.pubsub._routes import Kind
from aredis_patterns.pubsub._scripts import topic_position
from aredis_patterns.pubsub._topic_feed import TopicFeed
from aredis_patterns.types import Commands, Key, RedisClient

__all__ = ["TopicCore"]

_log: Final = logging.getLogger("aredis_patterns.pubsub")


class TopicCore:
    """One topic on one client."""

    def __init__(self, client: RedisClient, name: Key, *, namespace: str, codec: Codec[Any]) -> None:
        self.client: Final = client
        self.keys: Final = TopicKeys(namespace, name)
        self.name: Final = name if isinstance(name, str) else text_of(name)
        self.codec: Final = codec
        self.commands: Final[Commands] = lane_of(client)
        self.sharded: Final = isinstance(client, RedisCluster)
        """In a Cluster the channel is a shard channel, in the slot of the keys."""
        self._kind: Final[Kind] = "shard" if self.sharded else "channel"
        self.stream: Final = self.keys.stream
        self._feeds: dict[asyncio.AbstractEventLoop, TopicFeed] = {}

    def feed(self) -> TopicFeed:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        feed = self._feeds.get(loop)
        if feed is None:
            for old in [each for each in self._feeds if each.is_closed()]:
                del self._feeds[old]
            find = lambda: listener_of(self.client)  # noqa: E731
            feed = self._feeds[loop] = TopicFeed(find, self.keys.channel, self._kind, self.decode)
        return feed

    def decode(self, stored: Stored) -> TopicEntry[Any] | None:
        """A message for subscribers, or None (and a line in the log) when the codec cannot read it."""
        try:
            data = self.codec.decode(stored.raw)
        except Exception as error:  # the user's code: whatever it raises, the message cannot be read
            kind = type(error).__name__
            _log.warning("message %s of topic %r is left out: %s: %s", stored.id, self.name, kind, error)
            return None
        return TopicEntry(stored.id, stored.number or 0, data, stored.raw)

    async def locate(self, start: ParsedStart, deadline: float | None = None) -> tuple[Position, bool]:
        """The position behind which to read, and whether nothing is missing there. One round trip."""
        found = await topic_position(
            self.commands,
            stream=self.stream,
            counter=self.keys.counter,
            kind=start.kind,
            value=start.value,
            deadline=deadline,
        )
        id = parse_id(found.id.encode())
        if start.number is not None:  # the caller knows the number itself, and so how many were trimmed since
            given = parse_id(start.value.encode())
            return Position(given, start.number), True
        return Position(id.before() if found.inclusive else id, found.number), found.whole

    async def read(self, after: EntryId, count: int) -> list[Stored]:
        """Messages behind an id. One round trip, repeated by the wire if the connection is lost."""
        return read_entries(
            await self.commands.call("XRANGE", self.stream, f"({after}", "+", "COUNT", count, key=self.stream)
        )
