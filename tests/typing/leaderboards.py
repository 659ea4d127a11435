"""A tour of the leaderboards. Never run; mypy and pyright must accept it."""

from __future__ import annotations

from datetime import date
from typing import assert_type
from uuid import UUID

from redis.asyncio import Redis, RedisCluster

from aredis_patterns import Board, Entry, Hit, Leaderboard, Page, Patterns, RankChange, Standings, Trending, Update


async def boards(client: Redis, cluster: RedisCluster) -> None:
    board = Leaderboard(client, "chess", order="asc", ranking="dense", ties="first", data=True)
    assert_type(board, Leaderboard[str])
    assert_type(await board.add_score("ada", 1, data={"name": "Ada"}, keep="best"), Update)
    assert_type(await board.increment_score("ada", 0.5, operation_id="order:1"), Update)
    assert_type(await board.get_rank("ada"), int | None)
    assert_type(await board.get_top(3), Standings[str])
    by_id = Leaderboard(cluster, "sales", members=UUID, windows=["all", "day"], tz="Europe/Berlin", group="shop")
    assert_type(by_id, Leaderboard[UUID])
    assert_type(await by_id.get_around_user(UUID(int=1)), Standings[UUID])
    assert_type(by_id.window("day", date(2026, 11, 25)), Board[UUID])
    assert_type(await by_id.get_page(2), Page[UUID])
    assert_type(await by_id.get_ranks([UUID(int=1)]), dict[UUID, int | None])
    async for entry in by_id.entries():
        assert_type(entry, Entry[UUID])
    async for change in board.watch("ada"):
        assert_type(change, RankChange[str])
    assert_type(await by_id.merge([by_id.previous("day")], ttl=None), int)


async def trends(client: Redis) -> None:
    trending = Trending(client, "articles", members=int, half_life=3600)
    assert_type(trending, Trending[int])
    assert_type(await trending.hit(4), Hit)
    assert_type(await trending.get_top(), Standings[int])


async def hub(p: Patterns) -> None:
    assert_type(p.leaderboard("chess", ties="first"), Leaderboard[str])
    assert_type(p.trending("articles", half_life=60), Trending[str])
