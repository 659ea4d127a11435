"""What a `ReliableQueue` was constructed with, checked and in the units of the scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, TypedDict

from aredis_patterns._core.codecs import Codec
from aredis_patterns._core.durations import to_microseconds, to_seconds
from aredis_patterns.queues._backoff import Backoff
from aredis_patterns.types import Seconds

__all__ = ["Policy", "QueueOptions", "SimpleQueueOptions"]


class SimpleQueueOptions(TypedDict, total=False):
    """Keyword arguments of `SimpleQueue`."""

    codec: Codec[Any]
    namespace: str
    deadline: Seconds


class QueueOptions(SimpleQueueOptions, total=False):
    """Keyword arguments of `ReliableQueue`, which says what they mean."""

    lease: Seconds
    max_deliveries: int | None
    backoff: Backoff | None
    maxlen: int | None
    dead_letter: bool
    dedup_window: Seconds


@dataclass(frozen=True, slots=True)
class Policy:
    """Times in microseconds, except for `deadline` in seconds; 0 is "without bound"."""

    lease: int
    most_deliveries: int
    backoff: Backoff
    most_messages: int
    dedup_window: int
    keep_dead: bool
    deadline: float

    @classmethod
    def checked(
        cls,
        *,
        lease: Seconds,
        max_deliveries: int | None,
        backoff: Backoff | None,
        maxlen: int | None,
        dedup_window: Seconds,
        dead_letter: bool,
        deadline: Seconds,
    ) -> Self:
        """ValueError with the offending value."""
        if to_seconds(lease, "lease") < 0.1:
            raise ValueError(f"lease must be at least 0.1 seconds, got {lease!r}")
        return cls(
            lease=to_microseconds(lease, "lease"),
            most_deliveries=_count(max_deliveries, "max_deliveries"),
            backoff=backoff if backoff is not None else Backoff(),
            most_messages=_count(maxlen, "maxlen"),
            dedup_window=to_microseconds(dedup_window, "dedup_window"),
            keep_dead=dead_letter,
            deadline=to_seconds(deadline, "deadline"),
        )

    @property
    def lease_seconds(self) -> float:
        """For local timers."""
        return self.lease / 1_000_000


def _count(value: int | None, name: str) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"{name} is a positive whole number, or None for no bound, got {value!r}")
    return value
