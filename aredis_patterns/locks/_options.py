"""How leases are given: what a user may say, checked once, before any I/O."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import TypedDict, Unpack

from aredis_patterns._core.durations import to_milliseconds, to_seconds
from aredis_patterns.locks._tokens import process_name
from aredis_patterns.types import Key, Seconds

__all__ = ["LeaseOptions", "Options", "margin", "readable"]


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
    margin: float
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
        return _checked(**options)


@functools.lru_cache(maxsize=512, typed=True)  # locks are often made where they are used, always with the same options
def _checked(
    ttl: Seconds = 10.0,
    auto_renew: bool = True,
    cancel_on_loss: bool = True,
    max_hold: Seconds | None = None,
    deadline: Seconds = 5.0,
    owner: str = "",
    await_release: bool = True,
    namespace: str = "ap",
) -> Options:
    owner = owner or process_name()
    if not isinstance(owner, str) or "\n" in owner:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"owner must be one line of text, got {owner!r}")
    millis = to_milliseconds(ttl, "ttl")
    return Options(
        ttl=millis / 1000,
        ttl_ms=millis,
        margin=margin(millis / 1000),
        auto_renew=auto_renew,
        cancel_on_loss=cancel_on_loss,
        max_hold=None if max_hold is None else to_seconds(max_hold, "max_hold"),
        deadline=to_seconds(deadline, "deadline"),
        owner=owner,
        await_release=await_release,
        namespace=namespace,
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_checked.cache_clear)  # the name of the process is in them


def margin(ttl: float) -> float:
    """Seconds by which a lease ends here before it ends on the server: clocks drift, and scheduling takes time."""
    return ttl * 0.01 + min(0.002, ttl * 0.1)


def readable(key: Key) -> str:
    """A key as messages show it. TypeError for what is no key."""
    if isinstance(key, str):
        return key
    if not isinstance(key, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a key must be str or bytes, got {key!r}")
    return key.decode("utf-8", "backslashreplace")
