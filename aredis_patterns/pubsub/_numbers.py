"""Numbered messages: how a subscriber knows exactly how many it has missed. Pure.

    0x00 "ap1" <blank> <epoch> <blank> <number> <blank> <payload>

The server counts each channel (lua/publish_numbered.lua) and puts the number before the payload. Numbers of one epoch
rise by one, so a hole in them is a loss, whatever caused it. Another epoch means that the server has forgotten the
count: what was lost before that, nobody can say.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["MARK", "Numbered", "Position", "Tracker", "parse"]

MARK: Final = b"\x00ap1 "


class Numbered(NamedTuple):
    """A message, taken out of its envelope."""

    epoch: bytes
    number: int
    payload: bytes


class Position(NamedTuple):
    """How far a channel is counted."""

    epoch: bytes
    number: int


def parse(data: bytes) -> Numbered | None:
    """What is in the envelope, or None for a message without one (plain PUBLISH)."""
    if not data.startswith(MARK):
        return None
    try:
        epoch, number, payload = data[len(MARK) :].split(b" ", 2)
        return Numbered(epoch, int(number), payload)
    except ValueError:
        return None


class Tracker:
    """What one subscriber of one channel has seen."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: Position | None = None

    def arrived(self, epoch: bytes, number: int) -> int | None:
        """Account for a message: how many were missed before it. None: unknown, the count began anew."""
        seen = self.seen
        if seen is None:
            self.seen = Position(epoch, number)
            return 0
        if epoch == seen.epoch:
            if number <= seen.number:
                return 0  # counted already, see `caught_up`
            self.seen = Position(epoch, number)
            return number - seen.number - 1
        self.seen = Position(epoch, number)
        return 0 if number == 1 else None

    def caught_up(self, counted: Position | None) -> int | None:
        """Account for everything that the server has counted: how many of these will never arrive.

        To be called when all messages counted so far have arrived, if they are to arrive at all.
        """
        seen = self.seen
        if seen is None:
            # The first message sets the mark; what was published before that was never promised, and cannot be told
            # from what was lost.
            self.seen = counted
            return None if counted is not None else 0
        if counted is None or counted.epoch != seen.epoch:
            self.seen = counted
            return None
        missed = max(0, counted.number - seen.number)
        self.seen = Position(seen.epoch, max(counted.number, seen.number))
        return missed
