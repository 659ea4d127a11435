"""The near cache: values in this process, dropped when the server says that they changed.

The table is synchronous and knows no network; `_tracking` feeds it. Its one rule: a value may be kept only if nothing
was invalidated between the moment before its read was sent and now. So `expect` leaves a mark before the read, an
invalidation takes the mark away, and `offer` keeps nothing without it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from aredis_patterns._core.durations import to_seconds
from aredis_patterns.caching._entry import Entry
from aredis_patterns.caching._immutable import is_immutable
from aredis_patterns.caching._result import Answer
from aredis_patterns.types import Seconds

__all__ = ["Mark", "NearCache", "NearTable"]

OVERHEAD: Final = 400
"""Bytes that an entry needs besides its value, about."""


@dataclass(frozen=True, slots=True)
class NearCache:
    """A local tier for a `Cache`: hits cost no round trip.

    The server tells this process what has changed (RESP3 tracking, on a connection of its own), usually within a
    millisecond. Nothing is ever older than `ttl_cap`: not when a message is late, not when the connection dies in silence.
    While that connection is not confirmed, every read goes to Redis.

    Args:
        max_entries, max_bytes: bounds; the entries that were not used for longest go first.
        ttl_cap: seconds after which a local copy is read again, whatever its TTL. The most by which a near hit may lag.
        heartbeat: seconds between two confirmations of the connection.

    A value that cannot be changed (numbers, text, tuples, frozen dataclasses and Structs of such, ...) is handed out as it
    is; any other one is decoded anew for each caller, so nobody sees another's changes. Not for Cluster clients.

        cache = Cache[User](client, "users", ttl=300, model=User, near=NearCache(max_entries=10_000))
    """

    max_entries: int = 10_000
    max_bytes: int = 64 * 1024 * 1024
    ttl_cap: Seconds = 5.0
    heartbeat: Seconds = 1.0

    def __post_init__(self) -> None:
        for name in ("max_entries", "max_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        to_seconds(self.ttl_cap, "ttl_cap")
        to_seconds(self.heartbeat, "heartbeat")


class Mark(NamedTuple):
    """A read was sent for this value. Valid while the table has it."""

    value: str
    number: int
    sent: float
    """When. The age of a copy counts from here: the server may have read it at once."""


class Seen(Protocol):
    """What a read has found."""

    @property
    def entry(self) -> Entry: ...
    @property
    def left(self) -> int: ...
    @property
    def stored(self) -> bytes | None: ...


class NearEntry:
    """One local copy."""

    __slots__ = ("entry", "left", "read_at", "shared", "size", "until", "value")

    def __init__(self, seen: Seen, now: float, until: float) -> None:
        self.entry = seen.entry
        self.left = seen.left
        self.read_at = now
        self.until = until
        self.size = len(seen.stored or b"") + OVERHEAD
        self.shared = False
        """Whether `value` may be handed to everybody."""
        self.value: Any = None

    def answer(self) -> Answer:
        """Its story, as of now."""
        left = self.left
        if left >= 0:
            left = max(0, left - round((time.monotonic() - self.read_at) * 1000))
        return Answer(self.entry, left, "near")

    def remember(self, value: Any) -> None:
        """The value was decoded: keep it if nobody can change it."""
        if is_immutable(value):
            self.value, self.shared = value, True


class NearTable:
    """The local copies of one cache in one event loop."""

    def __init__(self, options: NearCache, ahead: int) -> None:
        self._entries: OrderedDict[str, NearEntry] = OrderedDict()
        self._marks: dict[str, int] = {}
        self._next = 0
        self._most: Final = options.max_entries
        self._most_bytes: Final = options.max_bytes
        self._cap: Final = to_seconds(options.ttl_cap)
        self._ahead: Final = ahead
        """ms before its end in which a value is due: a near hit must not hide that."""
        self.bytes = 0
        self.live = False
        """Whether the server's messages arrive. Only then is anything kept or handed out."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, value: str) -> NearEntry | None:
        """The local copy, if it may be used now."""
        found = self._entries.get(value)
        if found is None:
            return None
        if not self.live or time.monotonic() >= found.until:
            self._remove(value)
            return None
        self._entries.move_to_end(value)
        return found

    def expect(self, value: str) -> Mark:
        """A read of this value is about to be sent."""
        self._next += 1
        self._marks[value] = self._next
        return Mark(value, self._next, time.monotonic())

    def offer(self, mark: Mark, seen: Seen | None) -> None:
        """The read of `mark` has found this. Kept if nothing was invalidated since, and no later read is under way."""
        if self._marks.get(mark.value) != mark.number:
            return
        del self._marks[mark.value]
        if seen is None or not self.live:
            return
        life = self._cap
        if seen.left >= 0:
            life = min(life, (seen.left - seen.entry.stale - self._ahead) / 1000)
        if life <= 0:
            return
        entry = NearEntry(seen, mark.sent, mark.sent + life)
        self._remove(mark.value)
        if entry.size > self._most_bytes:
            return
        self._entries[mark.value] = entry
        self.bytes += entry.size
        while len(self._entries) > self._most or self.bytes > self._most_bytes:
            self._remove(next(iter(self._entries)))

    def set_live(self, live: bool) -> None:
        """From now on changes are told, or are not. Either way what was read before may have been missed."""
        self.live = live
        self.clear()

    def changed(self, keys: Sequence[bytes] | None, epochs: frozenset[bytes], tags: frozenset[bytes]) -> None:
        """The server says that these keys have changed; None: all of them."""
        if keys is None:
            self.clear()
            return
        for key in keys:
            if key in epochs:
                self.clear()
            elif key in tags:
                self.drop_tagged()
            else:
                self.drop(key.decode())

    def drop(self, value: str) -> None:
        """This value has changed."""
        self._marks.pop(value, None)
        self._remove(value)

    def drop_tagged(self) -> None:
        """Some tag was invalidated. Which one the server does not say."""
        self._marks.clear()
        for value in [value for value, entry in self._entries.items() if entry.entry.tags]:
            self._remove(value)

    def clear(self) -> None:
        """Nothing that is here may be used any more, nor what is being read."""
        self._marks.clear()
        self._entries.clear()
        self.bytes = 0

    def _remove(self, value: str) -> None:
        found = self._entries.pop(value, None)
        if found is not None:
            self.bytes -= found.size
