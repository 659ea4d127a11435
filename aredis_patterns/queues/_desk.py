"""What was decided about messages and is not told to the server yet: the next turn takes it along."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from aredis_patterns.queues._message import Message, State
from aredis_patterns.queues._turns import copy_of

__all__ = ["Desk", "Slip"]

MOST: Final = 500
"""Decisions of each kind in one turn: the server is not held up for longer than a millisecond or two."""

LONGEST_REASON: Final = 1000
"""Characters that are kept of the reason of a failure."""

Answer: TypeAlias = "asyncio.Future[bool] | None"
"""Who waits to hear whether the lease was still ours. None: nobody."""
AnyMessage: TypeAlias = Message[Any]


@dataclass(slots=True)
class Slip:
    """The decisions that go into one turn."""

    acks: list[tuple[AnyMessage, Answer]] = field(default_factory=list)
    releases: list[tuple[AnyMessage, Answer]] = field(default_factory=list)
    extends: list[tuple[AnyMessage, Answer, int]] = field(default_factory=list)
    nacks: list[tuple[AnyMessage, Answer, int, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.acks or self.releases or self.extends or self.nacks)

    @property
    def acks_text(self) -> str:
        return _pairs(self.acks)

    @property
    def releases_text(self) -> str:
        return _pairs(self.releases)

    @property
    def extends_text(self) -> str:
        return " ".join([f"{_delivery(message)}:{lease}" for message, lease in self._longer().items()])

    @property
    def nacks_text(self) -> str:
        if not self.nacks:
            return ""
        return json.dumps([[each.id, each._deadline, delay, reason] for each, _, delay, reason in self.nacks])

    def answer(self, lost: set[str], *, clock: int, sent: float) -> None:
        """Tell everybody; `lost` are deliveries. Leases that were extended count from `clock` there, from `sent` here."""
        gone = {message for message, _ in self._decisions() if _delivery(message) in lost} if lost else set()
        for message, lease in self._longer().items():
            if message not in gone:
                message._deadline = clock + lease
                message._expires = sent + lease / 1_000_000
        for message, answer in self._decisions():
            kept = message not in gone
            if not kept:
                lose(message)
            if answer is not None and not answer.done():
                answer.set_result(kept)

    def fail(self, error: Exception) -> None:
        """Nobody knows. Those who wait are told; what was decided stays decided."""
        for _, answer in self._decisions():
            if answer is not None and not answer.done():
                answer.set_exception(copy_of(error))

    def _longer(self) -> dict[AnyMessage, int]:
        """One extension per message, the longest: a second one would come with a deadline that the first has changed."""
        longest: dict[AnyMessage, int] = {}
        for message, _, lease in self.extends:
            longest[message] = max(lease, longest.get(message, 0))
        return longest

    def _decisions(self) -> Iterator[tuple[AnyMessage, Answer]]:
        yield from self.acks
        yield from self.releases
        yield from ((message, answer) for message, answer, _ in self.extends)
        yield from ((message, answer) for message, answer, _, _ in self.nacks)


class Desk:
    """Collects decisions. Each message is decided once; what its holder does twice is caught before it comes here."""

    def __init__(self) -> None:
        self._next = Slip()
        self.acked = self.nacked = self.released = self.lost = 0

    def __bool__(self) -> bool:
        return bool(self._next)

    def ack(self, message: AnyMessage, answer: Answer) -> None:
        """Done."""
        self._decide(message, "acked")
        self._next.acks.append((message, answer))
        self.acked += 1

    def nack(self, message: AnyMessage, answer: Answer, delay: int, reason: str) -> None:
        """Failed: again after `delay` microseconds, or never (-1)."""
        self._decide(message, "rejected" if delay < 0 else "nacked")
        # An exception may quote what is no text (a file name): half of a character would stop the script.
        sayable = reason[:LONGEST_REASON].encode(errors="backslashreplace").decode()
        self._next.nacks.append((message, answer, delay, sayable))
        self.nacked += 1

    def release(self, message: AnyMessage, answer: Answer) -> None:
        """Not looked at."""
        self._decide(message, "released")
        self._next.releases.append((message, answer))
        self.released += 1

    def extend(self, message: AnyMessage, answer: Answer, lease: int) -> None:
        """Takes longer: `lease` microseconds from now."""
        self._next.extends.append((message, answer, lease))

    def take(self) -> Slip:
        """What goes into the next turn. A lease whose message was decided meanwhile needs no extension."""
        whole = self._next
        needed: list[tuple[AnyMessage, Answer, int]] = []
        for entry in whole.extends:
            if entry[0].state == "held":
                needed.append(entry)
            elif entry[1] is not None and not entry[1].done():
                entry[1].set_result(entry[0].state != "lost")
        slip = Slip(whole.acks[:MOST], whole.releases[:MOST], needed[:MOST], whole.nacks[:MOST])
        self._next = Slip(whole.acks[MOST:], whole.releases[MOST:], needed[MOST:], whole.nacks[MOST:])
        return slip

    def _decide(self, message: AnyMessage, state: State) -> None:
        message._state = state


def lose(message: AnyMessage) -> None:
    """Somebody else may have it now: whoever works on it is told once."""
    message._untold = message._state == "held"  # who decided hears it as the answer
    message._state = "lost"
    callback, message._lost_callback = message._lost_callback, None
    if callback is not None:
        callback()


def _pairs(entries: Iterable[tuple[AnyMessage, Answer]]) -> str:
    return " ".join([_delivery(message) for message, _ in entries])


def _delivery(message: AnyMessage) -> str:
    """The same message may have been delivered to us twice: only its deadline tells which one is meant."""
    return f"{message.id}:{message._deadline}"
