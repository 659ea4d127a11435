"""Servers for tests of monitoring: one with a slow log that logs everything, and the ACL users of a careful operator."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from redis.asyncio import Redis

from aredis_patterns.embedded import EmbeddedServer

AWKWARD = [
    b"a b",
    b'say "hi"',
    b"back\\slash",
    b"line\nbreak\r\n",
    b"nul\x00nul",
    b"\xff\xfe not utf-8",
    "grüße".encode(),
    b"tab\tbell\x07\x08",
    b"",
    b'\' [0 1.2.3.4:5] "x"',
]
"""Arguments that a careless reader of MONITOR or SLOWLOG takes apart wrongly."""


@pytest.fixture
async def slow_client(own_client: Redis) -> Redis:
    """A client of a server whose slow log has every command."""
    await own_client.config_set("slowlog-log-slower-than", 0)
    await own_client.config_set("slowlog-max-len", 1024)
    return own_client


@pytest.fixture
async def restricted(own_server: EmbeddedServer, own_client: Redis) -> AsyncGenerator[Redis, None]:
    """A user who may read and write keys, and knows nothing of administration."""
    await own_client.acl_setuser(
        "app", enabled=True, nopass=True, keys="*", commands=["+@all", "-@admin", "-@dangerous"]
    )
    async with Redis.from_url(own_server.url, username="app", password="x") as client:
        yield client
