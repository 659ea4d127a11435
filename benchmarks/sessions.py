"""Loading and saving sessions: ours, starsessions, aiohttp-session. Run: python -m benchmarks.sessions [--quick] [--check]

Everybody keeps the same attributes and turns them into Python and back. Peers run on redis.asyncio with its default pool, as
their documentation shows. What they leave out is not asked of them: theirs is a GET and a SET of one value; ours also
keeps two timeouts, refuses what was ended, and writes only what has changed. So `save` of ours sends one attribute of five,
and theirs all of them, because that is what each does for a request that changes one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from aiohttp_session import Session as TheirSession
from aiohttp_session.redis_storage import RedisStorage
from redis.asyncio import Redis
from starsessions import JsonSerializer
from starsessions.stores.redis import RedisStore

from aredis_patterns import PipelinedRedis, SessionStore, lane_of
from benchmarks._load import Call
from benchmarks._report import Contest, Outcome, Target, main

CALLERS = (1, 100)
PEERS = ("starsessions", "aiohttp-session")
DATA: dict[str, Any] = {
    "theme": "dark",
    "locale": "en_GB",
    "cart": [{"sku": f"book-{number}", "quantity": 1, "price": 1999} for number in range(3)],
    "seen": ["/", "/books", "/books/7", "/cart"],
    "n": 0,
}


async def ours(name: str, client: Redis, contest: Contest) -> None:
    store = SessionStore(client, name=name, deadline=10)
    sessions = [await store.create(DATA, user_id=f"user:{number}") for number in range(max(CALLERS))]

    async def load(number: int) -> None:
        session = await store.get(sessions[number].token)
        assert session is not None
        dict(session.data)

    async def save(number: int) -> None:
        sessions[number].data["n"] += 1
        await store.save(sessions[number])

    add(contest, name, load, save)


async def starsessions(client: Redis, contest: Contest) -> None:
    store, serializer = RedisStore(connection=client), JsonSerializer()
    data = [dict(DATA) for _ in range(max(CALLERS))]
    for number, each in enumerate(data):
        await store.write(f"s{number}", serializer.serialize(each), 1800, 1800)

    async def load(number: int) -> None:
        serializer.deserialize(await store.read(f"s{number}", 1800))

    async def save(number: int) -> None:
        data[number]["n"] += 1
        await store.write(f"s{number}", serializer.serialize(data[number]), 1800, 1800)

    add(contest, "starsessions", load, save)


def theirs(identity: str | None) -> TheirSession:
    data: Any = {"created": int(time.time()), "session": dict(DATA)}
    return TheirSession(identity, data=data, new=identity is None, max_age=1800)


async def aiohttp_session(client: Redis, contest: Contest) -> None:
    storage = RedisStorage(client, max_age=1800)
    numbers = range(max(CALLERS))
    requests = [make_mocked_request("GET", "/", {"Cookie": f"AIOHTTP_SESSION=s{number}"}) for number in numbers]
    sessions = [theirs(f"s{number}") for number in numbers]
    response = web.Response()
    for request, session in zip(requests, sessions, strict=True):
        await storage.save_session(request, response, session)

    async def load(number: int) -> None:
        assert (await storage.load_session(requests[number]))["theme"] == "dark"

    async def save(number: int) -> None:
        sessions[number]["n"] += 1
        await storage.save_session(requests[number], response, sessions[number])

    add(contest, "aiohttp-session", load, save)


async def article(client: Redis, contest: Contest) -> None:
    """What the article does: SET with a TTL, and GET, of one JSON text."""
    data = [dict(DATA) for _ in range(max(CALLERS))]
    for number, each in enumerate(data):
        await client.set(f"session:{number}", json.dumps(each), ex=1800)

    async def load(number: int) -> None:
        json.loads(await client.get(f"session:{number}"))

    async def save(number: int) -> None:
        data[number]["n"] += 1
        await client.set(f"session:{number}", json.dumps(data[number]), ex=1800)

    add(contest, "plain redis-py", load, save)


def add(contest: Contest, name: str, load: Call, save: Call) -> None:
    contest.add("load", name, load, callers=CALLERS)
    contest.add("save", name, save, callers=CALLERS)


async def bytes_per_session(client: Redis, make: Callable[[int], Awaitable[object]], count: int = 500) -> int:
    """MEMORY USAGE of all keys that so many sessions need, divided by them."""
    await client.flushall()
    for number in range(count):
        await make(number)
    total = 0
    async for key in client.scan_iter(count=1000):
        total += int(await client.memory_usage(key, samples=0) or 0)
    return round(total / count)


async def memory(url: str) -> dict[str, int]:
    async with Redis.from_url(url) as client:
        serializer, star = JsonSerializer(), RedisStore(connection=client)
        storage, request = RedisStorage(client, max_age=1800), make_mocked_request("GET", "/")
        plain, silent = SessionStore(client, deadline=10), SessionStore(client, keep_events=None, deadline=10)
        found = {
            "ours, visitor, no events": await bytes_per_session(client, lambda n: silent.create(DATA)),
            "ours, visitor": await bytes_per_session(client, lambda n: plain.create(DATA)),
            "ours, user": await bytes_per_session(client, lambda n: plain.create(DATA, user_id=f"user:{n // 5}")),
            "starsessions": await bytes_per_session(
                client, lambda n: star.write(f"{n:032x}", serializer.serialize(DATA), 1800, 1800)
            ),
            "aiohttp-session": await bytes_per_session(
                client,
                lambda n: storage.save_session(request, web.Response(), theirs(None)),
            ),
        }
        await lane_of(client).aclose()
        return found


async def run(url: str, stack: AsyncExitStack, contest: Contest) -> Outcome:
    used = await memory(url)
    contest.baseline = "starsessions"
    pipelined = await stack.enter_async_context(PipelinedRedis.from_url(url))
    await ours("ours", pipelined, contest)
    for peer in (starsessions, aiohttp_session, article):
        await peer(await stack.enter_async_context(Redis.from_url(url)), contest)
    await contest.measure()
    targets = [
        Target(f"{verb}, 100 callers, vs {peer}", contest.ratio(verb, 100, "ours", peer), least=6)
        for verb in ("load", "save")
        for peer in PEERS
    ]
    return Outcome(targets, {"bytes per session": used, "bytes of JSON in it": len(json.dumps(DATA))})


if __name__ == "__main__":
    libraries = ("redis", "hiredis", "starsessions", "aiohttp-session", "msgspec")
    sys.exit(main("sessions", __doc__, run, libraries=libraries))
