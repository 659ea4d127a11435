"""The memory that the documentation states, on the server that is there."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import Leaderboard

SHORT = [f"user:{number:06d}" for number in range(4000)]
LONG = [f"{number:032x}" for number in range(4000)]
FEW = SHORT[:120]


@pytest.mark.parametrize(
    ("members", "options", "most"),
    [
        (FEW, {}, 30),
        (SHORT, {}, 115),
        (LONG, {}, 145),
        (SHORT, {"ties": "first"}, 200),
    ],
    ids=["up to 128", "short", "32 characters", "ties first"],
)
async def test_bytes_per_member(
    members: list[str], options: dict[str, Any], most: int, redis_client: Redis, namespace: str
) -> None:
    board = Leaderboard(redis_client, "b", namespace=namespace, deadline=5, ttl=600, **options)
    source = Leaderboard(redis_client, "source", namespace=namespace, deadline=5, ttl=600)
    # One write each would do the same, more slowly: the sizes of the structures do not depend on who wrote them.
    await redis_client.zadd(source._keys[0], dict(zip(members, range(len(members)), strict=True)))
    await redis_client.expire(source._keys[0], 600)
    if options or members is FEW:
        await board.merge([source], ttl=600)
    else:
        board = source
    await board.add_score("one more", 1)
    used = sum([await redis_client.memory_usage(key, samples=0) or 0 for key in board._keys])
    assert used / len(members) < most
