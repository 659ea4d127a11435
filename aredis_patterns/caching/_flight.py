"""A flight: all callers in this process who want the same key, and the one task that gets it for them.

Nobody awaits the task itself, the first caller no more than the others: each has a future of its own, so a caller that is
cancelled takes only itself away. Whoever comes while the task is under way joins, but may be answered only with what is
surely no older than the question:

    joined before ...                   may have ...
    the read was sent                   whatever the read or the wake-up brings
    the loader started                  what it loaded, kept or not
    the fill was sent                   what it loaded, if it was kept: then nothing was invalidated up to the fill
    later                               AGAIN: ask anew, together
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from aredis_patterns.caching._keys import EntryKeys
from aredis_patterns.caching._result import Answer

__all__ = ["AGAIN", "Flight", "Loader"]

Loader: TypeAlias = Callable[[], Awaitable[Any]]

AGAIN: Final = None
"""The answer to those who came too late to know that it is new enough."""

Waiter: TypeAlias = "asyncio.Future[Answer | None]"


class Flight:
    """What one task does for one key, and who waits for it."""

    __slots__ = (
        "_admitted",
        "_late",
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
        self._admitted: list[Waiter] = []
        self._late: list[Waiter] = []

    async def join(self) -> Answer | None:
        """Wait for the answer; AGAIN when the caller has to ask anew."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._late.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if self.on_empty is not None and not self.waiting:
                self.on_empty()
            raise

    @property
    def waiting(self) -> int:
        """Callers that are still there."""
        return sum(not waiter.done() for waiter in (*self._admitted, *self._late))

    def admit(self) -> int:
        """Everybody who is here now may have what comes next. Returns their number, for `answer`."""
        self._admitted += self._late
        self._late = []
        return len(self._admitted)

    def answer(self, answer: Answer, first: int | None = None) -> None:
        """Answer those who were admitted (or the `first` of them), and let the others ask again."""
        self.answered = True
        admitted = self._admitted if first is None else self._admitted[:first]
        for waiter in admitted:
            if not waiter.done():
                waiter.set_result(answer)
        for waiter in (*self._admitted, *self._late):
            if not waiter.done():
                waiter.set_result(AGAIN)
        self._admitted, self._late = [], []

    def fail(self, error: BaseException) -> None:
        """Everybody gets the error: a failure is never too old."""
        self.answered = True
        for waiter in (*self._admitted, *self._late):
            if not waiter.done():
                waiter.set_exception(error)
        self._admitted, self._late = [], []
