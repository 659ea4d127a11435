"""On a real Cluster: a session and the list of its user are in different slots, and heal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from redis.asyncio import RedisCluster
from redis.crc import key_slot

from aredis_patterns import SessionEvent, SessionStore
from aredis_patterns.pipelining import PipelinedRedisCluster, lane_of
from aredis_patterns.testing import LocalCluster


@pytest.fixture(params=["pipelined", "stock"])
async def cluster(redis_cluster: LocalCluster, request: pytest.FixtureRequest) -> AsyncGenerator[RedisCluster, None]:
    kind = PipelinedRedisCluster if request.param == "pipelined" else RedisCluster
    async with kind.from_url(redis_cluster.url) as client:
        yield client
        await client.flushall(target_nodes="primaries")
        await lane_of(client).aclose()


async def test_every_verb(cluster: Any) -> None:
    store = SessionStore(cluster, max_per_user=20, deadline=10)
    sessions = await asyncio.gather(*(store.create({"n": n}, user_id="42") for n in range(30)))
    slots = {key_slot(store._server.keys.session(session.handle).encode()) for session in sessions}
    assert len(slots) > 5
    assert key_slot(store._server.keys.index("42").encode()) not in slots
    assert len(await store.list("42")) == 20
    alive = [session for session in sessions if await store.get(session.token)]
    assert len(alive) == 20
    for session in alive:
        old = session.token
        session.data["n"] = -1
        assert await store.save(session)
        await store.rotate(session)
        assert await store.get(old) is None
        assert await store.extend(session.token)
    assert {info.handle for info in await store.list("42")} == {session.handle for session in alive}
    waiting = asyncio.create_task(store.wait_ended(alive[0]))
    await asyncio.sleep(0.2)
    assert await store.destroy_all("42", keep=alive[1]) == 19
    assert (await asyncio.wait_for(waiting, 5)).reason == "revoked"
    assert [info.handle for info in await store.list("42")] == [alive[1].handle]
    assert await store.destroy(alive[1].token)
    ended: set[SessionEvent] = set()
    async with aclosing(store.events()) as events:
        while len(ended) < 30:
            ended.add(await asyncio.wait_for(anext(events), 5))
    assert [event.reason for event in ended].count("evicted") == 10


async def test_login_moves_a_visitor_into_the_list(cluster: Any) -> None:
    store = SessionStore(cluster, touch_threshold=0, deadline=10)
    visitor = await store.create({"cart": ["book"]})
    await store.rotate(visitor, user_id="ada")
    assert [info.handle for info in await store.list("ada")] == [visitor.handle]
    await cluster.unlink(store._server.keys.index("ada"))
    await asyncio.sleep(0.01)
    assert await store.get(visitor.token) is not None
    assert [info.handle for info in await store.list("ada")] == [visitor.handle]


async def test_sessions_outlive_a_slot_that_moves(redis_cluster: LocalCluster, cluster: Any) -> None:
    store = SessionStore(cluster, deadline=10)
    session = await store.create({"n": 0}, user_id="ada")
    slot = key_slot(store._server.keys.session(session.handle).encode())
    home = redis_cluster.owner(slot)
    done = asyncio.Event()

    async def use() -> int:
        count = 0
        while not done.is_set():
            session.data["n"] += 1
            await store.save(session)
            found = await store.get(session.token)
            assert found is not None
            assert found.data["n"] == session.data["n"]
            count += 1
        return count

    async def move() -> None:
        for _ in range(2):
            await redis_cluster.move(slot, home, (home + 1) % 3)
            await redis_cluster.move(slot, (home + 1) % 3, home)
        done.set()

    count, _ = await asyncio.gather(use(), move())
    assert count > 0
    assert session.version == 1 + count
