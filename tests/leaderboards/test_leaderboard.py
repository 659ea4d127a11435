"""A board as a user meets it: writes, windows, data, pages, refusals."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from aredis_patterns import Entry, Leaderboard, ScoreRangeError, Update, WindowClosed
from aredis_patterns.testing import FaultProxy, assert_round_trips, no_leaked_keys


async def test_the_recipe_of_the_article(make_board: Any) -> None:
    board = make_board()
    for name, score in [("ada", 30), ("bob", 20), ("cleo", 10)]:
        await board.add_score(name, score)
    assert await board.increment_score("cleo", 15) == Update(2, 3, 25.0, 10.0, True)
    assert await board.get_rank("ada") == 1
    assert await board.get_rank("nobody") is None
    assert list(await board.get_top(2)) == [Entry(1, "ada", 30.0), Entry(2, "cleo", 25.0)]
    assert [entry.member for entry in await board.get_around_user("bob", 1)] == ["ada", "cleo", "bob"]
    rank, member, score, data = (await board.get_top(1))[0]
    assert (rank, member, score, data) == (1, "ada", 30.0, None)


async def test_a_write_tells_both_ranks(make_board: Any) -> None:
    board = make_board(keep="best")
    assert await board.add_score("ada", 10) == Update(1, None, 10.0, None, True)
    assert await board.add_score("bob", 20) == Update(1, None, 20.0, None, True)
    update = await board.add_score("ada", 30)
    assert update == Update(1, 2, 30.0, 10.0, True)
    assert update.improved
    ignored = await board.add_score("ada", 5)
    assert ignored == Update(1, 1, 30.0, 30.0, False)
    assert not ignored.improved


async def test_a_score_that_is_not_taken_keeps_the_data(make_board: Any) -> None:
    """keep="best": a worse score must not overwrite what is remembered of the better one."""
    board = make_board(keep="best", data=True)
    await board.add_score("ada", 10, data={"level": 3})
    await board.add_score("ada", 5, data={"level": 1})
    assert (await board.get_entry("ada")).data == {"level": 3}
    await board.add_score("ada", 5, data={"level": 2}, keep="last")
    assert await board.get_entry("ada") == Entry(1, "ada", 5.0, {"level": 2})


async def test_data_is_joined_everywhere(make_board: Any) -> None:
    board = make_board(data=True)
    await board.add_score("ada", 2, data={"name": "Ada", "country": "uk"})
    await board.add_score("bob", 1)
    for found in (
        await board.get_top(),
        await board.get_page(1),
        await board.get_around_user("bob"),
        await board.between(0, 5),
    ):
        assert [entry.data for entry in found] == [{"name": "Ada", "country": "uk"}, None]


async def test_who_came_first_stands_above_and_equal_scores_again_change_nothing(make_board: Any) -> None:
    for order, better in (("desc", 10), ("asc", -10)):
        board = make_board(ties="first", order=order)
        for member in ("z", "a", "m"):
            await board.add_score(member, 5)
        await board.add_score("z", 5)
        assert [entry.member for entry in await board.get_top()] == ["z", "a", "m"]
        await board.add_score("z", better)
        await board.add_score("z", 5)
        assert [entry.member for entry in await board.get_top()] == ["a", "m", "z"]
        assert await board.get_rank("z") == 3


async def test_two_hundred_at_once_are_ranked_in_the_order_of_the_server(make_board: Any) -> None:
    board = make_board(ties="first", members=int)
    await asyncio.gather(*(board.add_score(number, 1) for number in range(200)))
    assert [entry.member for entry in await board.get_top(200)] == list(range(200))


async def test_around_me_is_always_a_full_window(make_board: Any) -> None:
    board = make_board(members=int)
    for number in range(20):
        await board.add_score(number, 100 - number)
    for member in (0, 1, 10, 18, 19):
        found = [entry.member for entry in await board.get_around_user(member, 3)]
        first = min(max(member - 3, 0), 13)
        assert found == list(range(first, first + 7))
    assert len(await board.get_around_user(5, 50)) == 20
    assert len(await board.get_around_user(99, 3)) == 0


async def test_pages_by_number_and_by_cursor(make_board: Any) -> None:
    board = make_board()
    for number in range(7):
        await board.add_score(f"m{number}", 7 - number // 2)
    page = await board.get_page(2, size=3)
    assert (page.number, page.pages, page.total, len(page)) == (2, 3, 7, 3)
    first = await board.get_page(size=3)
    last_seen = first[-1]
    await board.remove(last_seen.member)  # the cursor points at somebody who has gone
    await board.add_score("new and better", 99)
    rest: list[str] = []
    page = await board.get_page(size=3, cursor=first.cursor)
    while True:
        rest += [entry.member for entry in page]
        if page.cursor is None:
            break
        page = await board.get_page(size=3, cursor=page.cursor)
    assert len(rest) == len(set(rest)) == 4
    assert not {entry.member for entry in first} & set(rest)
    assert page.number is None
    empty = await make_board().get_page()
    assert (list(empty), empty.total, empty.pages, empty.cursor) == ([], 0, 0, None)


@pytest.mark.parametrize("order", ["desc", "asc"])
async def test_a_cursor_goes_by_bytes_and_not_by_letters(order: Any, make_board: Any) -> None:
    """Redis ranks equal scores by their bytes: B, a, aa, b, bytes beyond ASCII. A locale would sort them otherwise."""
    board = make_board(order=order)
    names = ["B", "Z-", "_", "a", "aa", "ab", "b", "\xe4", "\u20ac"]
    for gone in names[1:-1]:
        await asyncio.gather(*(board.add_score(name, 1) for name in names))
        everybody = [entry.member for entry in await board.get_top(20)]
        assert everybody == sorted(names, key=str.encode, reverse=order == "desc")
        place = everybody.index(gone)
        page = await board.get_page(size=place + 1)
        await board.remove(gone)
        rest = await board.get_page(size=20, cursor=page.cursor)
        assert [entry.member for entry in rest] == everybody[place + 1 :]


@pytest.mark.parametrize("cursor", ["", "x", "!!!", "MQ", "MWFiYwpm", "é", "A" * 50])
async def test_a_cursor_that_is_not_ours_is_refused(cursor: str, make_board: Any) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        await make_board().get_page(cursor=cursor)


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        (str, ["ada", "Ünï:{x}", "4"]),
        (bytes, [b"\x00", b"\xff\xfe", b"a b"]),
        (int, [0, -5, 2**70]),
        (UUID, [uuid4(), uuid4(), UUID(int=0)]),
    ],
)
@pytest.mark.parametrize("ties", ["lexical", "first"])
async def test_members_come_back_as_they_went_in(
    kind: Any, members: list[Any], ties: Any, redis_url: str, client_options: dict[str, Any], namespace: str
) -> None:
    """decode_responses on or off, RESP2 or RESP3."""
    async with Redis.from_url(redis_url, **client_options) as client:
        board = Leaderboard(client, "b", members=kind, namespace=namespace, ttl=60, deadline=5, ties=ties, data=True)
        plain = Leaderboard(client, "p", members=kind, namespace=namespace, ttl=60, deadline=5)
        for score, member in enumerate(members):
            await board.add_score(member, 0.5 - score, data={"é": "ü"})
            await plain.add_score(member, 0.5 - score)
        for each in (board, plain):
            assert [(e.member, e.score) for e in await each.get_top()] == [(m, 0.5 - s) for s, m in enumerate(members)]
            assert await each.get_ranks(members) == dict(zip(members, [1, 2, 3], strict=True))
        assert (await board.get_entry(members[1])).data == {"é": "ü"}  # type: ignore[union-attr]
        await board._rules.commands.aclose()


async def test_windows_are_written_together_and_read_apart(make_board: Any, redis_client: Redis) -> None:
    board = make_board(windows=["all", "day", "week", "month"], tz="Europe/Berlin", data=True)
    yesterday = datetime.now(board._rules.windows.calendar.tz).date() - timedelta(days=1)
    await board.add_score("ada", 10, data={"x": 1}, at=yesterday)
    update = await board.add_score("bob", 20)
    assert (update.rank, set(update.windows)) == (1, {"all", "day", "week", "month"})
    assert update.windows["day"].rank == 1
    assert [entry.member for entry in await board.get_top()] == ["bob", "ada"]
    assert [entry.member for entry in await board.window("day").get_top()] == ["bob"]
    assert list(await board.previous("day").get_top()) == [Entry(1, "ada", 10.0, {"x": 1})]
    assert [e.member for e in await board.window("day", yesterday.isoformat()).get_top()] == ["ada"]
    assert await board.window("day", date(2001, 1, 1)).size() == 0
    assert await board.remove("ada") >= 4
    assert await board.previous("day").size() == 0


async def test_a_window_goes_some_time_after_its_end(make_board: Any, redis_client: Redis) -> None:
    board = make_board(windows=["day"], tz="UTC", retention=3600, data=True, ties="first", ranking="dense")
    await board.add_score("ada", 1, data={})
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    ends = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=UTC).timestamp() + 3600
    keys = board.window("day")._keys
    assert len(keys) == 4
    for key in keys:
        assert await redis_client.pexpiretime(key) == ends * 1000


async def test_a_write_for_a_window_that_is_over_is_refused(
    make_board: Any, redis_client: Redis, namespace: str
) -> None:
    """EXPIREAT in the past would delete the board on the first late write."""
    board = make_board(windows=["all", "day"], tz="UTC", retention=3600)
    with pytest.raises(WindowClosed, match="over"):
        await board.add_score("ada", 1, at=date(2020, 1, 1))
    assert await board.size() == 0, "all windows or none"
    assert [key async for key in redis_client.scan_iter(match=f"{namespace}*")] == []


async def test_a_day_before_1970_is_over(make_board: Any, redis_client: Redis, namespace: str) -> None:
    board = make_board(windows=["day"], tz="UTC")
    async with no_leaked_keys(redis_client, namespace):
        with pytest.raises(WindowClosed):
            await board.add_score("ada", 1, at="1969-07-20")


async def test_the_servers_clock_decides_which_day_it_is(make_board: Any) -> None:
    """A process whose clock is days behind writes into today's window, once it has been told."""
    board, right = make_board("b", windows=["day"], tz="UTC"), make_board("b", windows=["day"], tz="UTC")
    board._rules.windows.clock.offset_ms = -3 * 86_400_000
    board._rules.windows._current = None
    await board.add_score("ada", 1)
    assert await right.get_rank("ada") == 1
    assert board.statistics().turns == 1
    assert await board.get_rank("ada") == 1, "and reads follow"


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 2**53 + 1, 1e300, -(2**60)])
async def test_scores_that_a_float_does_not_hold_are_refused(score: float, make_board: Any) -> None:
    board = make_board(client=Redis(port=1))
    for verb in (board.add_score, board.increment_score):
        with pytest.raises(ScoreRangeError, match="2\\*\\*53"):
            await verb("ada", score)


