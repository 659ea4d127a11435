"""What can be said to a `PubSub`, and what it says of itself. Values and their checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

from aredis_patterns._core.codecs import Codec
from aredis_patterns.pubsub._events import Overflow
from aredis_patterns.types import Seconds

__all__ = ["PubSubOptions", "PubSubStatistics", "check_buffer", "check_overflow"]


class PubSubOptions(TypedDict, total=False):
    """The keyword arguments of `PubSub`, but for the namespace."""

    codec: Codec[Any]
    sharded: bool | Literal["auto"]
    buffer: int
    overflow: Overflow
    sequence: bool
    linger: Seconds


@dataclass(frozen=True, slots=True)
class PubSubStatistics:
    """Of one `PubSub` in the running event loop."""

    published: int
    received: int
    """Messages that came, each counted once however many subscribe."""
    channels: int
    """Channels and patterns that the server is asked for."""
    subscriptions: int


def check_buffer(buffer: int) -> int:
    """ValueError for what is no size of a buffer."""
    if isinstance(buffer, bool) or not isinstance(buffer, int) or buffer < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"buffer is a whole number of messages, at least 1, got {buffer!r}")
    return buffer


def check_overflow(overflow: Overflow) -> Overflow:
    """ValueError for what is no policy."""
    if overflow not in get_args(Overflow):
        raise ValueError(f"overflow is one of {', '.join(get_args(Overflow))}, got {overflow!r}")
    return overflow
