"""The names of this family: channels on the server, and keys.

Channels and keys live in different worlds in Redis, but both begin with the namespace, so that ACL rules are short:
`&<namespace>:ps:*` and `~<namespace>:ps:*` for pub/sub, `&<namespace>:topic:*` and `~<namespace>:topic:*` for topics.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from aredis_patterns._core.keys import Keyspace
from aredis_patterns.types import Key

__all__ = ["ChannelNames", "TopicKeys", "text_of"]

_GLOB: Final = re.compile(rb"[*?\[\]\\^]")


class ChannelNames:
    """`<namespace>:ps:<channel>`, or the channel as it is when the namespace is empty.

    A channel keeps its colons and braces: patterns match the first, and the second choose the slot of a shard channel,
    so that channels can be put on one node.
    """

    def __init__(self, namespace: str) -> None:
        self.prefix: Final = f"{Keyspace(namespace, 'ps').prefix}:".encode() if namespace else b""
        self._pattern_prefix: Final = _GLOB.sub(rb"\\\g<0>", self.prefix)

    def on_server(self, channel: Key) -> bytes:
        """What the server calls this channel."""
        return self.prefix + _raw(channel, "channel")

    def pattern_on_server(self, pattern: Key) -> bytes:
        """What the server calls this pattern."""
        return self._pattern_prefix + _raw(pattern, "pattern")

    def here(self, name: bytes) -> str:
        """What we call a channel of the server."""
        return text_of(name[len(self.prefix) :])

    def pattern_here(self, name: bytes) -> str:
        """What we call a pattern of the server."""
        return text_of(name[len(self._pattern_prefix) :])

    def counter(self, name: bytes, *, same_slot: bool) -> bytes:
        """`<namespace>:ps:count:<channel>`, a hash: the count of a channel. `same_slot`: in the slot of the shard channel.

        Raises ValueError where no key can be in that slot: `}` in a channel without a hash tag.
        """
        head = (self.prefix or b"ps:") + b"count:"
        if not same_slot:
            return head + b"{" + name.replace(b"%", b"%25").replace(b"}", b"%7D") + b"}"
        tag = _hash_tag(name)
        if b"}" in tag:
            raise ValueError(f"a numbered shard channel cannot have a lone brace in its name, got {text_of(name)!r}")
        return head + b"{" + tag + b"}:" + name


def text_of(raw: bytes) -> str:
    """Bytes of a name as text; what is not UTF-8 becomes surrogate escapes, so that nothing is lost."""
    return raw.decode("utf-8", "surrogateescape")


def _raw(name: Key, what: str) -> bytes:
    if isinstance(name, str):
        raw = name.encode("utf-8", "surrogateescape")
    elif isinstance(name, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raw = name
    else:
        raise TypeError(f"a {what} must be str or bytes, got {name!r}")
    if not raw:
        raise ValueError(f"a {what} must not be empty")
    return raw


def _hash_tag(name: bytes) -> bytes:
    """What a Cluster hashes of a name."""
    start = name.find(b"{")
    end = name.find(b"}", start + 1)
    return name[start + 1 : end] if start >= 0 and end > start + 1 else name


@dataclass(frozen=True, slots=True)
class TopicKeys:
    """The keys of one topic, all in one slot, and its channel."""

    namespace: str
    name: Key

    def _key(self, *suffixes: Key) -> str:
        return Keyspace(self.namespace, "topic").key(self.name, *suffixes)

    @property
    def stream(self) -> str:
        """Stream: the messages, `n` their number and `d` their data."""
        return self._key()

    @property
    def counter(self) -> str:
        """String: the number of the newest message."""
        return self._key("count")

    @property
    def durables(self) -> str:
        """Sorted set: durable subscriptions by the ms at which they expire."""
        return self._key("durables")

    @property
    def floors(self) -> str:
        """Hash: durable subscription -> number below which it needs nothing."""
        return self._key("floors")

    @property
    def channel(self) -> str:
        """Channel: each message as it is published, and wake-ups (empty)."""
        return self._key("live")

    def published(self, producer: str) -> str:
        """Hash: what one producer has published of late, for commands that come twice."""
        return self._key("by", producer)

    def dedup(self, dedup_id: Key) -> str:
        """String: the message that was published with this id."""
        return self._key("dedup", dedup_id)

    def durable(self, name: Key) -> DurableKeys:
        """The keys of one durable subscription."""
        return DurableKeys(
            state=self._key("to", name),
            leases=self._key("to", name, "leases"),
            order=self._key("to", name, "order"),
            attempts=self._key("to", name, "attempts"),
            dead=self._key("to", name, "dead"),
        )

    def last_fetch(self, durable: Key, consumer: str) -> str:
        """String: what this consumer was given last, for a request that comes twice."""
        return self._key("to", durable, "by", consumer)


@dataclass(frozen=True, slots=True)
class DurableKeys:
    """The keys of one durable subscription."""

    state: str
    """Hash: `cursor` (id) and `number` of the newest message handed out."""
    leases: str
    """Sorted set: messages handed out and not settled, by the ms at which they are due again."""
    order: str
    """Sorted set: the same messages, by number."""
    attempts: str
    """Hash: message -> deliveries so far, where it is not one."""
    dead: str
    """Stream: messages that nobody could process."""
