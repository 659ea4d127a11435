"""`Trending`: what is popular now, without a job that lets scores decay."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, Final, Generic, NamedTuple, TypedDict, Unpack, overload

from aredis_patterns._core.checks import check_whole
from aredis_patterns._core.durations import to_microseconds, to_milliseconds, to_seconds
from aredis_patterns._core.members import M, member_codec
from aredis_patterns._core.replay import RECORD_TTL_MS, Slots
from aredis_patterns.leaderboards._checks import check_score
from aredis_patterns.leaderboards._keys import TrendKeys
from aredis_patterns.leaderboards._records import Entry, Standings
from aredis_patterns.leaderboards._scripts import add_hit, read_trend
from aredis_patterns.pipelining import lane_of
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["Hit", "TrendOptions", "Trending"]

HALF_LIVES_KEPT: Final = 64
"""After so many without a hit the strongest score is below 2^-64 of itself, and the keys go."""


class Hit(NamedTuple):
    """What a hit did to its item."""

    score: float
    rank: int | None
    """None when it is too weak for `max_size`."""


class TrendOptions(TypedDict, total=False):
    """The keyword arguments of `Trending`, for type checkers."""

    half_life: Seconds
    max_size: int
    namespace: str
    deadline: Seconds


class Trending(Generic[M]):
    """Items by how much they were hit lately: a hit counts half after one half-life, a quarter after two.

    Forward decay: a new hit is scaled up by the time since a landmark, instead of all old ones down. So the order never
    changes without a hit, nothing has to be recomputed, and no cron job is needed. Only the server's clock counts. Scores
    are exact to about 1e-9 and hits older than some hundred half-lives count as nothing.

    Guarantee: a hit counts exactly once, or an error says that nobody knows. One round trip and O(log n) per verb. Memory:
    about 100 bytes per item, at most `max_size` items, of which the weakest goes first (a new item stays when its weight
    is above the weakest score). The keys live for 64 half-lives after the last hit, at most ten years.

        trending = Trending(redis, "articles", half_life=3600)
        await trending.hit("on-redis")
        for rank, article, score, _ in await trending.get_top(10): ...
    """

    @overload
    def __init__(self: Trending[str], client: RedisClient, name: str, **options: Unpack[TrendOptions]) -> None: ...
    @overload
    def __init__(
        self, client: RedisClient, name: str, *, members: type[M], **options: Unpack[TrendOptions]
    ) -> None: ...
    def __init__(
        self,
        client: RedisClient,
        name: str,
        *,
        members: type[Any] = str,
        half_life: Seconds = timedelta(hours=1),
        max_size: int = 10_000,
        namespace: str = "ap",
        deadline: Seconds = 1.0,
    ) -> None:
        self.half_life_us: Final = to_microseconds(half_life, "half_life")
        check_whole(max_size, "max_size", 1)
        self.name: Final = name
        self.max_size: Final = max_size
        keys = TrendKeys(namespace, name)
        self._keys: Final = keys
        self._members: Final = member_codec(members)
        self._commands: Final = lane_of(client)
        self._deadline: Final = to_seconds(deadline, "deadline")
        ten_years = 3650 * 86_400_000
        self._ttl_ms: Final = min(HALF_LIVES_KEPT * to_milliseconds(half_life, "half_life"), ten_years)
        self._slots: Final = Slots(keys.record)

    async def hit(self, item: M, weight: float = 1.0) -> Hit:
        """Count a hit and say where the item stands now. One round trip. `weight` is above 0, at most 2^53."""
        if check_score(weight, "weight") <= 0:
            raise ValueError(f"weight must be above zero, got {weight!r}")
        slot = self._slots.take()
        try:
            score, rank = await add_hit(
                self._commands,
                record=slot.key,
                board=self._keys.board,
                landmark=self._keys.landmark,
                operation=slot.number,
                item=self._members.encode(item),
                weight=weight,
                half_life=self.half_life_us,
                max_size=self.max_size,
                ttl=self._ttl_ms,
                record_ttl=RECORD_TTL_MS,
                deadline=self._deadline,
            )
        finally:
            self._slots.release(slot)
        return Hit(score, rank or None)

    async def get_top(self, count: int = 10) -> Standings[M]:
        """The strongest items with their scores as of now. One round trip, O(log n + count)."""
        check_whole(count, "count", 1)
        return await self._read(count, b"")

    async def get_entry(self, item: M) -> Entry[M] | None:
        """Rank and score of one item as of now; None when nothing is left of its hits. One round trip."""
        found = await self._read(1, self._members.encode(item))
        return found[0] if found else None

    async def clear(self) -> None:
        """Forget all hits. One round trip."""
        keys = self._keys
        await self._commands.call("UNLINK", keys.board, keys.landmark, key=keys.board, deadline=self._deadline)

    async def _read(self, count: int, item: bytes) -> Standings[M]:
        rows, rank = await read_trend(
            self._commands,
            board=self._keys.board,
            landmark=self._keys.landmark,
            half_life=self.half_life_us,
            count=count,
            item=item,
            deadline=self._deadline,
        )
        items: list[M] = self._members.decode_all(rows[::2])
        entries = [Entry(rank + at, *row) for at, row in enumerate(zip(items, map(float, rows[1::2]), strict=True))]
        return Standings(entry for entry in entries if not math.isclose(entry.score, 0.0))

    def __repr__(self) -> str:
        return f"<Trending {self.name!r} half-life {self.half_life_us / 1e6:g} s, at most {self.max_size} items>"
