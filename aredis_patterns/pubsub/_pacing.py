"""When to hand over what has come: at once, or a moment later together with what comes until then.

Waking a task costs as much as giving it dozens of messages. So when waking everybody took long, the next handover waits
as long again, at most `LONGEST_HOLD`: messages that come faster than subscribers can be woken reach them in fewer,
larger portions. A message that comes alone never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["LONGEST_HOLD", "Pacer"]

LONGEST_HOLD: Final = 0.004
"""Seconds that a message may wait here."""

WORTH_HOLDING: Final = 0.0003
"""Seconds of waking below which nothing is held: the timer of an idle loop is no finer than a millisecond."""


MOST_HELD: Final = 256
"""Messages that are held; more are handed over at once. Half of the smallest buffer, if that is less: holding must never
be the reason why something is dropped."""


class Pacer:
    """Calls `hand_over` soon after `soon()`, once for all that come in between."""

    __slots__ = ("_due", "_hand_over", "_loop", "_most", "_not_before", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, hand_over: Callable[[], None]) -> None:
        self._loop: Final = loop
        self._hand_over: Final = hand_over
        self._due = False
        self._most = MOST_HELD
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def respect(self, buffer: int) -> None:
        """There is a subscriber with a buffer of this size."""
        self._most = min(self._most, buffer // 2)

    def soon(self, held: int) -> None:
        """There is something to hand over: so many messages by now."""
        if not self._due:
            self._due = True
            if held < self._most and self._not_before > self._loop.time():
                self._timer = self._loop.call_at(self._not_before, self._now)
            else:
                # Two ticks: what this one wants to send goes to the server first, which then works beside us.
                self._loop.call_soon(self._loop.call_soon, self._now)
        elif self._timer is not None and held >= self._most:
            self._timer.cancel()
            self._timer = None
            self._loop.call_soon(self._now)

    def _now(self) -> None:
        self._due = False
        self._timer = None
        began = self._loop.time()
        self._hand_over()
        self._loop.call_soon(self._woken, began)  # behind everybody who was woken by that

    def _woken(self, began: float) -> None:
        now = self._loop.time()
        took = now - began
        self._not_before = now + min(took, LONGEST_HOLD) if took > WORTH_HOLDING else 0.0
