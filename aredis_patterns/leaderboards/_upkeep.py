"""What changes a board as a whole: removing, trimming, merging, clearing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from redis.asyncio import RedisCluster
from redis.crc import key_slot

from aredis_patterns._core.checks import check_whole
from aredis_patterns._core.durations import to_milliseconds
from aredis_patterns._core.members import M
from aredis_patterns.exceptions import ScoreRangeError
from aredis_patterns.leaderboards._checks import check_score
from aredis_patterns.leaderboards._rules import Rules
from aredis_patterns.leaderboards._scripts import merge_boards, remove_members
from aredis_patterns.leaderboards._standings import Board
from aredis_patterns.types import Seconds

__all__ = ["Upkeep"]

MERGE_DEADLINE: Final = 30.0
"""Seconds. A union of millions takes longer than a rank."""
TRIM_CHUNK: Final = 5000
"""Members taken off in one script: some milliseconds, in which nobody else is served."""


class Upkeep(Board[M]):
    """The verbs of `Leaderboard` that touch many members."""

    def __init__(self, rules: Rules, max_size: int | None) -> None:
        super().__init__(rules, rules.windows.names[0], None)
        self.max_size: Final = max_size

    async def remove(self, *members: M) -> int:
        """Take members off every window that is still there, with their data; how many rows went. One round trip.

        O(w m log n): with a day window and 35 days of retention w is about 40.
        """
        return sum(removed for removed, _ in await self._remove(self._rules.windows.alive(), members=members))

    async def trim(self, keep: int) -> int:
        """Leave the best `keep` members of every current window; how many went. Others go with their data.

        Each script takes off at most 5,000; below that it is one round trip and atomic. Whoever is left has their data,
        whoever is not has none.
        """
        check_whole(keep, "keep", 0)
        windows = self._rules.windows
        return await self._trim([windows.board(name, windows.today()) for name in windows.names], keep)

    async def _trim(self, boards: list[tuple[str, ...]], keep: int) -> int:
        removed = 0
        while boards:
            replies = await self._remove(boards, keep=keep)
            removed += sum(count for count, _ in replies)
            boards = [board for board, (_, excess) in zip(boards, replies, strict=True) if excess]
        return removed

    async def merge(
        self,
        sources: Iterable[Board[M]],
        *,
        ttl: Seconds | None,
        weights: Sequence[float] | None = None,
        aggregate: Literal["sum", "min", "max"] = "sum",
    ) -> int:
        """Replace this board by the union of others, with their data; how many members it has then. One round trip; with
        `max_size` one more takes off whoever is too many, 5,000 at a time.

        A member on several boards gets the sum, or the least or largest, of the weighted scores, and the data of the first
        board that has some. `ttl` is how long the result lives; None: as long as this board always does. Atomic; the
        board may be one of its own sources. O(n log n) in one script: about a second per million members.

        ValueError when members differ in type, or on a Cluster when the boards have no common `group`; ScoreRangeError
        when a sum could leave the range of exact integers. Nothing is written then.
        """
        boards = list(sources)
        rules, windows = self._rules, self._rules.windows
        factors = [1.0] * len(boards) if weights is None else [check_score(weight, "weight") for weight in weights]
        if not boards or len(factors) != len(boards):
            raise ValueError(f"merge needs boards, and one weight for each, got {len(boards)} and {len(factors)}")
        if aggregate not in ("sum", "min", "max"):
            raise ValueError(f"aggregate is sum, min or max, got {aggregate!r}")
        for board in boards:
            self._check_source(board)
        keys = self._keys
        total = await merge_boards(
            rules.commands,
            board=keys[0],
            parts=[*keys[1:], *(key for board in boards for key in board._keys)],
            order=rules.order,
            layout=rules.layout,
            aggregate=aggregate.upper(),
            expires=windows.expiry(self._window, windows.today()) if ttl is None else -to_milliseconds(ttl),
            channel=rules.channel,
            sources=[x for board, factor in zip(boards, factors, strict=True) for x in (board._rules.layout, factor)],
            deadline=max(rules.deadline, MERGE_DEADLINE),
        )
        if total < 0:
            raise ScoreRangeError(f"a merged score of {self!r} could be beyond 2**53")
        if self.max_size is not None and total > self.max_size:
            total -= await self._trim([keys], self.max_size)
        return total

    async def clear(self) -> None:
        """Empty every window that is still there. One round trip."""
        rules = self._rules
        keys = [key for board in rules.windows.alive() for key in board]
        await rules.commands.call("UNLINK", *keys, key=keys[0], deadline=rules.deadline)
        if rules.channel:
            rules.commands.post("PUBLISH", rules.channel, "!", key=keys[0])

    async def _remove(
        self, boards: Sequence[tuple[str, ...]], *, keep: int = -1, members: Sequence[M] = ()
    ) -> list[tuple[int, int]]:
        """All boards together; the first error is raised when all have been answered."""
        rules = self._rules
        stored = [rules.members.encode(member) for member in members]
        calls = [
            remove_members(
                rules.commands,
                board=board[0],
                parts=board[1:],
                order=rules.order,
                layout=rules.layout,
                channel=rules.channel,
                keep=keep,
                most=TRIM_CHUNK,
                members=stored,
                deadline=rules.deadline,
            )
            for board in boards
        ]
        replies = await asyncio.gather(*calls, return_exceptions=True)
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return [reply for reply in replies if not isinstance(reply, BaseException)]

    def _check_source(self, board: Board[M]) -> None:
        if board._rules.members is not self._rules.members:
            raise ValueError(f"only boards with the same type of members can be merged, got {board!r}")
        mine, theirs = self._keys[0], board._keys[0]
        if isinstance(self._rules.commands.client, RedisCluster) and key_slot(mine.encode()) != key_slot(
            theirs.encode()
        ):
            raise ValueError(f"on a Cluster only boards of one group= can be merged: {mine!r} and {theirs!r}")
