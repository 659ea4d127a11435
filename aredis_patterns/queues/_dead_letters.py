"""`DeadLetters`: messages that failed too often, why, and the way back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aredis_patterns._core.codecs import Codec
from aredis_patterns.exceptions import DecodeError
from aredis_patterns.queues._envelope import Facts, split
from aredis_patterns.queues._keys import QueueKeys
from aredis_patterns.queues._scripts import Glance, peek, purge, redrive
from aredis_patterns.types import Commands

__all__ = ["MOST_LISTED", "DeadLetter", "DeadLetters", "StoredMessage", "check_id", "stored_messages"]

MOST_LISTED: Final = 500
"""Messages per script: the server is not held up for longer than a millisecond or two."""
_ALL: Final = 2**31


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as it lies in the queue. `body` is None when it cannot be decoded; `raw` are its bytes."""

    id: str
    body: Any
    raw: bytes
    headers: dict[str, str]
    priority: int
    group: str | None
    ordering_key: str | None
    failures: int
    last_reason: str


@dataclass(frozen=True, slots=True)
class DeadLetter(StoredMessage):
    """A message that is not delivered any more. `last_reason` is what killed it."""

    died_at: datetime


class DeadLetters:
    """The dead letters of one queue; `queue.dead_letters`. They stay until they are redriven or purged: no TTL.

    for letter in await queue.dead_letters.list():
        print(letter.id, letter.last_reason)
    await queue.dead_letters.redrive()
    """

    def __init__(self, commands: Commands, keys: QueueKeys, codec: Codec[Any], deadline: float) -> None:
        self._commands: Final = commands
        self._keys: Final = keys
        self._codec: Final = codec
        self._deadline: Final = deadline

    async def list(self, count: int = 100, *, start: int = 0) -> list[DeadLetter]:
        """`count` of them (500 at most), oldest first, after `start`. One round trip, O(log n + count)."""
        count = max(0, min(count, MOST_LISTED))
        keys = self._keys
        found = await peek(
            self._commands,
            messages=keys.messages,
            failures=keys.failures,
            place=keys.dead,
            start=start,
            count=count,
            deadline=self._deadline,
        )
        stored = stored_messages(found, self._codec)
        return [
            DeadLetter(**_fields(each), died_at=datetime.fromtimestamp(score / 1_000_000, UTC))
            for each, score in zip(stored, found.scores, strict=True)
        ]

    async def count(self) -> int:
        """How many there are. One round trip."""
        return int(await self._commands.call("ZCARD", self._keys.dead, key=self._keys.dead, deadline=self._deadline))

    async def redrive(self, ids: Iterable[str] | None = None) -> int:
        """Make them ready again, all or those named, oldest first, with no failures counted; how many there were.

        They keep their age, so they come before younger messages of their priority. One round trip per 500. What is
        redriven is redriven, also when a later round trip fails.
        """

        async def once(most: int, chosen: str) -> int:
            keys, deadline = self._keys, self._deadline
            return await redrive(self._commands, keys=keys, most=most, chosen=chosen, deadline=deadline)

        return await _in_parts(once, ids)

    async def purge(self, ids: Iterable[str] | None = None) -> int:
        """Forget them, all or those named; how many there were. One round trip per 500."""

        async def once(most: int, chosen: str) -> int:
            keys = self._keys
            return await purge(
                self._commands,
                messages=keys.messages,
                failures=keys.failures,
                dead=keys.dead,
                most=most,
                chosen=chosen,
                deadline=self._deadline,
            )

        return await _in_parts(once, ids)


async def _in_parts(once: Any, ids: Iterable[str] | None) -> int:
    total = 0
    if ids is None:
        while done := await once(MOST_LISTED, ""):
            total += done
        return total
    named = [check_id(each) for each in ids]
    for at in range(0, len(named), MOST_LISTED):
        total += await once(MOST_LISTED, " ".join(named[at : at + MOST_LISTED]))
    return total


def check_id(id: str) -> str:
    """The id, or ValueError."""
    if not (isinstance(id, str) and len(id) == 16 and id.isascii() and id.isdigit()):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"the id of a message has 16 digits, got {id!r}")
    return id


def stored_messages(found: Glance, codec: Codec[Any]) -> list[StoredMessage]:
    """What lua/peek.lua has seen."""
    return [
        _stored(id.decode(), envelope or b"\n", failed, codec)
        for id, envelope, failed in zip(found.ids, found.envelopes, found.failed, strict=True)
    ]


def _stored(id: str, envelope: bytes, failed: bytes | None, codec: Codec[Any]) -> StoredMessage:
    count, _, reason = (failed or b"0 ").decode(errors="backslashreplace").partition(" ")
    facts: Facts = {}
    raw, body = envelope, None
    try:
        facts, raw = split(envelope)
        body = codec.decode(raw)
    except DecodeError:
        pass
    return StoredMessage(
        id=id,
        body=body,
        raw=raw,
        headers=facts.get("headers", {}),
        priority=facts.get("priority", 0),
        group=facts.get("group"),
        ordering_key=facts.get("key"),
        failures=int(count),
        last_reason=reason,
    )


def _fields(message: StoredMessage) -> dict[str, Any]:
    return {name: getattr(message, name) for name in StoredMessage.__slots__}
