"""What a message looks like on the server: one line of facts, then the body.

    {"priority":5,"group":"acme"}
    {"invoice": 17}

A plain message has an empty first line. The facts are JSON, so that scripts, other programs and people can read them;
the body is whatever the codec writes. The id is not in it: it is the name under which the envelope is stored, and the
moment at which that happened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypedDict

from aredis_patterns._core.durations import to_microseconds
from aredis_patterns.exceptions import DecodeError
from aredis_patterns.types import Seconds

__all__ = ["LONGEST_FACT", "PRIORITIES", "Facts", "facts_of", "pack", "split"]

PRIORITIES: Final = range(-100, 101)
"""Higher is served first."""

LONGEST_FACT: Final = 500
"""Characters of a group, an ordering key or a dedup key."""


class Facts(TypedDict, total=False):
    """What scripts know of a message. The names are those of the wire."""

    priority: int
    group: str
    key: str
    """The ordering key."""
    dedup: str
    delay: int
    """Microseconds after the enqueueing."""
    at: int
    """Microseconds since the epoch."""
    headers: dict[str, str]


def facts_of(
    *,
    delay: Seconds | None = None,
    at: datetime | None = None,
    priority: int = 0,
    group: str | None = None,
    ordering_key: str | None = None,
    dedup_key: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Facts:
    """Checked facts; those that say nothing are left out. ValueError with the offending value."""
    facts: Facts = {}
    if priority:
        if isinstance(priority, bool) or priority not in PRIORITIES:
            raise ValueError(f"priority is a whole number from -100 to 100, got {priority!r}")
        facts["priority"] = priority
    if delay is not None and at is not None:
        raise ValueError("a message has a delay or a time, not both")
    if delay is not None and delay != 0 and delay != timedelta():
        facts["delay"] = to_microseconds(delay, "delay")
    if at is not None:
        facts["at"] = _moment(at)
    if group is not None:
        facts["group"] = _text(group, "group")
    if ordering_key is not None:
        facts["key"] = _text(ordering_key, "ordering_key")
    if dedup_key is not None:
        facts["dedup"] = _text(dedup_key, "dedup_key")
    if headers:
        facts["headers"] = {_text(name, "name of a header"): str(value) for name, value in headers.items()}
    return facts


def pack(facts: Facts | None, body: bytes) -> bytes:
    """The envelope."""
    if not facts:
        return b"\n" + body
    # No `\n` can be inside: JSON escapes it. Text as it is, for scripts compare it with what Redis has.
    line = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    return line.encode() + b"\n" + body


def split(envelope: bytes) -> tuple[Facts, bytes]:
    """Facts and body. DecodeError when the first line is not what `pack` writes."""
    line, newline, body = envelope.partition(b"\n")
    try:
        facts: Any = json.loads(line) if line else {}
    except ValueError as error:
        raise DecodeError(f"the first line of a message cannot be read: {line[:80]!r}") from error
    if not newline or not isinstance(facts, dict):
        raise DecodeError(f"not the envelope of a message: {envelope[:80]!r}")
    return facts, body  # type: ignore[return-value]


def _moment(at: datetime) -> int:
    if not isinstance(at, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"at is a datetime, got {at!r}")
    if at.tzinfo is None:
        raise ValueError(f"at needs a time zone (datetime.now(UTC)), got {at!r}")
    return round(at.timestamp() * 1_000_000)


def _text(value: str, what: str) -> str:
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the {what} of a message is text, got {value!r}")
    if not 0 < len(value) <= LONGEST_FACT or "\0" in value or not value.isprintable():
        raise ValueError(f"a {what} has 1 to {LONGEST_FACT} printable characters, got {value[:80]!r}")
    return value
