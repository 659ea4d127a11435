"""The hook for metrics and traces: one small event per finished operation.

Adapters (Prometheus, OpenTelemetry) are leaves elsewhere; this module knows none of them. An event carries no key and
no user value, so whatever an adapter makes of it has a bounded number of labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["SILENT", "Event", "Instrumentation"]


@dataclass(frozen=True, slots=True)
class Event:
    """One finished operation.

    `family` ("ratelimit"), `operation` ("hit") and `outcome` ("allowed", "refused", "error") come from small fixed
    sets; `duration` is in seconds, measured by the client.
    """

    family: str
    operation: str
    outcome: str
    duration: float


class Instrumentation(Protocol):
    """What an adapter implements."""

    def on_event(self, event: Event, /) -> None:
        """Called in the event loop, once per operation: must not block, and must not raise."""
        ...


class _Silent:
    def on_event(self, event: Event, /) -> None:
        pass

    def __repr__(self) -> str:
        return "SILENT"


SILENT: Final[Instrumentation] = _Silent()
"""The default: nobody listens."""
