"""What subscribers get: events, and gaps between them. Values only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

__all__ = ["Event", "Gap", "GapReason", "Gaps", "Handler", "Overflow"]

T = TypeVar("T")

GapReason: TypeAlias = Literal["slow", "reconnect", "undecodable", "trimmed", "reset"]
"""Why something was missed.

- `slow`: this subscriber did not read fast enough, and its buffer was full.
- `reconnect`: the connection was lost, or the channel moved to another node; it is established again.
- `undecodable`: the codec could not read a message. The error is in the log.
- `trimmed`: a topic had dropped the messages before they were read.
- `reset`: the history itself began anew (FLUSHALL, or a failover that lost writes).
"""

Overflow: TypeAlias = Literal["drop_oldest", "drop_newest", "latest", "raise"]
"""What happens when the buffer of a subscriber is full.

- `drop_oldest`: the oldest messages go; a `Gap` stands in their place.
- `drop_newest`: new messages are not taken until there is room; a `Gap` stands where they would be.
- `latest`: at any time only the newest message of each channel is kept. That is not a gap but what was asked for.
- `raise`: what is in the buffer is still delivered, then the iterator raises `SlowConsumer` and the subscription ends.
"""

Gaps: TypeAlias = Literal["events", "ignore"]
"""Whether gaps are delivered among the messages, or only counted."""


@dataclass(frozen=True, slots=True)
class Event(Generic[T]):
    """One message. All subscribers of a process share one object, decoded once: do not change `data`."""

    channel: str
    """Where it was published, without the namespace. Bytes that are not UTF-8 are surrogate escapes."""
    data: T
    raw: bytes
    """`data` as it came, before the codec."""
    pattern: str | None
    """The pattern that matched, for a pattern subscription."""
    sequence: int | None
    """Its number in the channel, when the publisher counts (`PubSub(sequence=True)`)."""
    received_at: float
    """When it arrived here: seconds since the epoch, by the local clock."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages were missed, or may have been, in this place of the stream.

    `missed` is exact, or None when nobody can know; `channel` is None when the gap is not of one channel.
    """

    reason: GapReason
    missed: int | None
    channel: str | None = None


Handler: TypeAlias = Callable[[Event[T]], Awaitable[object] | None]
"""A function or coroutine function that takes one event."""
