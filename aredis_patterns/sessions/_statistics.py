"""What one store object has done."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Counts", "SessionStatistics"]


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """A snapshot of one `SessionStore` object; everything but `waiting` grows from zero."""

    created: int
    found: int
    """Tokens that led to a session."""
    missed: int
    """Tokens in order that led to none: expired, ended, or never ours. Many of them are worth an alarm."""
    malformed: int
    """Tokens refused by their looks, without asking the server."""
    touched: int
    """Reads that moved the expiry."""
    saved: int
    unchanged: int
    """Saves that had nothing to send."""
    refused: int
    """Saves and rotations of a session that had ended, saves that met another version, and what was too large."""
    rotated: int
    ended: int
    """Sessions ended here: by `destroy`, `revoke`, `destroy_all`, or because they were too many."""
    evicted: int
    """Of these, because they were too many."""
    waiting: int
    """Callers of `wait_ended` now."""


class Counts:
    """The same, while it is counted."""

    __slots__ = (
        "created", "evicted", "found", "malformed", "missed", "refused", "rotated", "saved", "touched", "unchanged"
    )  # fmt: skip

    def __init__(self) -> None:
        self.created = self.found = self.missed = self.malformed = self.touched = 0
        self.saved = self.unchanged = self.refused = self.rotated = self.evicted = 0
