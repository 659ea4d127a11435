"""How leases are given: what a user may say, checked once, before any I/O."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TypedDict, Unpack

from aredis_patterns._core.durations import to_milliseconds, to_seconds
from aredis_patterns.locks._tokens import process_name
from aredis_patterns.types import Key, Seconds

__all__ = ["LeaseOptions", "Options", "readable"]


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
    """How leases are given, checked."""

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
    def checked(cls, **options: Unpack[LeaseOptions]) -> Options:
        """ValueError for a ttl that is no time, before any I/O."""
        return _checked(
            options.get("ttl", 10.0),
            options.get("auto_renew", True),
            options.get("cancel_on_loss", True),
            options.get("max_hold"),
            options.get("deadline", 5.0),
            options.get("owner", "") or process_name(),
            options.get("await_release", True),
            options.get("namespace", "ap"),
        )


@functools.lru_cache(maxsize=512, typed=True)  # locks are often made where they are used, always with the same options
def _checked(
    ttl: Seconds,
    auto_renew: bool,
    cancel_on_loss: bool,
    max_hold: Seconds | None,
    deadline: Seconds,
    owner: str,
    await_release: bool,
    namespace: str,
) -> Options:
    if "\n" in owner:
        raise ValueError(f"owner must be one line, got {owner!r}")
    millis = to_milliseconds(ttl, "ttl")
    return Options(
        ttl=millis / 1000,
        ttl_ms=millis,
        auto_renew=auto_renew,
        cancel_on_loss=cancel_on_loss,
        max_hold=None if max_hold is None else to_seconds(max_hold, "max_hold"),
        deadline=to_seconds(deadline, "deadline"),
        owner=owner,
        await_release=await_release,
        namespace=namespace,
    )


def readable(key: Key) -> str:
    """A key as messages show it."""
    return key if isinstance(key, str) else key.decode("utf-8", "backslashreplace")
