"""The scripts on a real server answer what the plain Python model answers: every order, ranking, tie and keep mode."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from aredis_patterns.exceptions import ScoreRangeError
from aredis_patterns.leaderboards._models import BoardModel, Row

SETTINGS = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
MEMBERS = st.sampled_from([b"a", b"b", b"c", b"aa", b"\xff", b"\x00", b"z" * 40])
# Few values, so that ties happen; 0.1 and 0.2 have no exact binary form; zero is a score like any other.
SCORES = st.sampled_from([0.0, 1.0, 2.0, -3.0, 0.1, 0.2, 0.30000000000000004, 1e15, float(2**53)])
SMALL = st.sampled_from([0.0, 1.0, -1.0, 0.1, 2.5])
STEPS = st.one_of(
    st.tuples(st.just("add"), MEMBERS, SCORES, st.sampled_from([None, "set", "best", "worst", "last"]), st.booleans()),
    st.tuples(st.just("increment"), MEMBERS, SMALL, st.none(), st.booleans()),
    st.tuples(st.just("remove"), MEMBERS, st.none(), st.none(), st.none()),
    st.tuples(st.just("trim"), st.integers(0, 6), st.none(), st.none(), st.none()),
)
SCORE_ZERO = [("add", b"a", 0.0, None, False), ("remove", b"a", None, None, None)]
RULES = st.fixed_dictionaries(
    {"keep": st.sampled_from(["set", "best", "worst"]), "max_size": st.none() | st.integers(1, 4)}
)


@pytest.mark.parametrize(
    ("order", "ranking", "ties"),
    list(itertools.product(["desc", "asc"], ["ordinal", "standard", "dense"], ["lexical", "first"])),
)
@SETTINGS
@given(rules=RULES, story=st.lists(STEPS, max_size=20), data=st.booleans())
@example(
    rules={"keep": "set", "max_size": None},
    story=[("add", b"a", 0.0, None, False), ("remove", b"a") + (None,) * 3],
    data=False,
)
async def test_board_and_model_agree(
    make_board: Any,
    redis_client: Redis,
    order: Any,
    ranking: Any,
    ties: Any,
    rules: dict[str, Any],
    story: list[Any],
    data: bool,
) -> None:
    shape = {"order": order, "ranking": ranking, "ties": ties, **rules}
    model = BoardModel(**shape)
    # Without a TTL a plain board takes the short script.
    board = make_board(members=bytes, data=data, **shape, **({} if story and story[0][4] else {"ttl": None}))
    for number, (verb, who, score, keep, with_data) in enumerate(story):
        value = {"step": number} if data and with_data else None
        if verb == "add":
            expected = model.write(who, score, keep=keep, data=value)
            assert (await board.add_score(who, score, keep=keep, data=value))[:5] == expected
        elif verb == "increment":
            try:
                expected = model.write(who, score, add=True, data=value)
            except ScoreRangeError:
                with pytest.raises(ScoreRangeError):
                    await board.increment_score(who, score, data=value)
                continue
            assert (await board.increment_score(who, score, data=value))[:5] == expected
        elif verb == "remove":
            assert await board.remove(who) == model.remove(who)
        else:
            assert await board.trim(who) == model.trim(who)
    await _same(board, model)
    await _nothing_else_is_kept(redis_client, board, model)


async def _same(board: Any, model: BoardModel) -> None:
    rows = model.rows()
    members = [row.member for row in rows]
    assert [entry[:3] for entry in await board.get_top(50)] == rows
    assert [entry[:3] async for entry in board.entries(chunk=2)] == rows
    assert await board.size() == len(rows)
    assert await board.get_ranks([*members, b"nobody"]) == {row.member: row.rank for row in rows} | {b"nobody": None}
    for member in members:
        assert await board.get_rank(member) == model.rank(member)
        assert (await board.get_entry(member)).data == model.data.get(member)
        assert await board.percentile(member) == pytest.approx(model.percentile(member))
    for member, count in itertools.product([*members, b"nobody"], [0, 1, 2]):
        assert [entry[:3] for entry in await board.get_around_user(member, count)] == model.around(member, count)
    for number, size in itertools.product([1, 2, 3], [1, 3]):
        page = await board.get_page(number, size=size)
        assert [entry[:3] for entry in page] == rows[(number - 1) * size : number * size]
        assert (page.total, page.pages) == (len(rows), -(-len(rows) // size))
    for low, high in [(0.0, 2.0), (None, 0.1), (0.2, None), (5.0, 6.0)]:
        inside = [r for r in rows if (low is None or r.score >= low) and (high is None or r.score <= high)]
        page = await board.between(low, high, limit=2)
        assert ([entry[:3] for entry in page], page.total) == (inside[:2], len(inside))
    for percent in (0, 25, 50, 100):
        found = await board.score_at_percentile(percent)
        assert found == _score_at(rows, percent)


def _score_at(rows: list[Row], percent: int) -> float | None:
    """The worst score of which at least `percent` of the members have no better one."""
    total = len(rows)
    fitting = [row.score for at, row in enumerate(rows) if 100 * (total - at) >= percent * total]
    return fitting[-1] if fitting else None


async def _nothing_else_is_kept(client: Redis, board: Any, model: BoardModel) -> None:
    """No data, arrival or distinct score of somebody who has gone."""
    keys = dict(zip(["z", *board._rules.layout], board._keys, strict=True))
    if "d" in keys:
        assert set(await client.hkeys(keys["d"])) == set(model.data)
    if "t" in keys:
        assert set(await client.hkeys(keys["t"])) - {b""} == set(model.scores)
    if "s" in keys:
        found = await client.zrange(keys["s"], 0, -1, withscores=True)
        assert sorted(score for _, score in found) == sorted(set(model.scores.values()))
