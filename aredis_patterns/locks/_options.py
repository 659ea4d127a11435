"""How leases are given: what a user may say, checked once, before any I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, Unpack

from aredis_patterns._core.durations import to_milliseconds, to_seconds
from aredis_patterns.locks._tokens import process_name
from aredis_patterns.types import Key, Seconds

__all__ = ["LeaseOptions", "Options"]


class LeaseOptions(TypedDict, total=False):
    """What all kinds of locks have in common; the meaning is that of `Lock`."""

    ttl: Seconds
    auto_renew: bool
    cancel_on_loss: bool
    max_hold: Seconds | None
    owner: str
    deadline: Seconds
    await_release: bool
    namespace: str


@dataclass(frozen=True, slots=True)
class Options:
    """How leases are given, checked once."""

    key: str
    ttl: float
    ttl_ms: int
    auto_renew: bool
    cancel_on_loss: bool
    max_hold: float | None
    deadline: float
    owner: str
    await_release: bool
    namespace: str

    @classmethod
    def checked(cls, key: Key, **options: Unpack[LeaseOptions]) -> Options:
        """ValueError for a ttl that is no time, before any I/O."""
        millis = to_milliseconds(options.get("ttl", 10.0), "ttl")
        max_hold = options.get("max_hold")
        owner = options.get("owner", "")
        if "\n" in owner:
            raise ValueError(f"owner must be one line, got {owner!r}")
        return cls(
            key=key if isinstance(key, str) else key.decode("utf-8", "backslashreplace"),
            ttl=millis / 1000,
            ttl_ms=millis,
            auto_renew=options.get("auto_renew", True),
            cancel_on_loss=options.get("cancel_on_loss", True),
            max_hold=None if max_hold is None else to_seconds(max_hold, "max_hold"),
            deadline=to_seconds(options.get("deadline", 5.0), "deadline"),
            owner=owner or process_name(),
            await_release=options.get("await_release", True),
            namespace=options.get("namespace", "ap"),
        )
