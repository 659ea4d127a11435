"""`Leaderboard`: the board of all time and its windows, for writing; reading is in `_standings`."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import date, timedelta, tzinfo
from typing import Any, Final, Literal, NamedTuple, Unpack, get_args, overload

from aredis_patterns._core.calendar import Day, check_period
from aredis_patterns._core.checks import check_whole
from aredis_patterns._core.codecs import JSONCodec
from aredis_patterns._core.durations import to_seconds
from aredis_patterns._core.members import M, member_codec
from aredis_patterns._core.replay import RECORD_TTL_MS, Slots
from aredis_patterns.exceptions import ScoreRangeError, WindowClosed
from aredis_patterns.leaderboards._checks import check_score
from aredis_patterns.leaderboards._keys import BoardKeys
from aredis_patterns.leaderboards._options import BoardOptions, Keep, Order, Ranking, Ties
from aredis_patterns.leaderboards._records import MemberData, Update, read_update
from aredis_patterns.leaderboards._rules import Rules
from aredis_patterns.leaderboards._scripts import write_plain, write_score
from aredis_patterns.leaderboards._sharing import SharedReads
from aredis_patterns.leaderboards._standings import Board
from aredis_patterns.leaderboards._upkeep import Upkeep
from aredis_patterns.leaderboards._windows import Target, Window, Windows
from aredis_patterns.pipelining import lane_of
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["BoardStatistics", "Leaderboard"]

MOST_DATA: Final = 16 * 1024
ONCE_TTL_MS: Final = 86_400_000
_MODES: Final = frozenset(get_args(Keep))
_JSON: Final[JSONCodec[MemberData]] = JSONCodec()


@dataclass(frozen=True, slots=True)
class BoardStatistics:
    """What one `Leaderboard` object has written: `writes`, of these `applied`; `turns`: a new day met on the way."""

    writes: int
    applied: int
    turns: int


class _Write(NamedTuple):
    """What stays the same when a write is sent again for another day."""

    record: str
    operation: int
    member: bytes
    score: float
    mode: str
    data: bytes
    record_ttl: int


class Leaderboard(Upkeep[M]):
    """Who ranks where. Every verb is one round trip; a write returns the old and the new rank.

    Guarantee: writes are applied exactly once, or an error says that nobody knows. Each carries the number of its
    operation, so the wire may send it again after a lost reply, and the second execution answers what the first did.

    Args:
        client: any `redis.asyncio` client. It is never closed here.
        name: boards of the same namespace, group and name are the same board in all processes. Options that shape what
            is stored (order, ties, ranking="dense", data, windows, tz) must be the same there, too.
        members: their type: str, bytes, int or UUID (16 bytes each). Anything else is refused.
        order: "desc", the highest score is the best; or "asc".
        ranking: "ordinal" 1234, "standard" 1224, "dense" 1223.
        ties: order of equal scores. "lexical": by the bytes of the member, in the direction of the board (Redis' own
            order). "first": who reached the score first stands above, exactly, whatever the clocks say.
        keep: which score of a member stays, see `Keep`. A score that is not taken changes nothing, neither data.
        data: whether members have data, joined into every entry: a JSON object of at most 16 KiB.
        max_size: the best so many stay; the others go with all that is kept of them.
        windows: any of "all", "day", "week" (ISO), "month"; written together, all or none. The first is what the board
            itself reads; `window()` gives the others. `tz` says in which time zone days begin.
        retention: how long a window stays after its end. ttl: how long the board of all time lives after the last
            write. None: for ever, on purpose; that board is data, not a cache.
        group: boards of one group share a slot of a Cluster and can be merged there. Default: the board alone.
        live: writes announce changes, for `watch`. One PUBLISH per write.
        deadline: seconds until a silent server raises ReplyTimeout.

    Memory per member, checked by `tests/leaderboards/test_memory.py`: about 20 bytes up to 128 members; then 80 (Valkey 9)
    to 105 (Redis 7) for short names, 95 to 135 for 32 characters; with ties="first" 45 to 80 more; with data 60 more and
    the data; with dense ranks 65 to 100 per distinct score.

        board = Leaderboard(redis, "chess", ties="first")
        update = await board.add_score("ada", 2400)
        update.rank, update.previous_rank
    """

    @overload
    def __init__(self: Leaderboard[str], client: RedisClient, name: str, **options: Unpack[BoardOptions]) -> None: ...
    @overload
    def __init__(
        self, client: RedisClient, name: str, *, members: type[M], **options: Unpack[BoardOptions]
    ) -> None: ...
    def __init__(
        self,
        client: RedisClient,
        name: str,
        *,
        members: type[Any] = str,
        order: Order = "desc",
        ranking: Ranking = "ordinal",
        ties: Ties = "lexical",
        keep: Keep = "set",
        data: bool = False,
        max_size: int | None = None,
        windows: Sequence[Window] = (),
        tz: tzinfo | str | None = None,
        retention: Seconds = timedelta(days=35),
        ttl: Seconds | None = None,
        group: str | None = None,
        live: bool = False,
        namespace: str = "ap",
        deadline: Seconds = 1.0,
    ) -> None:
        for value, known in ((order, Order), (ranking, Ranking), (ties, Ties), (keep, Keep)):
            if value not in get_args(known):
                raise ValueError(f"expected one of {', '.join(get_args(known))}, got {value!r}")
        if max_size is not None:
            check_whole(max_size, "max_size", 1)
        layout = ("d" if data else "") + ("t" if ties == "first" else "") + ("s" if ranking == "dense" else "")
        self.name: Final = name
        self.group: Final = group or name
        keys = BoardKeys(namespace, self.group, name)
        rules = Rules(
            commands=lane_of(client),
            members=member_codec(members),
            order=order,
            ranking=ranking,
            layout=layout,
            channel=keys.channel() if live else "",
            windows=Windows(keys, layout, windows, tz=tz, retention=retention, ttl=ttl),
            shared=SharedReads(),
            deadline=to_seconds(deadline, "deadline"),
        )
        super().__init__(rules, max_size)
        self.keep: Final[Keep] = keep
        self._plain: Final = rules.plain and not live and max_size is None and ttl is None and rules.windows.is_all_time
        """Whether the short script does it."""
        self._slots: Final = Slots(keys.record)
        self._record_of_one: Final = keys.record
        self._writes = self._applied = self._turns = 0

    async def add_score(
        self,
        member: M,
        score: float,
        *,
        data: MemberData | None = None,
        keep: Keep | None = None,
        at: Day | None = None,
    ) -> Update:
        """Give a member this score. One round trip, O(w log n) for w windows.

        `data` replaces what is remembered of the member. `keep` overrides the board's rule for this write. `at` counts it
        for the windows of another day than today; WindowClosed when one of them has gone already.

        Raises ScoreRangeError for NaN, infinities and numbers beyond 2^53, before any I/O.
        """
        mode = keep or self.keep
        if mode not in _MODES:
            raise ValueError(f"keep is one of {', '.join(get_args(Keep))}, got {keep!r}")
        return await self._write(member, check_score(score), mode, data, at, None)

    async def increment_score(
        self,
        member: M,
        amount: float = 1,
        *,
        data: MemberData | None = None,
        at: Day | None = None,
        operation_id: str | None = None,
    ) -> Update:
        """Add to the score of a member; one who is not there begins at 0. One round trip, O(w log n).

        Applied exactly once, or an error says that nobody knows. To try again after such an error, give both tries the
        same `operation_id`: it is remembered for a day, and the second one answers what the first did.

        Raises ScoreRangeError, and changes nothing, when a sum leaves the range of exact integers (2^53).
        """
        return await self._write(member, check_score(amount, "amount"), "add", data, at, operation_id)

    async def _write(
        self, member: M, score: float, mode: str, data: MemberData | None, at: Day | None, operation_id: str | None
    ) -> Update:
        rules = self._rules
        windows = rules.windows
        stored = rules.members.encode(member)
        encoded = b"" if data is None else self._encode_data(data)
        day = None if at is None else self._open_day(at)
        if operation_id is None:
            slot = self._slots.take()
            record, number, ttl = slot.key, slot.number, RECORD_TTL_MS
        else:
            slot = None
            record, number, ttl = self._record_of_one("once", operation_id), 1, ONCE_TTL_MS
        write = _Write(record, number, stored, score, mode, encoded, ttl)
        try:
            status, answer = await self._send(write, windows.current() if day is None else windows.at(day))
            for _ in range(2):  # midnight may strike, and the clocks may differ; not three times in a row
                if status != 1:
                    break
                self._turns += 1
                windows.learn(float(answer))
                status, answer = await self._send(write, windows.current())
        finally:
            if slot is not None:
                self._slots.release(slot)
        if status == 0:
            return self._update(answer)
        if status == 3:
            raise ScoreRangeError(f"the score of {member!r} on {self.name!r} would be {float(answer):g}, beyond 2**53")
        raise WindowClosed(self.name, f"a window of {day or 'today'} is over")

    def _send(self, write: _Write, target: Target) -> Coroutine[Any, Any, tuple[int, bytes]]:
        rules = self._rules
        if self._plain:
            return write_plain(
                rules.commands,
                record=write.record,
                board=target.parts[0],
                operation=write.operation,
                member=write.member,
                score=write.score,
                mode=write.mode,
                order=rules.order,
                record_ttl=write.record_ttl,
                deadline=rules.deadline,
            )
        return write_score(
            rules.commands,
            record=write.record,
            parts=target.parts,
            operation=write.operation,
            member=write.member,
            score=write.score,
            mode=write.mode,
            order=rules.order,
            ranking=rules.ranking,
            layout=rules.layout,
            data=write.data,
            max_size=self.max_size or 0,
            channel=rules.channel,
            record_ttl=write.record_ttl,
            spans=target.spans,
            deadline=rules.deadline,
        )

    def window(self, window: Window, at: Day | None = None) -> Board[M]:
        """One window of this board, for reading: the current one, or the one in which the day `at` lies. No I/O.

        A window without `at` moves on with the calendar; one with `at` stays.
        """
        windows = self._rules.windows
        if window not in windows.names:
            raise ValueError(f"this board has the windows {', '.join(windows.names)}, got {window!r}")
        return Board(self._rules, window, None if at is None else windows.calendar.date_of(at))

    def previous(self, window: Literal["day", "week", "month"]) -> Board[M]:
        """The window before the current one: yesterday, last week, last month. No I/O."""
        windows = self._rules.windows
        check_period(window)
        return self.window(window, windows.calendar.spans(window, windows.today(), 2)[0].first)

    def statistics(self) -> BoardStatistics:
        """What this object has written so far."""
        return BoardStatistics(self._writes, self._applied, self._turns)

    def _update(self, answer: bytes) -> Update:
        self._writes += 1
        words = answer.split()
        if len(words) == 5:
            update = read_update(words)
        else:
            updates = [read_update(words[at : at + 5]) for at in range(0, len(words), 5)]
            update = updates[0]._replace(windows=dict(zip(self._rules.windows.names, updates, strict=True)))
        self._applied += update.applied
        return update

    def _encode_data(self, data: MemberData) -> bytes:
        if "d" not in self._rules.layout:
            raise ValueError("this board keeps no data: make it with data=True")
        encoded = _JSON.encode(data)
        if not isinstance(data, dict) or len(encoded) > MOST_DATA:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"data is a JSON object of at most {MOST_DATA} bytes, got {len(encoded)}: {data!r:.100}")
        return encoded

    def _open_day(self, at: Day) -> date:
        windows = self._rules.windows
        day = windows.calendar.date_of(at)
        if windows.names == ("all",):
            raise ValueError("at= names a day, but this board has no windows")
        if day > windows.today() + timedelta(days=1):
            raise ValueError(f"at= must not be in the future, got {at!r}")
        return day
