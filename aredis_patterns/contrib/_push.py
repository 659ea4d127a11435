"""What the web glues for pushing share: what is sent for a message, and for a gap. Knows no web framework.

A message goes out as it came from Redis (`raw`), so nothing is encoded again for each of a thousand clients.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol, Self, TypeAlias

from aredis_patterns.pubsub import Event, Gap, TopicEntry
from aredis_patterns.pubsub._positions import parse_position

__all__ = [
    "HEARTBEAT",
    "KEEP_ALIVE",
    "SSE_HEADERS",
    "UNAVAILABLE",
    "Encode",
    "Item",
    "OnText",
    "Source",
    "as_text",
    "first_of",
    "gone",
    "position_or",
    "sse_frame",
]

Item: TypeAlias = "Event[Any] | TopicEntry[Any] | Gap"

Encode: TypeAlias = Callable[[Any], str | None]
"""What to send for an item; None: nothing."""

OnText: TypeAlias = Callable[[str], Awaitable[object] | None]
"""Told of each text that the client sends."""

HEARTBEAT: Final = 15.0
"""Seconds of silence after which something is sent, so that proxies keep the connection and a dead client is noticed."""

KEEP_ALIVE: Final = b": keep-alive\n\n"
SSE_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""No cache, and no proxy that collects the stream before it passes it on (nginx)."""

_log: Final = logging.getLogger("aredis_patterns.contrib")


class Source(Protocol):
    """A subscription that is not open yet: `pubsub.subscribe(...)` or `topic.subscribe(...)`. It is opened when the
    client is there, and closed when it has gone."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, kind: Any, error: Any, traceback: Any, /) -> None: ...
    def __aiter__(self) -> AsyncIterator[Any]: ...
    async def batch(self) -> list[Any]: ...


UNAVAILABLE: Final = json.dumps(
    {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "the subscription could not be made; try again soon",
    }
).encode()
"""The problem+json of a stream that cannot begin."""


def position_or(text: str | None, default: str) -> str:
    """A position that came from a client, or `default` when it is none."""
    if text is None:
        return default
    try:
        parse_position(text)
    except ValueError:
        return default
    return text


def as_text(item: Item) -> str:
    """A message as it came; a gap as `{"gap": {"reason": "slow", "missed": 3, "channel": "news"}}`."""
    if isinstance(item, Gap):
        return json.dumps({"gap": _gap(item)})
    return item.raw.decode("utf-8", "replace")


def sse_frame(item: Item, encode: Encode | None) -> bytes:
    """One server-sent event. A message of a topic has its position as id, and a gap is of the type `gap`."""
    if encode is not None:
        text = encode(item)
        if text is None:
            return b""
    else:
        text = json.dumps(_gap(item)) if isinstance(item, Gap) else as_text(item)
    head = "event: gap\n" if isinstance(item, Gap) else ""
    if isinstance(item, TopicEntry):
        head = f"id: {item.position}\n"
    # All that the standard takes for the end of a line, and nothing else: str.splitlines knows more of them.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return (head + "".join(f"data: {line}\n" for line in lines) + "\n").encode()


async def first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run several until one ends; cancel the others and wait for them. Raises what that one raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


def gone(error: Exception) -> None:
    """The log learns why a stream could not begin, or was cut off; the client only that it is so."""
    _log.error("a subscription failed: %s: %s", type(error).__name__, error)


def _gap(gap: Gap) -> dict[str, Any]:
    return {"reason": gap.reason, "missed": gap.missed, "channel": gap.channel}
