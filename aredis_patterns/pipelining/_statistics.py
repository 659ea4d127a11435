"""What a lane has done so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """A snapshot. Counters grow from zero over the life of the lane, `in_flight` and `waiting` are of this moment."""

    open: bool
    """Whether a connection is up."""
    in_flight: int
    """Commands written and not answered."""
    unsent: int
    """Commands accepted and not yet written."""
    waiting: int
    """Callers waiting for room (`max_in_flight`)."""
    commands: int
    """Commands written."""
    flushes: int
    """Writes to the socket."""
    reconnects: int
    """Connections opened after the first."""
    unknown_outcomes: int
    """Commands that ended in `OutcomeUnknown`."""
    repeated: int
    """Commands sent again after a lost reply because that is harmless (read-only, or replay-safe)."""
    dropped_replies: int
    """Replies whose caller had gone."""
    bypassed: Mapping[str, int] = field(default_factory=dict[str, int])
    """Commands that took a pool connection, by reason."""

    @property
    def mean_batch(self) -> float:
        """Commands per write; 0.0 before the first."""
        return self.commands / self.flushes if self.flushes else 0.0
