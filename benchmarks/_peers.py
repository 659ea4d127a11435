"""Those who take part. Each connects over TCP and offers GET and a small limiter by EVALSHA."""

from __future__ import annotations

import asyncio
import importlib.util
from collections import deque
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import hiredis
from redis.asyncio import BlockingConnectionPool, Redis

from aredis_patterns.pipelining import PipelinedRedis, lane_of
from benchmarks._load import Call

LIMITER = """
local used = redis.call('INCRBY', KEYS[1], ARGV[1])
if used == tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return {used <= tonumber(ARGV[3]) and 1 or 0, used}
"""
LIMIT = ("1", "60000", "1000000000")
NEVER_AT: dict[str, int] = {"stock": 1000, "stock, blocking pool of 50": 1}
"""Where a peer is not asked: the default pool raises errors for most of 1000 callers."""


@dataclass(slots=True)
class Peer:
    """One client under test."""

    name: str
    get: Call
    evalsha: Call


async def peers(url: str, stack: AsyncExitStack) -> list[Peer]:
    """All peers that are installed, connected."""
    stock = await stack.enter_async_context(Redis.from_url(url))
    sha = await stock.script_load(LIMITER)
    await stock.set("bench:value", "x" * 32, ex=600)
    pool = BlockingConnectionPool.from_url(url, max_connections=50)
    blocking = await stack.enter_async_context(Redis.from_pool(pool))
    ours = await stack.enter_async_context(PipelinedRedis.from_url(url))
    base = await stack.enter_async_context(Redis.from_url(url))
    lane = lane_of(base)
    stack.push_async_callback(lane.aclose)
    found = [
        Peer("ours", *_redis_py(ours, sha)),
        Peer(
            "ours, lane_of(stock)",
            lambda n: lane.call("GET", "bench:value", key="bench:value"),
            lambda n: lane.call("EVALSHA", sha, 1, f"bench:{n}", *LIMIT, key=f"bench:{n}"),
        ),
        Peer("stock", *_redis_py(stock, sha)),
        Peer("stock, blocking pool of 50", *_redis_py(blocking, sha)),
    ]
    if importlib.util.find_spec("glide"):
        found.append(await _glide(url, stack, sha))
    if importlib.util.find_spec("coredis"):
        found.append(await _coredis(url, stack, sha))
    found.append(await _limit(url, stack, sha))
    return found


def _redis_py(client: Redis, sha: str) -> tuple[Call, Call]:
    return (
        lambda n: client.get("bench:value"),
        lambda n: client.evalsha(sha, 1, f"bench:{n}", *LIMIT),
    )


async def _glide(url: str, stack: AsyncExitStack, sha: str) -> Peer:
    from glide import GlideClient, GlideClientConfiguration, NodeAddress

    parts = urlsplit(url)
    address = NodeAddress(parts.hostname or "127.0.0.1", parts.port or 6379)
    client = await GlideClient.create(GlideClientConfiguration([address], request_timeout=5000))
    stack.push_async_callback(client.close)
    return Peer(
        "valkey-glide",
        lambda n: client.get("bench:value"),
        lambda n: client.custom_command(["EVALSHA", sha, "1", f"bench:{n}", *LIMIT]),
    )


async def _coredis(url: str, stack: AsyncExitStack, sha: str) -> Peer:
    import coredis

    client: Any = await stack.enter_async_context(coredis.Redis.from_url(url))
    return Peer(
        "coredis",
        lambda n: client.get("bench:value"),
        lambda n: client.evalsha(sha, keys=[f"bench:{n}"], args=list(LIMIT)),
    )


class Bare(asyncio.Protocol):
    """The limit: one connection, futures in a queue, hiredis. No safety of any kind."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.waiting: deque[asyncio.Future[Any]] = deque()
        self.outgoing: list[bytes] = []
        self.reader = hiredis.Reader()
        self.due = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            self.waiting.popleft().set_result(reply)
        self.schedule()

    def schedule(self) -> None:
        if not self.due:
            self.due = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        self.due = False
        if self.outgoing:
            self.transport.write(b"".join(self.outgoing))
            self.outgoing.clear()

    def call(self, *args: Any) -> asyncio.Future[Any]:
        future = self.loop.create_future()
        self.waiting.append(future)
        self.outgoing.append(hiredis.pack_command(args))
        self.schedule()
        return future


async def _limit(url: str, stack: AsyncExitStack, sha: str) -> Peer:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    transport, bare = await loop.create_connection(Bare, parts.hostname, parts.port)
    stack.callback(transport.close)
    return Peer(
        "limit (bare futures)",
        lambda n: bare.call("GET", "bench:value"),
        lambda n: bare.call("EVALSHA", sha, 1, f"bench:{n}", *LIMIT),
    )
