"""Whoever watches a member hears of every change that lasts."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import Leaderboard, PipelinedRedis, RankChange, listener_of
from aredis_patterns.embedded import EmbeddedServer


async def test_overtaken(make_board: Any) -> None:
    board = make_board(live=True)
    await board.add_score("ada", 10)
    async with asyncio.timeout(10), aclosing(board.watch("ada")) as changes:
        assert await anext(changes) == RankChange("ada", 1, None, 10.0, None)
        await board.add_score("bob", 20)
        change = await anext(changes)
        assert change == RankChange("ada", 2, 1, 10.0, 10.0)
        assert change.overtaken
        await board.increment_score("ada", 15)
        assert await anext(changes) == RankChange("ada", 1, 2, 25.0, 10.0)
        await board.remove("ada")
        gone = await anext(changes)
        assert (gone.rank, gone.overtaken) == (None, True)
    assert listener_of(board._rules.commands.client).statistics().channels == 0


async def test_many_watchers_and_writers(make_board: Any) -> None:
    """The last thing that each watcher hears is what is true in the end."""
    board = make_board(live=True, members=int)
    for member in range(5):
        await board.add_score(member, member)
    last: dict[int, int | None] = {}

    async def follow(member: int) -> None:
        async with aclosing(board.watch(member)) as changes:
            async for change in changes:
                last[member] = change.rank

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        tasks = [group.create_task(follow(member)) for member in range(5)]
        await asyncio.gather(*(board.add_score(n % 5, (n * 7919) % 1000) for n in range(300)))
        ranks = await board.get_ranks(range(5))
        while last != ranks:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()


async def test_a_watch_outlives_its_connection(own_server: EmbeddedServer, own_client: Redis) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        board, writer = (
            Leaderboard(client, "b", live=True, deadline=5),
            Leaderboard(own_client, "b", live=True, deadline=5),
        )
        await board.add_score("ada", 10)
        async with asyncio.timeout(20), aclosing(board.watch("ada")) as changes:
            await anext(changes)
            await own_client.client_kill_filter(_type="pubsub", skipme=True)
            await own_client.client_kill_filter(_type="normal", skipme=True)
            await writer.add_score("bob", 20)
            assert (await anext(changes)).rank == 2
        await writer._rules.commands.aclose()


async def test_without_permission_to_subscribe_it_looks_by_itself(
    own_server: EmbeddedServer, own_client: Redis
) -> None:
    await own_client.execute_command("ACL SETUSER app on >pw ~* +@all resetchannels")
    writer = Leaderboard(own_client, "b", live=True, deadline=5)
    await writer.add_score("ada", 10)
    async with PipelinedRedis.from_url(own_server.url, username="app", password="pw") as client:
        board = Leaderboard(client, "b", live=True, deadline=5)
        async with asyncio.timeout(20), aclosing(board.watch("ada", poll=0.05)) as changes:
            await anext(changes)
            await writer.add_score("bob", 20)
            assert (await anext(changes)).rank == 2
    await writer._rules.commands.aclose()


async def test_a_board_that_announces_nothing_cannot_be_watched(make_board: Any) -> None:
    with pytest.raises(ValueError, match="live=True"):
        make_board().watch("ada")
    with pytest.raises(ValueError, match="member"):
        make_board(live=True).watch(4)


@pytest.mark.parametrize("poll", [0, -1, float("nan")])
async def test_a_pause_that_is_none_is_refused(make_board: Any, poll: float) -> None:
    with pytest.raises(ValueError, match="poll"):
        make_board(live=True).watch("ada", poll=poll)
