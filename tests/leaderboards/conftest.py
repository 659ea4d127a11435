"""Boards of one test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.leaderboards import Leaderboard


@pytest.fixture
def make_board(redis_client: Redis, namespace: str) -> Callable[..., Any]:
    """`make_board(**options)`: a board that nobody has used; `make_board(name, ...)` a certain one."""
    count = 0

    def make(name: str | None = None, **options: Any) -> Leaderboard[Any]:
        nonlocal count
        count += 1
        options = {"namespace": namespace, "deadline": 5, "ttl": 600, "client": redis_client} | options
        client = options.pop("client")
        return Leaderboard(client, name or f"board {count}", **options)

    return make
