"""What a cache answers with, and what it counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar, final

from aredis_patterns.caching._entry import Entry
from aredis_patterns.types import Seconds

__all__ = [
    "MISSING",
    "Answer",
    "CacheResult",
    "CacheStatistics",
    "CacheStatus",
    "Counts",
    "LoadFunction",
    "Loaded",
    "Missing",
    "RawResult",
]

T = TypeVar("T")

CacheStatus: TypeAlias = Literal["near", "hit", "stale", "loaded", "waited", "uncached", "miss"]
"""Where a value came from: this process' near cache; Redis, fresh; Redis, expired but usable; the loader in this
process; the loader in another process; a loader whose value was not kept (a writer was open, an invalidation came in
between, Redis did not answer); nowhere."""


@final
class Missing:
    """The type of MISSING: there is no value. None is a value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing()


class Answer(NamedTuple):
    """One found or loaded value, not yet decoded. What flights hand to those who wait."""

    entry: Entry
    left: int
    """ms of life on the server; -1 endless, or not known."""
    status: CacheStatus
    stored: bytes | None = None
    """What was read, when it was read."""


@dataclass(frozen=True, slots=True)
class CacheResult(Generic[T]):
    """A value and its story."""

    value: T
    status: CacheStatus
    age: float | None
    """Seconds since it was stored; None when something else has written it, or it has no end."""
    ttl: float | None
    """Seconds for which it stays fresh, negative when it has expired and is still usable; None endless or not known."""


@dataclass(frozen=True, slots=True)
class RawResult:
    """A stored value as its codec wrote it, for handing on without decoding."""

    data: bytes
    status: CacheStatus
    age: float | None
    ttl: float | None
    """As in `CacheResult`."""


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """What a loader may return instead of a bare value: `ttl` (seconds) and `tags` for this value alone, or `store=False`.

    Tags that are only known afterwards are as safe as others: an invalidation during the load counts.
    """

    value: T
    ttl: Seconds | None = None
    tags: tuple[str, ...] = ()
    store: bool = True


LoadFunction: TypeAlias = Callable[[], Awaitable[T | Loaded[T]]]
"""What a cache calls where there is no value."""


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What one cache object has done in this process so far."""

    near_hits: int
    hits: int
    stale: int
    """Answers that were expired but usable."""
    misses: int
    """Reads without a loader that found nothing."""
    loads: int
    """Runs of a loader here."""
    load_failures: int
    coalesced: int
    """Callers that shared a read or a load of another caller in this process."""
    waited: int
    """Answers that were loaded by another process."""
    refused_fills: int
    """Loaded values that were not kept: invalidated, or the lease had ended."""
    uncached: int
    """Answers that could not be stored."""
    unreadable: int
    """Stored values that the codec could not read; they were loaded anew."""
    redis_errors: int
    """Times that Redis did not answer, and the cache did without."""
    owed: int
    """Invalidations that wait for their replay."""
    load_seconds: float
    """What a load takes, as a moving average."""

    @property
    def hit_ratio(self) -> float:
        """The part of answers for which nobody had to wait for a loader; 0 before the first one."""
        quick = self.near_hits + self.hits + self.stale
        asked = quick + self.loads + self.waited + self.misses
        return quick / asked if asked else 0.0


class Counts:
    """The numbers behind `CacheStatistics`."""

    __slots__ = tuple(field for field in CacheStatistics.__dataclass_fields__)

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    near_hits: int
    hits: int
    stale: int
    misses: int
    loads: int
    load_failures: int
    coalesced: int
    waited: int
    refused_fills: int
    uncached: int
    unreadable: int
    redis_errors: int
    owed: int
    load_seconds: float

    def count(self, status: CacheStatus) -> None:
        """One more answer."""
        name = _COUNTED.get(status)
        if name is not None:
            setattr(self, name, getattr(self, name) + 1)

    def count_sight(self, left: int, stale: int) -> None:
        """One more answer that was there."""
        if 0 <= left <= stale:
            self.stale += 1
        else:
            self.hits += 1

    def loaded(self, seconds: float) -> None:
        """One more load, and what it took."""
        self.load_seconds = seconds if not self.load_seconds else 0.8 * self.load_seconds + 0.2 * seconds

    def snapshot(self) -> CacheStatistics:
        return CacheStatistics(*(getattr(self, name) for name in self.__slots__))


_COUNTED: Final[dict[CacheStatus, str]] = {"hit": "hits", "stale": "stale", "waited": "waited", "uncached": "uncached"}


def outcome_of(found: tuple[Any, Answer]) -> str:
    """For whoever listens."""
    return found[1].status


def found_or_miss(answer: Answer | None) -> str:
    """The same for reads that load nothing."""
    return "miss" if answer is None else answer.status


def result_of(value: Any, answer: Answer) -> CacheResult[Any]:
    """The public form of an answer."""
    entry, left = answer.entry, answer.left
    age = (entry.px - left) / 1000 if entry.px and left >= 0 else None
    return CacheResult(value, answer.status, age, (left - entry.stale) / 1000 if left >= 0 else None)
