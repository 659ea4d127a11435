"""Calls that must reach the server although replies are lost: only for scripts whose second execution finds the first."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aredis_patterns.exceptions import OutcomeUnknown, ReplyTimeout, ServerUnavailable

__all__ = ["PATIENCE", "surely"]

T = TypeVar("T")

PATIENCE: Final = 30.0
"""Seconds of sending again. The server remembers four times as long what a publisher has done."""


async def surely(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call whose reply was lost.

    The wire repeats a few times by itself, but where every few replies are lost a long line of calls needs more patience;
    and large calls have a connection of their own, without a second try.
    """
    give_up = time.monotonic() + PATIENCE
    lost: OutcomeUnknown | None = None
    while True:
        try:
            return await call()
        except ReplyTimeout:
            raise
        except OutcomeUnknown as error:
            if time.monotonic() > give_up:
                raise
            lost = error
        except ServerUnavailable:
            if lost is not None:
                raise lost from None  # nobody is there now, but an earlier try may have been executed
            raise
