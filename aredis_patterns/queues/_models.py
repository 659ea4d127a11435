"""The queue in plain Python: who is next, and what a decision does. Property tests compare it with the scripts.

    model = QueueModel()
    model.enqueue("1", priority=5)
    assert model.take(1) == [("1", 1)]

Time does not pass here: a lease expires when `expire` says so. Ids sort by age, as on the server.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QueueModel"]


@dataclass(slots=True)
class _Entry:
    id: str
    priority: int
    group: str | None
    key: str | None
    round: int = 0
    failures: int = 0


class QueueModel:
    """The state of one queue. O(n) everywhere: it is meant to be read."""

    def __init__(self, *, max_deliveries: int = 5) -> None:
        self.max_deliveries = max_deliveries
        self._all: dict[str, _Entry] = {}
        self._ready: list[_Entry] = []
        self._held: set[str] = set()
        self._dead: list[str] = []
        self._keyed: list[_Entry] = []
        """Unfinished messages with an ordering key, in their order; one of each key is under way or ready."""
        self._last_round: dict[tuple[int, str], int] = {}

    def enqueue(self, id: str, *, priority: int = 0, group: str | None = None, key: str | None = None) -> None:
        """A new message."""
        self._admit(_Entry(id, priority, group, key))

    def take(self, count: int) -> list[tuple[str, int]]:
        """The next messages: (id, attempt)."""
        taken = self._in_order()[:count]
        for entry in taken:
            self._ready.remove(entry)
            self._held.add(entry.id)
        return [(entry.id, entry.failures + 1) for entry in taken]

    def ack(self, id: str) -> None:
        """Done."""
        self._held.discard(id)
        self._leave(self._all.pop(id))

    def release(self, id: str) -> None:
        """Not looked at: back in its old place."""
        self._held.discard(id)
        self._put_back(self._all[id])

    def nack(self, id: str) -> None:
        """Failed: back in its old place, or dead."""
        self._held.discard(id)
        entry = self._all[id]
        entry.failures += 1
        if entry.failures >= self.max_deliveries:
            self._bury(entry)
        else:
            self._put_back(entry)

    def expire(self, id: str) -> None:
        """Its worker has died: a failure."""
        self.nack(id)

    def reject(self, id: str) -> None:
        """Dead at once."""
        self._held.discard(id)
        self._all[id].failures += 1
        self._bury(self._all[id])

    def cancel(self, id: str) -> bool:
        """Take back what nobody has begun."""
        entry = self._all.get(id)
        if entry is None or id in self._held or id in self._dead:
            return False
        del self._all[id]
        if entry in self._ready:
            self._ready.remove(entry)
            self._leave(entry)
        else:
            self._keyed.remove(entry)
        return True

    def redrive(self) -> int:
        """All dead messages have another life."""
        dead, self._dead = self._dead, []
        for id in dead:
            self._all[id].failures = 0
            self._admit(self._all[id])
        return len(dead)

    def sizes(self) -> tuple[int, int, int, int]:
        """Ready, held, dead, parked."""
        ready, held, dead = len(self._ready), len(self._held), len(self._dead)
        return ready, held, dead, len(self._all) - ready - held - dead

    def _in_order(self, priority: int | None = None) -> list[_Entry]:
        entries = [entry for entry in self._ready if priority is None or entry.priority == priority]
        return sorted(entries, key=lambda entry: (-entry.priority, entry.round, entry.id))

    def _front(self, priority: int) -> int | None:
        entries = self._in_order(priority)
        return entries[0].round if entries else None

    def _put_back(self, entry: _Entry) -> None:
        front = self._front(entry.priority)
        entry.round = 1 if front is None else front
        self._ready.append(entry)

    def _join(self, entry: _Entry) -> None:
        front = self._front(entry.priority)
        entry.round = (front or 0) + 1
        if entry.group is not None:
            place = (entry.priority, entry.group)
            for known in [each for each in self._last_round if each[0] == entry.priority]:
                if front is None or self._last_round[known] <= front:
                    del self._last_round[known]
            entry.round = max(entry.round, self._last_round.get(place, 0) + 1)
            self._last_round[place] = entry.round
        self._ready.append(entry)

    def _admit(self, entry: _Entry) -> None:
        self._all[entry.id] = entry
        if entry.key is not None:
            busy = any(each.key == entry.key for each in self._keyed)
            self._keyed.append(entry)
            if busy:
                return
        self._join(entry)

    def _leave(self, entry: _Entry) -> None:
        if entry.key is None:
            return
        self._keyed.remove(entry)
        successors = sorted((each for each in self._keyed if each.key == entry.key), key=lambda each: each.id)
        if successors:
            successor = successors[0]
            if successor.group is not None and not successor.failures:
                self._join(successor)
            else:
                self._put_back(successor)

    def _bury(self, entry: _Entry) -> None:
        self._dead.append(entry.id)
        self._leave(entry)
