"""Scripts under a clock of our own, and stores on a server that the test may break."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import SessionStore
from aredis_patterns._core.script import Script
from aredis_patterns.pipelining import lane_of
from aredis_patterns.sessions import _scripts
from aredis_patterns.sessions._keys import SessionKeys
from aredis_patterns.sessions._rules import make_rules
from aredis_patterns.sessions._server import SessionServer

TIME = "local time = redis.call('TIME')"
SCRIPTS = {script.sha: script for script in vars(_scripts).values() if isinstance(script, Script)}


class Clocked:
    """`Commands` that run scripts at a moment of our choice. Keys stay for ten minutes of real time, whatever the
    script says: in a story the clock of the server stands still."""

    def __init__(self, client: Redis) -> None:
        self.commands = lane_of(client)
        self.now = 1_758_000_000_123_456

    def call(self, *args: Any, **options: Any) -> Any:
        if args[0] not in ("EVALSHA", "EVALSHA_RO"):
            return self.commands.call(*args, **options)
        text = SCRIPTS[args[1]].text
        assert text.count(TIME) == 1
        seconds, micros = divmod(self.now, 1_000_000)
        text = text.replace(TIME, f"local time = {{'{seconds}', '{micros}'}}")
        text = re.sub(r"redis\.call\('PEXPIRE', (\w+), .*\)$", r"redis.call('PEXPIRE', \1, 600000)", text, flags=re.M)
        return self.commands.call("EVAL", text, *args[2:], **options)

    def batch(self, commands: Any, **options: Any) -> Any:
        raise AssertionError("nothing to repair")

    def post(self, *args: Any, **options: Any) -> None:
        raise AssertionError("nothing to undo")


@pytest.fixture
async def redis_client(redis_client: Redis) -> AsyncGenerator[Redis, None]:
    """The client of the suite. What readers of ends send as they stop would open a connection again, were it still on its
    way when the client is closed; so the lanes are closed first."""
    yield redis_client
    await lane_of(redis_client).aclose()


@pytest.fixture
def clocked(redis_client: Redis) -> Clocked:
    return Clocked(redis_client)


@pytest.fixture
def clocked_server(clocked: Clocked, namespace: str) -> Callable[..., SessionServer]:
    """A server under our clock; each call has keys of its own."""
    number = 0

    def make(**rules: Any) -> SessionServer:
        nonlocal number
        number += 1
        chosen = {
            "idle_timeout": 60,
            "absolute_timeout": 600,
            "max_per_user": None,
            "touch_threshold": 0.1,
            "max_bytes": 1000,
            "keep_events": 300,
            "deadline": 10,
        } | rules
        return SessionServer(clocked, SessionKeys(namespace, str(number)), make_rules(**chosen))

    return make


@pytest.fixture
async def store(redis_client: Redis, namespace: str) -> AsyncGenerator[Any, None]:
    """A store on the server of the suite. Every key that is left must have a TTL."""
    yield SessionStore(redis_client, namespace=namespace, max_per_user=5, deadline=10)
    immortal = [
        key
        async for key in redis_client.scan_iter(match=f"{namespace}*", count=1000)
        if await redis_client.pttl(key) == -1
    ]
    assert not immortal, f"keys without TTL: {immortal}"
