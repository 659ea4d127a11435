"""A flight: all callers in this process who want the same key, and the one task that gets it for them.

Nobody awaits the task itself, the first caller no more than the others: each has a future of its own, so a caller that is
cancelled takes only itself away. Whoever comes while the task is under way joins, but may be answered only with what is
surely no older than its question:

    asked before ...          may have ...
    the read was sent         whatever the read or the wake-up brings
    the loader started        what it loaded, kept or not
    the fill was sent         what it loaded, if it was kept: then nothing was invalidated up to the fill
    later                     AGAIN: ask anew, together

These moments are numbers from one counter (`moment`), so "before" has one meaning.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from aredis_patterns.caching._keys import EntryKeys
from aredis_patterns.caching._result import Answer

__all__ = ["AGAIN", "ALWAYS", "Flight", "Loader", "moment"]

Loader: TypeAlias = Callable[[], Awaitable[Any]]

AGAIN: Final = None
"""The answer to those who came too late to know that it is new enough."""

moment: Final = itertools.count(1).__next__
"""The next moment: when a caller asks, and when something is sent."""
ALWAYS: Final = float("inf")
"""Later than every question."""

Waiter: TypeAlias = "asyncio.Future[Answer | None]"


class Flight:
    """What one task does for one key, and who waits for it."""

    __slots__ = (
        "_waiters",
        "ahead",
        "answered",
        "gated",
        "keys",
        "loader",
        "mode",
        "offline",
        "on_empty",
        "on_wait",
        "refreshing",
        "tags",
        "task",
        "ttl",
        "unreadable",
    )

    def __init__(
        self,
        keys: EntryKeys,
        loader: Loader,
        *,
        ttl: int | None,
        tags: Sequence[str],
        ahead: int,
        mode: str = "load",
        unreadable: str = "",
        offline: bool = False,
        gated: bool = True,
        on_wait: Callable[[], None] | None = None,
    ) -> None:
        self.keys: Final = keys
        self.loader: Final = loader
        self.ttl: Final = ttl
        self.tags: Final = tags
        self.ahead: Final = ahead
        self.mode: Final = mode
        self.unreadable: Final = unreadable
        self.offline: Final = offline
        """Redis has just not answered: do not ask it again."""
        self.gated: Final = gated
        """Whether its loader stands in line; that of a batch does so once for all."""
        self.on_wait: Final = on_wait
        """Told when another process loads."""
        self.answered = False
        """Whether those who joined have their answer. Nobody joins any more."""
        self.refreshing = False
        """Whether there is an old value for everybody while the task works on the new one."""
        self.task: asyncio.Task[None] | None = None
        self.on_empty: Callable[[], None] | None = None
        """Told when the last caller has gone before there was an answer."""
        self._waiters: list[tuple[int, Waiter]] = []

    async def join(self, asked: int) -> Answer | None:
        """Wait for the answer; AGAIN when the caller has to ask anew. `asked` is the moment of its question."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((asked, waiter))
        try:
            return await waiter
        except asyncio.CancelledError:
            if self.on_empty is not None and not any(not other.done() for _, other in self._waiters):
                self.on_empty()
            raise

    def answer(self, answer: Answer, before: float) -> None:
        """Answer those who asked before this moment, and let the others ask again."""
        self.answered = True
        waiters, self._waiters = self._waiters, []
        for asked, waiter in waiters:
            if not waiter.done():
                waiter.set_result(answer if asked < before else AGAIN)

    def fail(self, error: BaseException) -> None:
        """Everybody gets the error: a failure is never too old."""
        self.answered = True
        waiters, self._waiters = self._waiters, []
        for _, waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)
