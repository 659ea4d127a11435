"""`LeaderElection`: one leader among many candidates; the others wait in order, without polling."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Unpack

from aredis_patterns.exceptions import LockLost
from aredis_patterns.locks._lease import Lease
from aredis_patterns.locks._lock import Lock
from aredis_patterns.locks._options import LeaseOptions
from aredis_patterns.types import Key, RedisClient

__all__ = ["Leader", "LeaderElection"]

RESIGNED: Final = "it resigned"


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads."""

    candidate: str
    term: int
    expires_in: float
    """Seconds, if it is not renewed."""
    followers: int
    """Candidates that wait."""


class LeaderElection:
    """Campaign, lead, and be told when it is over.

        election = LeaderElection(client, "scheduler", candidate="node 3")
        async with election as term:          # waits until elected; the body is cancelled when leadership is lost
            await run_jobs(fence=term.fencing_token)

    Guarantee: at most one leader at a time, as with `Lock`; terms (`fencing_token`) rise. Candidates are elected in the
    order in which they came. A leader that leaves the block or resigns hands over at once (about one and a half round
    trips); one that dies is followed when its lease ends, `ttl` after its last renewal, at most. Fails closed: a leader
    that cannot reach Redis stops being one before anybody else can be elected.

    Round trips and memory: those of a fair `Lock`. Options, too; `ttl` is 15 s, `candidate` is what `leader` shows.
    """

    def __init__(self, client: RedisClient, key: Key, *, candidate: str = "", **options: Unpack[LeaseOptions]) -> None:
        options.setdefault("ttl", 15.0)
        if candidate:
            options["owner"] = candidate
        self._lock: Final = Lock(client, key, kind="leader", fair=True, **options)
        self._terms: dict[asyncio.Task[object] | None, Lease] = {}
        self.key: Final = self._lock.key
        self.candidate: Final = self._lock.options.owner

    async def __aenter__(self) -> Lease:
        term = await self._lock.__aenter__()
        self._terms[asyncio.current_task()] = term
        return term

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        term = self._terms.pop(asyncio.current_task())
        try:
            await self._lock.__aexit__(kind, error, traceback)
        except LockLost:
            if term.reason != RESIGNED:
                raise
            return True
        return False

    async def run(self, lead: Callable[[Lease], Awaitable[object]]) -> None:
        """Campaign, call `lead(term)`, and campaign again whenever leadership was lost. Returns when `lead` returns or
        after `resign`; what `lead` raises goes through."""
        while True:
            try:
                async with self as term:
                    await lead(term)
                return
            except LockLost as lost:
                if lost.key != self.key:
                    raise

    @property
    def leading(self) -> bool:
        """Whether this object leads now. Local, no I/O."""
        return any(term.held for term in self._terms.values())

    async def leader(self) -> Leader | None:
        """Who leads, or None. One round trip."""
        info = await self._lock.info()
        if info is None:
            return None
        return Leader(info.owner, info.fencing_token, info.expires_in, info.waiting)

    def resign(self) -> bool:
        """Stop leading, from any task: the block is cancelled and ends without an error. Whether it was leading.

        The next candidate is woken at once; it can begin before the body here has ended, so let the body end by itself
        (leave the block) where that matters.
        """
        leading = [term for term in self._terms.values() if term.held]
        for term in leading:
            term.lose(RESIGNED)
        return bool(leading)

    def __repr__(self) -> str:
        state = "leading" if self.leading else "not leading"
        return f"<LeaderElection {self.key!r}, {self.candidate!r} is {state}>"
