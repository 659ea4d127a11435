"""The rules of this family in plain Python: who holds, who waits, who is next. What the scripts must answer, too.

Pure and without a clock: every verb is given `now` in microseconds. Waiters are always there to hear a wake-up. A lock
here does not expire, which on the server is the business of the key; permits and parts end by the time in them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["LockModel", "ReadWriteModel", "SemaphoreModel"]


class Waiting(NamedTuple):
    """One entry of a queue; sorts as Redis does, by ticket and then by name."""

    ticket: int
    token: str
    what: str
    """The rule ("f", "u"), the weight, or nothing."""


def _enter(queue: list[Waiting], ticket: int, token: str, what: str, now: int) -> int:
    """Stand in the queue, at the end unless one has a place already. Returns the place."""
    place = ticket or max(now, queue[-1].ticket + 1 if queue else 0)
    queue[:] = [each for each in queue if each.token != token]
    queue.append(Waiting(place, token, what))
    queue.sort()
    return place


def _first(queue: list[Waiting], token: str, ticket: int) -> bool:
    """Whether nobody was there before."""
    return not queue or queue[0].token == token or 0 < ticket < queue[0].ticket


@dataclass
class LockModel:
    """An exclusive lock; see lua/lock_acquire.lua and lua/lock_release.lua."""

    holder: str = ""
    fence: int = 0
    """That of the holder; 0: reserved."""
    last: int = 0
    queue: list[Waiting] = field(default_factory=list[Waiting])

    def acquire(self, token: str, *, fair: bool, enqueue: bool, ticket: int, now: int) -> tuple[int, int, int]:
        """(granted, fence, place)."""
        free = not self.holder and (not fair or _first(self.queue, token, ticket))
        if free or self.holder == token:
            if free or not self.fence:
                self.last = self.fence = max(self.last + 1, now)
            self.holder = token
            if ticket or fair:
                self.queue = [each for each in self.queue if each.token != token]
            return 1, self.fence, ticket
        if enqueue:
            return 0, 0, _enter(self.queue, ticket, token, "f" if fair else "u", now)
        return 0, 0, ticket

    def release(self, token: str, *, leave: bool, patience: int, now: int) -> tuple[int, str]:
        """(released, who was woken)."""
        released = int(bool(token) and self.holder == token)
        if released:
            self.holder, self.fence = "", 0
        if leave:
            self.queue = [each for each in self.queue if each.token != token]
        if self.holder or not self.queue:
            return released, ""
        head = self.queue.pop(0)
        if head.what == "f" or now - head.ticket > patience:
            self.holder, self.fence = head.token, 0
        return released, head.token


@dataclass
class SemaphoreModel:
    """See lua/permit_acquire.lua and lua/permit_release.lua."""

    limit: int
    held: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    """(token, number) and when it ends."""
    last: int = 0
    queue: list[Waiting] = field(default_factory=list[Waiting])

    def acquire(
        self, token: str, *, weight: int, ttl: int, enqueue: bool, ticket: int, now: int
    ) -> tuple[int, int, int]:
        """(granted, fence, place); `ttl` in microseconds."""
        self._purge(now)
        enough = len(self.held) + weight <= self.limit
        if (token, 1) in self.held or (enough and _first(self.queue, token, ticket)):
            self.last = max(self.last + 1, now)
            self.held.update({(token, number): now + ttl for number in range(1, weight + 1)})
            self.queue = [each for each in self.queue if each.token != token]
            return 1, self.last, ticket
        return 0, 0, _enter(self.queue, ticket, token, str(weight), now) if enqueue else ticket

    def release(self, token: str, *, leave: bool, reserve: int, now: int) -> tuple[int, int]:
        """(permits released, waiting)."""
        self._purge(now)
        mine = [permit for permit in self.held if permit[0] == token]
        for permit in mine:
            del self.held[permit]
        if leave:
            self.queue = [each for each in self.queue if each.token != token]
        while self.queue and len(self.held) + int(self.queue[0].what) <= self.limit:
            head = self.queue.pop(0)
            self.held.update({(head.token, number): now + reserve for number in range(1, int(head.what) + 1)})
        return len(mine), len(self.queue)

    def _purge(self, now: int) -> None:
        self.held = {permit: end for permit, end in self.held.items() if end > now}


@dataclass
class ReadWriteModel:
    """See lua/rw_acquire.lua and lua/rw_release.lua."""

    held: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """(kind, token) and when it ends."""
    last: int = 0
    queues: dict[str, list[Waiting]] = field(default_factory=lambda: {"r": [], "w": []})

    def acquire(self, token: str, *, kind: str, ttl: int, enqueue: bool, ticket: int, now: int) -> tuple[int, int, int]:
        """(granted, fence, place); `ttl` in microseconds."""
        self._purge(now)
        open_ = not self.held or (kind == "r" and all(part[0] == "r" for part in self.held))
        turn = _first(self.queues["w"], token, ticket) and (kind == "r" or _first(self.queues["r"], token, ticket))
        if (kind, token) in self.held or (open_ and turn):
            self.last = max(self.last + 1, now)
            self.held[kind, token] = now + ttl
            self._leave(kind, token)
            return 1, self.last, ticket
        return 0, 0, _enter(self.queues[kind], ticket, token, "", now) if enqueue else ticket

    def release(self, token: str, *, kind: str, leave: bool, reserve: int, now: int) -> tuple[int, int]:
        """(released, waiting)."""
        self._purge(now)
        released = int(self.held.pop((kind, token), None) is not None)
        if leave:
            self._leave(kind, token)
        readers, writers = self.queues["r"], self.queues["w"]
        if not self.held:
            readers_first = kind == "w"
            if not released:
                readers_first = bool(readers) and (not writers or readers[0].ticket < writers[0].ticket)
            if readers and (readers_first or not writers):
                self._admit("r", len(readers), now + reserve)
            elif writers:
                self._admit("w", 1, now + reserve)
        elif readers and not writers and all(part[0] == "r" for part in self.held):
            self._admit("r", len(readers), now + reserve)
        return released, len(readers) + len(writers)

    def _admit(self, kind: str, count: int, end: int) -> None:
        for _ in range(count):
            self.held[kind, self.queues[kind].pop(0).token] = end

    def _leave(self, kind: str, token: str) -> None:
        self.queues[kind][:] = [each for each in self.queues[kind] if each.token != token]

    def _purge(self, now: int) -> None:
        self.held = {part: end for part, end in self.held.items() if end > now}
