"""What is known of a queue: on the server (`QueueStats`), and of one object in one process (`QueueStatistics`)."""

from __future__ import annotations

from dataclasses import dataclass

from aredis_patterns.queues._scripts import Survey

__all__ = ["QueueStatistics", "QueueStats", "stats_of"]


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The queue as the server has it. Ages are in seconds since the enqueueing, None when there is no such message."""

    ready: int
    delayed: int
    in_flight: int
    parked: int
    """Behind another message of their ordering key."""
    dead: int
    paused: bool
    oldest_ready_age: float | None
    """Of the message that is next; with priorities, of the oldest of these. With groups, older ones may stand behind."""
    oldest_in_flight_age: float | None
    """Among the thousand leases that end first."""
    oldest_dead_age: float | None
    """Since its death."""
    next_due_in: float | None
    """Until the next delayed message is due."""
    enqueued: int
    """Since the queue was last unused for 30 days, as the following."""
    done: int
    failed: int
    """Deliveries that ended in a nack or reject."""
    expired: int
    """Deliveries whose lease expired: their worker died, or was too busy to renew it."""
    died: int
    cancelled: int


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """What one queue object has done in the running event loop."""

    enqueued: int
    delivered: int
    acked: int
    nacked: int
    released: int
    lost: int
    """Decisions that came too late: somebody else had the message."""
    expired: int
    """Leases of others that were found expired."""
    turns: int
    """Requests of the consuming side."""


def stats_of(found: Survey) -> QueueStats:
    """A reply of lua/survey.lua as a record."""
    total, ready, in_flight, delayed, dead = found.sizes
    counted = dict(zip(found.counted[::2], map(int, found.counted[1::2]), strict=True))

    def age(moment: int) -> float | None:
        return max(0.0, (found.clock - moment) / 1_000_000) if moment else None

    oldest_ready, oldest_leased, first_death, next_due = found.oldest
    return QueueStats(
        ready=ready,
        delayed=delayed,
        in_flight=in_flight,
        parked=max(0, total - ready - in_flight - delayed - dead),
        dead=dead,
        paused=found.paused == 1,
        oldest_ready_age=age(oldest_ready),
        oldest_in_flight_age=age(oldest_leased),
        oldest_dead_age=age(first_death),
        next_due_in=max(0.0, (next_due - found.clock) / 1_000_000) if next_due else None,
        enqueued=counted.get(b"enqueued", 0),
        done=counted.get(b"done", 0),
        failed=counted.get(b"failed", 0),
        expired=counted.get(b"expired", 0),
        died=counted.get(b"dead", 0),
        cancelled=counted.get(b"cancelled", 0),
    )
