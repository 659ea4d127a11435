"""Many who ask the same at the same time: one command, nobody's answer older than the question."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from aredis_patterns import Leaderboard
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.leaderboards._sharing import SharedReads

OPTIONS: Any = pytest.mark.parametrize("options", [{}, {"data": True, "ties": "first"}], ids=["plain", "whole"])


@OPTIONS
async def test_a_hundred_of_the_same_are_two_commands(
    own_server: EmbeddedServer, own_client: Redis, options: Any
) -> None:
    """The first one goes at once; the others wait for each other, not for it."""
    board = Leaderboard(own_client, "b", deadline=10, **options)
    await asyncio.gather(*(board.add_score(f"m{n}", n) for n in range(20)))
    await asyncio.gather(board.get_top(10), board.get_page())  # the server knows the scripts
    name = "evalsha_ro" if options else "zrange"
    async with Redis.from_url(own_server.url) as other:
        await other.config_resetstat()
        tops = await asyncio.gather(*(board.get_top(10) for _ in range(100)))
        assert (await other.info("commandstats"))[f"cmdstat_{name}"]["calls"] == 2
        assert all(top == tops[0] and len(top) == 10 for top in tops)
        await other.config_resetstat()
        pages = await asyncio.gather(*(board.get_page(n % 2 + 1, size=5) for n in range(100)))
        assert (await other.info("commandstats"))["cmdstat_evalsha_ro"]["calls"] == 3
        assert [page[0].member for page in pages] == ["m19", "m14"] * 50


@OPTIONS
async def test_everybody_sees_what_they_have_written(make_board: Any, options: Any) -> None:
    board = make_board(**options)

    async def write_and_look(number: int) -> None:
        for turn in range(1, 6):
            await board.add_score(f"m{number}", 1000 * turn + number)
            found = {entry.member: entry.score for entry in await board.get_top(50)}
            assert found[f"m{number}"] == 1000 * turn + number

    await asyncio.gather(*(write_and_look(number) for number in range(50)))


async def test_nobody_shares_the_data(make_board: Any) -> None:
    board = make_board(data=True)
    await board.add_score("ada", 1, data={"team": "red"})
    tops = await asyncio.gather(*(board.get_top() for _ in range(5)))
    for top in tops:
        assert top[0].data.pop("team") == "red"


async def test_a_cancelled_caller_takes_only_itself_away(make_board: Any) -> None:
    board = make_board()
    await board.add_score("ada", 1)
    for cancelled in (range(1), range(1, 3), range(2, 10), range(10)):
        tasks = [asyncio.create_task(board.get_top()) for _ in range(10)]
        for steps in range(3):
            if cancelled and steps == len(cancelled) % 3:
                for number in cancelled:
                    tasks[number].cancel()
            await asyncio.sleep(0)
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        for number, answer in enumerate(answers):
            assert isinstance(answer, asyncio.CancelledError) if number in cancelled else len(answer) == 1
    gathering = board._rules.shared._here
    assert gathering.under_way == 0 and not gathering._waiting


async def test_an_error_is_everybodys_and_not_the_next_ones(make_board: Any, redis_client: Redis) -> None:
    board = make_board()
    key = board._keys[0]
    await redis_client.set(key, "no board", px=60_000)
    answers = await asyncio.gather(*(board.get_top() for _ in range(10)), return_exceptions=True)
    assert all(isinstance(answer, ResponseError) for answer in answers)
    await redis_client.delete(key)
    assert await asyncio.gather(*(board.get_top() for _ in range(3))) == [[], [], []]


def test_two_loops_in_turn_do_not_disturb_each_other() -> None:
    """What gathers in one loop is sent there, although another loop has used the board meanwhile."""
    shared = SharedReads()
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    asked: list[asyncio.AbstractEventLoop] = []

    async def ask() -> int:
        asked.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return len(asked)

    async def begin() -> list[asyncio.Task[int]]:
        tasks = [asyncio.create_task(shared.read("top", ask)) for _ in range(3)]
        await asyncio.sleep(0)
        return tasks

    async def end(tasks: list[asyncio.Task[int]]) -> list[int]:
        return await asyncio.wait_for(asyncio.gather(*tasks), 10)

    here = first.run_until_complete(begin())
    there = second.run_until_complete(begin())
    assert first.run_until_complete(end(here))[1:] == [3, 3]
    assert second.run_until_complete(end(there))[1:] == [4, 4]
    assert asked == [first, second, first, second]
    first.close()
    second.close()


async def test_whoever_asks_after_it_was_sent_asks_anew() -> None:
    shared = SharedReads()
    version, sent = 0, asyncio.Event()
    go_on = asyncio.Event()

    async def ask() -> int:
        seen = version
        sent.set()
        await go_on.wait()
        return seen

    lone = asyncio.create_task(shared.read("top", ask))
    await sent.wait()
    sent.clear()
    early = asyncio.create_task(shared.read("top", ask))
    await sent.wait()
    version = 1
    late = asyncio.create_task(shared.read("top", ask))
    await asyncio.sleep(0)
    go_on.set()
    assert await asyncio.gather(lone, early, late) == [0, 0, 1]
