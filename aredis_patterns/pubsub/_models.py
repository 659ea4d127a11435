"""Durable subscriptions in plain Python: what the scripts must answer. Time is an argument, in milliseconds.

    model = DurableModel()
    model.published("1-0", 1)
    assert model.fetch(now=0, count=1, ack_wait=10).batch == [("1-0", 1, 1)]
    assert model.settle("1-0", 1) == 1

Property tests compare a model with its scripts, step by step.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DurableModel", "Fetch"]


class Fetch(NamedTuple):
    """What a fetch answers: see lua/durable_fetch.lua. `batch`: (id, number, attempt)."""

    missed: int
    given_up: int
    next_due: int
    batch: list[tuple[str, int, int]]


class _Held:
    """A message in somebody's hands."""

    def __init__(self, number: int, due: int) -> None:
        self.number = number
        self.due = due
        self.attempts = 1


class DurableModel:
    """One topic with one durable subscription that begins before the first message."""

    def __init__(self) -> None:
        self.stream: dict[str, int] = {}
        """What is kept: id -> number, in order."""
        self.number = 0
        """Of the newest message handed out."""
        self.held: dict[str, _Held] = {}
        self.dead: list[int] = []

    def published(self, id: str, number: int) -> None:
        """A message was appended."""
        self.stream[id] = number

    def trim(self, count: int) -> None:
        """The oldest messages go."""
        for id in list(self.stream)[:count]:
            del self.stream[id]

    @property
    def floor(self) -> int:
        """The number below which nothing is needed any more."""
        return min((held.number for held in self.held.values()), default=self.number + 1)

    def fetch(self, *, now: int, count: int, ack_wait: int, max_deliveries: int = 0, max_unacked: int = 1000) -> Fetch:
        """Hand messages to a consumer: those that are due again, then new ones."""
        missed = given_up = 0
        batch: list[tuple[str, int, int]] = []
        due = sorted((held.due, id) for id, held in self.held.items() if held.due <= now)
        for _, id in due[:count]:
            held = self.held[id]
            if id not in self.stream:
                missed += 1
                del self.held[id]
            elif max_deliveries and held.attempts >= max_deliveries:
                given_up += 1
                self.dead.append(held.number)
                del self.held[id]
            else:
                held.due, held.attempts = now + ack_wait, held.attempts + 1
                batch.append((id, held.number, held.attempts))
        room = max(0, min(count - len(batch), max_unacked - len(self.held)))
        new = [(id, number) for id, number in self.stream.items() if number > self.number]
        for id, number in new[:room]:
            missed += number - self.number - 1
            self.number = number
            self.held[id] = _Held(number, now + ack_wait)
            batch.append((id, number, 1))
        earliest = min((held.due for held in self.held.values()), default=None)
        return Fetch(missed, given_up, -1 if earliest is None else max(0, earliest - now), batch)

    def settle(self, id: str, attempt: int, *, give_up: bool = False) -> int:
        """End a message: 1 settled, 2 settled before, 0 another consumer has it."""
        held = self.held.get(id)
        if held is None:
            return 2
        if held.attempts != attempt:
            return 0
        if give_up:
            self.dead.append(held.number)
        del self.held[id]
        return 1

    def reschedule(self, id: str, attempt: int, *, now: int, delay: int, uncounted: bool = False) -> int:
        """Change when a message is due again: 1 done, 2 it is settled, 0 another consumer has it."""
        held = self.held.get(id)
        if held is None:
            return 2
        if held.attempts not in (attempt, attempt - uncounted):
            return 0
        held.due = now + delay
        if uncounted:
            held.attempts = attempt - 1
        return 1