async def test_floats_of_other_libraries_are_floats(make_board: Any) -> None:
    """numpy's float64 is a float that prints as something else."""

    class Float64(float):
        def __repr__(self) -> str:
            return f"np.float64({float(self)})"

        def __add__(self, other: float) -> Float64:
            return Float64(float(self) + other)

    board = make_board()
    assert (await board.add_score("ada", Float64(1.5))).score == 1.5
    assert (await board.increment_score("ada", Float64(1.5))).score == 3


async def test_a_sum_beyond_the_exact_range_changes_nothing(make_board: Any) -> None:
    board = make_board(data=True)
    await board.add_score("ada", 2**53 - 1)
    assert (await board.increment_score("ada", 1)).score == 2**53
    with pytest.raises(ScoreRangeError):
        await board.increment_score("ada", 1, data={"x": 1})
    assert await board.get_entry("ada") == Entry(1, "ada", float(2**53))


@pytest.mark.parametrize("member", [True, 1, "", b"x", None, 1.5, "x" * 1025])
async def test_members_of_another_type_are_refused_before_any_io(member: Any, make_board: Any) -> None:
    board = make_board(client=Redis(port=1))
    for call in (board.get_rank, board.get_entry, board.get_around_user, board.remove):
        with pytest.raises(ValueError, match="member"):
            await call(member)
    with pytest.raises(ValueError, match="member"):
        await board.add_score(member, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda board: board.get_top(0),
        lambda board: board.get_top(True),
        lambda board: board.get_around_user("a", -1),
        lambda board: board.get_page(0),
        lambda board: board.get_page(1, size=0),
        lambda board: board.between(3, 1),
        lambda board: board.between(math.nan),
        lambda board: board.score_at_percentile(101),
        lambda board: board.trim(-1),
        lambda board: board.add_score("a", True),
        lambda board: board.add_score("a", "1"),
        lambda board: board.add_score("a", 1, keep="most"),
        lambda board: board.add_score("a", 1, data={}),
        lambda board: board.add_score("a", 1, at=date(2026, 1, 1)),
        lambda board: board.merge([], ttl=None),
        lambda board: board.merge([board], ttl=None, weights=[1, 2]),
    ],
)
async def test_nonsense_is_refused_before_any_io(call: Any, make_board: Any) -> None:
    with pytest.raises(ValueError, match="got|has no windows|keeps no data"):
        await call(make_board(client=Redis(port=1)))


