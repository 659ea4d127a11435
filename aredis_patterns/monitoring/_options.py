"""The keyword arguments of the classes and functions here, for the methods of the hub that pass them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from aredis_patterns.monitoring._keyscan import ScanProgress
from aredis_patterns.monitoring._redaction import Redaction
from aredis_patterns.types import Seconds

__all__ = ["ScanOptions", "TapOptions"]


class TapOptions(TypedDict, total=False):
    """Of `CommandTap`."""

    max_commands: int
    duration: Seconds
    redact: Redaction


class ScanOptions(TypedDict, total=False):
    """Of `KeyScan`, without `match`."""

    kind: str | None
    rate: float
    samples: int
    group: str | Callable[[str], str] | None
    max_groups: int
    top: int
    max_keys: int | None
    progress: Callable[[ScanProgress], None] | None
