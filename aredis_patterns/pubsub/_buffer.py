"""The bounded buffer of one subscriber: what it holds, what it drops, and what it says about that.

    fill(events) -->  [ event event gap event ... ]  --> popleft()

Pure: no event loop, no I/O. Whatever happens, `taken + held + missed = filled` (for `latest`: + conflated), what is
taken is in the order in which it was filled, and every event that was dropped is in a gap that stands in its place.

Gaps do not count against the limit: there is at most one between two events, because those that meet are merged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from aredis_patterns.pubsub._events import Event, Gap, Overflow

__all__ = ["Buffer", "LatestBuffer", "RingBuffer", "make_buffer", "merged"]

T = TypeVar("T")


def merged(earlier: Gap | None, later: Gap) -> Gap:
    """Two gaps without an event in between are one. What is unknown in one part is unknown in the sum."""
    if earlier is None:
        return later
    missed = None if earlier.missed is None or later.missed is None else earlier.missed + later.missed
    # Slowness is the least of it: the other reasons mean that the stream itself was not whole.
    reason = later.reason if earlier.reason == "slow" else earlier.reason
    return Gap(reason, missed, earlier.channel if earlier.channel == later.channel else None)


class Buffer(Generic[T]):
    """At most `limit` events. One writer, one reader, never blocks."""

    __slots__ = ("limit", "missed", "overrun")

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self.missed = 0
        """Events that were dropped because the reader was slow."""
        self.overrun = False
        """Nothing more is taken in: the reader is to be told when it has read the rest."""

    def __bool__(self) -> bool:
        raise NotImplementedError

    def __len__(self) -> int:
        """Events held, gaps not counted."""
        raise NotImplementedError

    def fill(self, events: Sequence[Event[T]]) -> None:
        """Take in events of one moment, in order."""
        raise NotImplementedError

    def note(self, gap: Gap) -> None:
        """Tell the reader, behind everything that is held now."""
        raise NotImplementedError

    def took_gap(self) -> None:
        """The reader has taken a gap off the front."""

    def clear(self) -> None:
        """Forget everything that is held."""
        raise NotImplementedError


class RingBuffer(Buffer[T]):
    """`drop_oldest`, `drop_newest` and `raise`. O(1) per event."""

    __slots__ = ("_gaps", "items", "overflow")

    def __init__(self, limit: int, overflow: Overflow) -> None:
        super().__init__(limit)
        self.overflow: Final[Overflow] = overflow
        self.items: Final[deque[Event[T] | Gap]] = deque()
        """What the reader takes from, directly: a call per event would be half of its cost."""
        self._gaps = 0
        """How many of the items are gaps."""

    def __bool__(self) -> bool:
        return bool(self.items)

    def __len__(self) -> int:
        return len(self.items) - self._gaps

    def fill(self, events: Sequence[Event[T]]) -> None:
        """See `Buffer.fill`."""
        items = self.items
        if len(items) + len(events) <= self.limit and not self.overrun:
            items.extend(events)
        elif self.overflow == "drop_oldest":
            self._drop_oldest(events)
        else:
            self._drop_newest(events)

    def note(self, gap: Gap) -> None:
        """See `Buffer.note`."""
        last = self.items[-1] if self.items else None
        if isinstance(last, Gap):
            self.items[-1] = merged(last, gap)
        else:
            self.items.append(gap)
            self._gaps += 1

    def took_gap(self) -> None:
        """See `Buffer.took_gap`."""
        self._gaps -= 1

    def clear(self) -> None:
        """See `Buffer.clear`."""
        self.items.clear()
        self._gaps = 0

    def _drop_oldest(self, events: Sequence[Event[T]]) -> None:
        items, gap = self.items, None
        items.extend(events)
        while len(items) - self._gaps > self.limit:
            item = items.popleft()
            if isinstance(item, Gap):
                self._gaps -= 1
                gap = merged(gap, item)
            else:
                self.missed += 1
                gap = merged(gap, Gap("slow", 1, item.channel))
        if gap is not None:
            if isinstance(items[0], Gap):
                items[0] = merged(gap, items[0])
            else:
                items.appendleft(gap)
                self._gaps += 1

    def _drop_newest(self, events: Sequence[Event[T]]) -> None:
        for event in events:
            if len(self) < self.limit and not self.overrun:
                self.items.append(event)
                continue
            self.missed += 1
            self.overrun = self.overflow == "raise"
            if not self.overrun:
                self.note(Gap("slow", 1, event.channel))


class LatestBuffer(Buffer[T]):
    """`latest`: the newest event of each channel, channels in the order in which they began to wait."""

    __slots__ = ("_by_channel", "_gap", "conflated")

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.conflated = 0
        """Events that a newer one of their channel has replaced."""
        self._by_channel: dict[str, Event[T]] = {}
        self._gap: Gap | None = None

    def __bool__(self) -> bool:
        return bool(self._by_channel) or self._gap is not None

    def __len__(self) -> int:
        return len(self._by_channel)

    def fill(self, events: Sequence[Event[T]]) -> None:
        """See `Buffer.fill`. More than `limit` channels (of a pattern): the one that waits longest goes."""
        waiting = self._by_channel
        for event in events:
            self.conflated += event.channel in waiting
            waiting[event.channel] = event
            if len(waiting) > self.limit:
                dropped = waiting.pop(next(iter(waiting)))
                self.missed += 1
                self.note(Gap("slow", 1, dropped.channel))

    def note(self, gap: Gap) -> None:
        """See `Buffer.note`. Told first: what is held is the newest in any case."""
        self._gap = merged(self._gap, gap)

    def popleft(self) -> Event[T] | Gap:
        """The next thing to read; IndexError when there is none, as of a deque."""
        gap, self._gap = self._gap, None
        if gap is not None:
            return gap
        for channel in self._by_channel:
            return self._by_channel.pop(channel)
        raise IndexError("nothing is held")

    def clear(self) -> None:
        """See `Buffer.clear`."""
        self._by_channel.clear()
        self._gap = None


def make_buffer(limit: int, overflow: Overflow) -> RingBuffer[T] | LatestBuffer[T]:
    """The buffer of a policy."""
    return LatestBuffer(limit) if overflow == "latest" else RingBuffer(limit, overflow)