@pytest.mark.parametrize(
    "options",
    [
        {"order": "up"},
        {"ranking": "modified"},
        {"ties": "random"},
        {"keep": "all"},
        {"max_size": 0},
        {"windows": ["day"]},
        {"windows": ["year"], "tz": "UTC"},
        {"members": float},
        {"ttl": 0},
        {"retention": -1},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="got|need a time zone"):
        Leaderboard(Redis(port=1), "b", **options)  # type: ignore[call-overload]


async def test_naive_datetimes_are_refused(make_board: Any) -> None:
    board = make_board(client=Redis(port=1), windows=["day"], tz="UTC")
    with pytest.raises(ValueError, match="naive"):
        await board.add_score("a", 1, at=datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="future"):
        await board.add_score("a", 1, at=date(2126, 1, 1))


async def test_data_is_json_objects_of_a_bounded_size(make_board: Any) -> None:
    board = make_board(client=Redis(port=1), data=True)
    for data in ([1], {"x": "y" * 20_000}, {"x": object()}, {"x": math.nan}):
        with pytest.raises(ValueError, match="JSON"):
            await board.add_score("a", 1, data=data)


async def test_the_worst_leave_a_full_board_with_their_data(make_board: Any, redis_client: Redis) -> None:
    board = make_board(max_size=3, data=True, members=int)
    for number in range(10):
        await board.add_score(number, number, data={"n": number})
    assert [entry.member for entry in await board.get_top()] == [9, 8, 7]
    assert (await board.add_score(1, 1)).rank is None
    assert set(await redis_client.hkeys(board._keys[1])) == {b"9", b"8", b"7"}


async def test_trim_while_others_write(make_board: Any, redis_client: Redis) -> None:
    """Exactly the best stay, and exactly their data."""
    board = make_board(data=True, members=int)
    await asyncio.gather(*(board.add_score(number, number, data={"n": number}) for number in range(300)))
    await asyncio.gather(
        *(board.trim(100) for _ in range(5)), *(board.add_score(n, n, data={"n": n}) for n in range(300, 400))
    )
    await board.trim(100)
    assert [entry.member for entry in await board.get_top(200)] == list(range(399, 299, -1))
    assert set(await redis_client.hkeys(board._keys[1])) == {b"%d" % n for n in range(300, 400)}


async def test_merge(make_board: Any, redis_client: Redis) -> None:
    week, month, total = make_board(data=True), make_board(data=True), make_board(data=True, ranking="dense")
    await week.add_score("ada", 10, data={"from": "week"})
    await week.add_score("bob", 5)
    await month.add_score("ada", 1, data={"from": "month"})
    await month.add_score("cleo", 30, data={"from": "month"})
    sources = [week, month]
    assert await total.merge(sources, ttl=60, weights=[1, 0.5]) == 3
    assert sources == [week, month], "the caller's list stays as it is"
    assert [e[:3] for e in await total.get_top()] == [(1, "cleo", 15.0), (2, "ada", 10.5), (3, "bob", 5.0)]
    assert (await total.get_entry("ada")).data == {"from": "week"}
    assert all([0 < await redis_client.ttl(key) <= 60 for key in total._keys])
    for aggregate, expected in (("min", 1.0), ("max", 10.0)):
        await total.merge(sources, ttl=60, aggregate=aggregate)
        assert await total.get_score("ada") == expected
    assert await total.merge([total, week], ttl=60) == 3, "a board may be its own source"


async def test_merge_of_boards_with_arrivals(make_board: Any) -> None:
    one, two = make_board(ties="first"), make_board(ties="first")
    for member in ("z", "a"):
        await one.add_score(member, 5)
    for member in ("q", "a", "b"):
        await two.add_score(member, 5)
    total = make_board(ties="first")
    assert await total.merge([one, two], ttl=60, aggregate="max") == 4
    assert [entry.member for entry in await total.get_top()] == ["z", "a", "q", "b"]
    await total.add_score("last", 5)
    assert [entry.member for entry in await total.get_top()][-1] == "last"
    plain = make_board()
    await plain.merge([one, two], ttl=60)
    assert await plain.get_score("a") == 10


async def test_what_begins_beside_a_merged_board_ends_with_it(make_board: Any, redis_client: Redis) -> None:
    """A board for ever that a merge has given an end: data that comes later must not stay behind."""
    source = make_board(group="g")
    await source.add_score("ada", 1)
    for options in ({"data": True}, {"ties": "first", "ranking": "dense", "data": True}):
        board = make_board(group="g", ttl=None, **options)
        await board.merge([source], ttl=60)
        await board.add_score("bob", 2, data={"team": "red"})
        ends = {await redis_client.pexpiretime(key) for key in board._keys}
        assert len(ends) == 1 and ends.pop() > 0
        await board.clear()
        await board.add_score("bob", 2, data={"team": "red"})
        assert {await redis_client.pexpiretime(key) for key in board._keys} == {-1}
        await board.clear()


async def test_a_merge_counts_and_trims_its_own_window_only(make_board: Any) -> None:
    options: dict[str, Any] = {"group": "g", "windows": ["all", "day"], "tz": "UTC"}
    large = make_board("b", **options)
    await asyncio.gather(*(large.add_score(f"m{n}", n) for n in range(10)))
    small = make_board("b", max_size=3, **options)
    assert await small.merge([large], ttl=600) == 3
    assert await small.size() == 3
    assert await small.window("day").size() == 10


async def test_a_merge_that_leaves_the_exact_range_writes_nothing(make_board: Any) -> None:
    one, two = make_board(), make_board()
    await one.add_score("ada", 2**53)
    await two.add_score("ada", 1)
    with pytest.raises(ScoreRangeError):
        await two.merge([one, two], ttl=60)
    assert await two.get_score("ada") == 1
    with pytest.raises(ValueError, match="type of members"):
        await two.merge([make_board(members=int)], ttl=60)


async def test_the_score_at_a_percentile_is_the_inverse_of_it(make_board: Any) -> None:
    """1 of 11 is 9.09 %, and 9.09 % of 11 is 1 and the last bit of a float."""
    board = make_board()
    for size in range(1, 15):
        await board.add_score(f"m{size}", size)
        for number in range(1, size + 1):
            percent = await board.percentile(f"m{number}")
            assert await board.score_at_percentile(percent) == number


async def test_clear(make_board: Any, redis_client: Redis, namespace: str) -> None:
    board = make_board(windows=["all", "day", "month"], tz="UTC", data=True, ties="first", ranking="dense")
    async with no_leaked_keys(redis_client, f"{namespace}:lb:{{board", allow_ttl=True):
        await board.add_score("ada", 1, data={})
    await board.clear()
    left = [key async for key in redis_client.scan_iter(match=f"{namespace}*")]
    assert all(b":op:" in key for key in left), left


async def test_every_verb_is_one_round_trip(fault_proxy: FaultProxy, namespace: str) -> None:
    async with Redis.from_url(fault_proxy.url) as client:
        board = Leaderboard(
            client, "b", namespace=namespace, deadline=5, data=True, windows=["all", "day"], tz="UTC", ties="first"
        )
        plain = Leaderboard(client, "p", namespace=namespace, deadline=5, ttl=60)
        calls = [
            lambda b: b.add_score("ada", 1),
            lambda b: b.increment_score("ada", 1),
            lambda b: b.get_rank("ada"),
            lambda b: b.get_top(),
            lambda b: b.get_around_user("ada"),
            lambda b: b.get_page(),
            lambda b: b.get_ranks(["ada", "bob"]),
            lambda b: b.between(0, 9),
            lambda b: b.percentile("ada"),
            lambda b: b.score_at_percentile(50),
            lambda b: b.size(),
            lambda b: b.merge([b], ttl=60),
            lambda b: b.trim(10),
            lambda b: b.remove("ada"),
            lambda b: b.clear(),
        ]
        for each in (board, plain):
            for call in calls:
                await call(each)  # the server gets to know the scripts
                async with assert_round_trips(fault_proxy, 1):
                    await call(each)
        await plain._rules.commands.aclose()


async def test_standings_are_tables(make_board: Any) -> None:
    board = make_board(data=True)
    await board.add_score("=cmd", 2, data={"country": "uk"})
    await board.add_score("bob", 1.5)
    top = await board.get_top()
    assert top.to_dicts()[0] == {"rank": 1, "member": "=cmd", "score": 2.0, "country": "uk"}
    assert top.to_csv().splitlines() == ["rank,member,score,country", "1,'=cmd,2.0,uk", "2,bob,1.5,"]
    assert str(top).splitlines()[2] == "   1  =cmd        2  uk"
    assert (top[0].rank, len(top[:1]), top == list(top)) == (1, 1, True)
    assert "bob" in repr(top)


def test_a_board_says_what_it_is(make_board: Any) -> None:
    assert "desc" in repr(make_board())
