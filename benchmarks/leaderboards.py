"""What does a leaderboard cost against the recipe? Run: python -m benchmarks.leaderboards [--quick] [--uvloop] [--check]

Ours against hand-written redis-py, the code of the well-known article made asynchronous: add_score and then get_rank,
get_top(10), get_around_user(5), on a board of 10,000 members.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis

from aredis_patterns import Leaderboard
from benchmarks._report import Contest, Outcome, Target, main

MEMBERS = 10_000
KEY = "bench:board"
ADD, TOP, AROUND = "add and rank", "top 10", "around 5"


class Recipe:
    """The article, with await."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self.numbers = count()

    async def add_and_rank(self, _: int) -> Any:
        number = next(self.numbers)
        user = f"user:{number % MEMBERS}"
        await self.redis.zadd(KEY, {user: number % 7919})
        rank = await self.redis.zrevrank(KEY, user)
        return rank + 1 if rank is not None else None

    async def top(self, _: int) -> Any:
        return await self.redis.zrevrange(KEY, 0, 9, withscores=True)

    async def around(self, caller: int) -> Any:
        rank = await self.redis.zrevrank(KEY, f"user:{caller % MEMBERS}")
        if rank is None:
            return []
        return await self.redis.zrevrange(KEY, max(0, rank - 5), rank + 5, withscores=True)


class Ours:
    """The same three questions."""

    def __init__(self, board: Leaderboard[str]) -> None:
        self.board = board
        self.numbers = count()

    async def add_and_rank(self, _: int) -> Any:
        number = next(self.numbers)
        return (await self.board.add_score(f"user:{number % MEMBERS}", number % 7919)).rank

    async def top(self, _: int) -> Any:
        return await self.board.get_top(10)

    async def around(self, caller: int) -> Any:
        return await self.board.get_around_user(f"user:{caller % MEMBERS}", 5)


async def run(url: str, stack: AsyncExitStack, contest: Contest) -> Outcome:
    client, stock = [await stack.enter_async_context(Redis.from_url(url)) for _ in range(2)]
    pool = BlockingConnectionPool.from_url(url, max_connections=50)
    pooled = await stack.enter_async_context(Redis(connection_pool=pool))
    stack.push_async_callback(pool.aclose)
    boards = {
        "ours": Leaderboard(client, "plain", deadline=10, namespace="bench"),
        "ours, ties first and data": Leaderboard(
            client, "rich", deadline=10, namespace="bench", ties="first", data=True, ranking="standard"
        ),
    }
    scores = {f"user:{number}": number for number in range(MEMBERS)}
    await client.zadd(KEY, scores)
    for board in boards.values():
        seed = Leaderboard(client, "seed", namespace="bench")
        await client.zadd(seed._keys[0], scores)
        await board.merge([seed], ttl=None)
        for number in range(200):
            await board.increment_score(f"user:{number}", 0, data={"n": number} if "d" in board._rules.layout else None)
    memory = sum([await client.memory_usage(key, samples=0) or 0 for key in boards["ours"]._keys]) / MEMBERS
    everybody: dict[str, Recipe | Ours] = {name: Ours(board) for name, board in boards.items()}
    everybody |= {"stock": Recipe(stock), "stock, blocking pool of 50": Recipe(pooled)}
    for name, peer in everybody.items():
        callers = (1, 100) if name == "stock" else (100, 1000) if name.startswith("stock") else (1, 100, 1000)
        contest.add(ADD, name, peer.add_and_rank, callers=callers)
        contest.add(TOP, name, peer.top, callers=callers)
        contest.add(AROUND, name, peer.around, callers=callers)
    await contest.measure()
    targets = [
        Target(f"{workload}, 100 callers, vs the article", contest.ratio(workload, 100, "ours", "stock"), least=8)
        for workload in (ADD, TOP, AROUND)
    ]
    targets += [
        Target(f"{workload}, 1 caller, vs the article", contest.ratio(workload, 1, "ours", "stock"), least=1)
        for workload in (ADD, TOP, AROUND)
    ]
    targets.append(Target("bytes per member, 10,000 members", memory, most=120))
    return Outcome(targets)


if __name__ == "__main__":
    sys.exit(main("leaderboards", __doc__, run, libraries=("redis", "hiredis")))
