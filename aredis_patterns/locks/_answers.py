"""What the scripts of this family answer, and the two times that they are given."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["PATIENCE", "RESERVE", "Answer", "Released"]

PATIENCE: Final = 50_000
"""Microseconds that a waiter may be overtaken."""
RESERVE: Final = 500
"""Milliseconds for which a free lock is kept for the waiter that was woken."""


class Answer(NamedTuple):
    """What an attempt to acquire was told."""

    granted: int
    fence: int
    ticket: int
    """Place in the queue, to be given with the next attempt."""
    again: int
    """Milliseconds that what is in the way lives; 0: it is free, but others come first; -1: no end."""


class Released(NamedTuple):
    """What a release was told."""

    released: int
    waiting: int
    again: int
    """Milliseconds after which looking again makes sense; 0: nobody waits."""
