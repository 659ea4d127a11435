"""`Recorder`: marks that do not wait. Collected, coalesced, and written in batches."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import date
from types import TracebackType
from typing import Any, Final, Self

from redis.exceptions import RedisError

from aredis_patterns._core.calendar import Day
from aredis_patterns._core.checks import check_whole
from aredis_patterns._core.durations import to_seconds
from aredis_patterns._core.scope import Scope
from aredis_patterns.analytics._activity import ActivityTracker
from aredis_patterns.analytics._unique_counter import UniqueCounter, encode_visitor
from aredis_patterns.exceptions import PatternError, WindowClosed
from aredis_patterns.types import Seconds

__all__ = ["Recorder", "RecorderStatistics"]

_log: Final = logging.getLogger("aredis_patterns")


@dataclass(frozen=True, slots=True)
class RecorderStatistics:
    """`pending` now; since the beginning `recorded` (coalesced ones included), `written` and `dropped` marks, `flushes`, and
    of these the `failures`."""

    pending: int
    recorded: int
    written: int
    dropped: int
    flushes: int
    failures: int


class Recorder:
    """Marks and visits without waiting for the server: what a request handler calls.

    Marks of the same kind are coalesced (a user counts once per day anyway) and written every `interval` seconds, or as soon
    as half of `max_pending` are waiting: one round trip for all of them. Both kinds are idempotent, so a flush that fails is
    tried again with the next one. At most once per process: what is pending when the process dies is lost; leaving the block
    flushes. A mark counts for the day on which it is recorded, even if it is written after midnight; which day that is
    says the clock of this process, corrected by what the tracker has heard from the server.

    Bounded: above `max_pending` different marks new ones are dropped and counted, and `mark_active` answers False; analytics
    should not take a service down.

        async with Recorder() as recorder:
            recorder.mark_active(tracker, user_id)
            recorder.track_visitor(counter, "home", visitor)
    """

    def __init__(self, *, interval: Seconds = 0.2, max_pending: int = 10_000, close_timeout: Seconds = 5.0) -> None:
        self._interval: Final = to_seconds(interval, "interval")
        self._close_timeout: Final = to_seconds(close_timeout, "close_timeout")
        self._max_pending: Final = check_whole(max_pending, "max_pending", 1)
        self._pending: dict[tuple[Any, str, date], dict[Any, None]] = {}
        self._count = 0
        self._recorded = self._written = self._dropped = self._flushes = self._failures = 0
        self._scope: Final = Scope("recorder")
        self._wake: asyncio.Event | None = None
        self._flushing: asyncio.Lock | None = None

    def mark_active(
        self, tracker: ActivityTracker, user_id: int, at: Day | None = None, *, event: str = "active"
    ) -> bool:
        """`tracker.mark_active`, later. False when it was dropped. ValueError for an id that the tracker refuses."""
        return self._add(tracker, event, tracker._days.when(at).day, tracker.check_id(user_id))

    def track_visitor(
        self, counter: UniqueCounter, page: str, visitor_id: str | bytes | int, *, at: Day | None = None
    ) -> bool:
        """`counter.track_visitor`, later. False when it was dropped. ValueError for an id that the counter refuses."""
        return self._add(counter, page, counter._days.when(at).day, encode_visitor(visitor_id))

    async def flush(self) -> None:
        """Write what is pending now. Raises what went wrong; the marks stay pending then.

        Only those of a day that is no longer kept (WindowClosed) are dropped, and counted as that.
        """
        if self._flushing is None:
            self._flushing = asyncio.Lock()
        async with self._flushing:
            taken, self._pending, self._count = self._pending, {}, 0
            if not taken:
                return
            self._flushes += 1
            replies = await self._write_all(taken)
            errors = [reply for reply in replies if isinstance(reply, Exception)]
            if errors:
                self._failures += 1
                raise errors[0]

    def statistics(self) -> RecorderStatistics:
        """A snapshot."""
        return RecorderStatistics(
            self._count, self._recorded, self._written, self._dropped, self._flushes, self._failures
        )

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._wake = asyncio.Event()
        self._scope.start(self._run(), name="recorder flush")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._scope.__aexit__(kind, error, traceback)
        try:
            async with asyncio.timeout(self._close_timeout):
                await self.flush()
        except (RedisError, PatternError, TimeoutError) as failure:
            _log.warning("recorder closed with %d marks unwritten: %s", self._count, failure)

    async def _run(self) -> None:
        wake = self._wake
        assert wake is not None
        while True:
            try:
                async with asyncio.timeout(self._interval):
                    await wake.wait()
            except TimeoutError:
                pass
            wake.clear()
            try:
                await self.flush()
            except (RedisError, PatternError) as error:
                _log.warning("recorder could not write, will try again: %s", error)
                await asyncio.sleep(self._interval)

    async def _write_all(self, taken: dict[tuple[Any, str, date], dict[Any, None]]) -> list[Any]:
        """All kinds together. Whatever happens, what was not written is pending again."""
        todo = dict(taken)

        async def one(kind: tuple[Any, str, date], marks: dict[Any, None]) -> None:
            target, what, day = kind
            try:
                if isinstance(target, ActivityTracker):
                    await target.mark_many(marks, day, event=what)
                else:
                    await target.track_visitors(what, marks, at=day)
            except WindowClosed:  # it will not open again
                self._dropped += len(todo.pop(kind))
                raise
            self._written += len(todo.pop(kind))

        try:
            return await asyncio.gather(*(one(*item) for item in taken.items()), return_exceptions=True)
        finally:
            for (target, what, day), marks in todo.items():
                for mark in marks:
                    self._put(target, what, day, mark)

    def _add(self, target: object, what: str, day: date, mark: Any) -> bool:
        self._recorded += 1
        accepted = self._put(target, what, day, mark)
        if self._wake is not None and self._count * 2 >= self._max_pending:
            self._wake.set()
        return accepted

    def _put(self, target: object, what: str, day: date, mark: Any) -> bool:
        marks = self._pending.get((target, what, day))
        if marks is not None and mark in marks:
            return True
        if self._count >= self._max_pending:
            self._dropped += 1
            return False
        if marks is None:
            marks = self._pending[target, what, day] = {}
        marks[mark] = None
        self._count += 1
        return True

    def __repr__(self) -> str:
        return f"<Recorder {self._count} pending, {self._written} written, {self._dropped} dropped>"
