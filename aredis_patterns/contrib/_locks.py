"""What the web glues for locks share: which answers they give, and the check of their arguments."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from aredis_patterns._core.durations import timeout_seconds
from aredis_patterns.exceptions import LockLost
from aredis_patterns.types import Seconds

__all__ = ["BUSY", "STATUSES", "UNAVAILABLE", "LockAnswers", "leaving"]

STATUSES: Final = (409, 423)
BUSY: Final = "another request is at work on this; try again soon"
UNAVAILABLE: Final = "the lock could not be had or kept; try again soon"

_log: Final = logging.getLogger("aredis_patterns.contrib")


class LockAnswers:
    """How long a request waits for its lock, and what it is told when that was in vain."""

    def __init__(self, *, timeout: Seconds, status: int, retry_after: Seconds) -> None:
        if status not in STATUSES:
            raise ValueError(f"status is 409 (Conflict) or 423 (Locked), got {status!r}")
        self.timeout: Final = timeout_seconds(timeout) or 0.0
        self.status: Final = status
        self.headers: Final = {"Retry-After": str(max(1, math.ceil(timeout_seconds(retry_after, "retry_after") or 0)))}

    def unavailable(self, error: Exception) -> dict[str, str]:
        """The headers of a 503; says in the log what happened."""
        what = "was lost while a request held it" if isinstance(error, LockLost) else "could not be had"
        _log.error("a lock %s: %s: %s", what, type(error).__name__, error)
        return self.headers


@asynccontextmanager
async def leaving(entered: AbstractAsyncContextManager[Any]) -> AsyncGenerator[None, None]:
    """A block that leaves what was entered before it: errors of entering are not those of the body."""
    try:
        yield
    except BaseException as error:
        if not await entered.__aexit__(type(error), error, error.__traceback__):
            raise
    else:
        await entered.__aexit__(None, None, None)
