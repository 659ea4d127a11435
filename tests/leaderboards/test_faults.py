"""Boards when things go wrong: lost replies, cancellation, flushed scripts, missing permissions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import Leaderboard, PipelinedRedis, ReplyTimeout, Trending
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.testing import FaultProxy, cancel_everywhere


@pytest.mark.parametrize("options", [{}, {"ttl": 600, "live": True}], ids=["plain", "whole"])
async def test_an_increment_whose_reply_is_lost_counts_once(
    fault_proxy: FaultProxy, namespace: str, options: Any
) -> None:
    """The wire sends it again; the script knows its number and answers what it answered before."""
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        board: Leaderboard[str] = Leaderboard(client, "b", namespace=namespace, deadline=5, **options)
        await board.add_score("bob", 5)
        for times in (1, 2):
            fault_proxy.drop_replies("EVALSHA", times=1)
            update = await board.increment_score("ada", 10)
            assert (update.score, update.previous_score) == (10.0 * times, None if times == 1 else 10.0)
            assert update.rank == 1
        assert await board.get_score("ada") == 20
        assert client.statistics().repeated == 2


async def test_fifty_increments_through_a_bad_line_are_fifty(fault_proxy: FaultProxy, namespace: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        board = Leaderboard(client, "b", namespace=namespace, deadline=5, ttl=600)
        await board.add_score("ada", 0)
        for lost in (1, 20, 50):
            fault_proxy.drop_replies("EVALSHA", nth=lost, times=1)
            updates = await asyncio.gather(*(board.increment_score("ada") for _ in range(50)))
            assert len({update.score for update in updates}) == 50
        assert await board.get_score("ada") == 150


async def test_the_same_operation_id_counts_once(make_board: Any) -> None:
    board, other = make_board("b"), make_board("b")
    first = await board.increment_score("ada", 10, operation_id="order:17")
    assert await other.increment_score("ada", 10, operation_id="order:17") == first
    assert await board.get_score("ada") == 10
    await board.increment_score("ada", 10, operation_id="order:18")
    assert await board.get_score("ada") == 20


@pytest.mark.parametrize("options", [{"ttl": None}, {"ties": "first", "data": True}], ids=["plain", "whole"])
async def test_an_increment_that_was_overtaken_is_not_applied(make_board: Any, options: Any) -> None:
    """What an old connection still held arrives behind its repetition on a new one, and behind the next use of its slot."""
    board = make_board(**options)
    await board.add_score("ada", 1)
    await board.increment_score("ada", 10)
    late = board._slots.take()
    late.number -= 3  # used next: the number of the first one
    board._slots.release(late)
    await board.increment_score("ada", 100)
    assert await board.get_score("ada") == 11
    await board.clear()


async def test_a_hit_that_was_overtaken_is_not_counted(redis_client: Redis, namespace: str) -> None:
    trending = Trending(redis_client, "t", namespace=namespace, deadline=5, half_life=3600)
    await trending.hit("lua")
    await trending.hit("lua")
    late = trending._slots.take()
    late.number -= 3  # used next: the number of the first one
    trending._slots.release(late)
    await trending.hit("lua", 100)
    assert (await trending.get_top())[0].score < 3


async def test_cancelled_anywhere_each_increment_counts_at_most_once(make_board: Any) -> None:
    board = make_board()
    await board.add_score("ada", 0)
    runs = 0

    async def critical() -> None:
        nonlocal runs
        runs += 1
        await board.increment_score("ada")
        await board.get_top()

    await cancel_everywhere(critical)
    assert 1 <= await board.get_score("ada") <= runs
    await asyncio.gather(*(board.increment_score("bob") for _ in range(100)))
    assert await board.get_score("bob") == 100, "slots of cancelled operations are used again, and count again"


async def test_records_are_as_many_as_operations_in_flight(
    make_board: Any, redis_client: Redis, namespace: str
) -> None:
    board = make_board()
    for _ in range(50):
        await board.increment_score("ada")
    records = [key async for key in redis_client.scan_iter(match=f"{namespace}*:op:*")]
    assert len(records) == 1
    assert 0 < await redis_client.ttl(records[0]) <= 600


async def test_flushed_scripts_are_repaired(own_server: EmbeddedServer) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        board = Leaderboard(client, "b", deadline=5)
        await board.increment_score("ada")
        await client.script_flush()
        await asyncio.gather(*(board.increment_score("ada") for _ in range(50)))
        assert await board.get_score("ada") == 51


async def test_a_flushed_server_is_an_empty_board(own_server: EmbeddedServer) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        board = Leaderboard(client, "b", deadline=5, ties="first", data=True, ranking="dense")
        await board.add_score("ada", 1, data={})
        await client.flushall()
        assert list(await board.get_top()) == []
        assert (await board.add_score("bob", 1)).rank == 1


async def test_a_silent_server_costs_the_deadline(own_server: EmbeddedServer) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        board = Leaderboard(client, "b", deadline=0.1)
        await board.add_score("ada", 1)
        own_server.pause()
        try:
            with pytest.raises(ReplyTimeout):
                await board.increment_score("ada")
        finally:
            own_server.resume()
        assert await board.get_score("ada") in (1, 2)


async def test_a_wrong_key_is_reported(make_board: Any, redis_client: Redis) -> None:
    board = make_board()
    await redis_client.set(board._keys[0], "text", ex=60)
    for call in (board.add_score("ada", 1), board.get_rank("ada"), board.get_around_user("ada")):
        with pytest.raises(Exception, match="WRONGTYPE"):
            await call


async def test_reads_are_read_only_and_writes_are_not(own_server: EmbeddedServer, own_client: Redis) -> None:
    """So reads may go to replicas, and a user who may only read can read."""
    writer = Leaderboard(own_client, "b", ranking="dense", data=True, ties="first")
    await writer.add_score("ada", 1, data={})
    await own_client.execute_command("ACL SETUSER reader on >pw ~* +@all -evalsha -eval -@write")
    async with PipelinedRedis.from_url(own_server.url, username="reader", password="pw") as client:
        board = Leaderboard(client, "b", ranking="dense", data=True, ties="first")
        assert await board.get_rank("ada") == 1
        assert len(await board.get_around_user("ada")) == len(await board.get_page()) == 1
        trending: Trending[str] = Trending(client, "t")
        assert list(await trending.get_top()) == []
    await writer._rules.commands.aclose()


async def test_after_a_fork_operations_have_numbers_of_their_own(
    make_board: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = make_board()
    await board.increment_score("ada")
    before = board._slots.take().key
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert board._slots.take().key != before
