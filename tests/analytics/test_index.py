"""Dense ids: one per name, none twice."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from aredis_patterns import ActivityTracker, IdIndex, IndexFull, PipelinedRedis
from aredis_patterns.testing import FaultProxy, assert_round_trips, cancel_everywhere


@pytest.fixture
async def index(redis_client: Redis, namespace: str) -> IdIndex[UUID]:
    return IdIndex(redis_client, "users", names=UUID, namespace=namespace, deadline=10, reversible=True)


async def test_numbers_are_dense_and_stay(index: IdIndex[UUID], redis_client: Redis, namespace: str) -> None:
    names = [uuid4() for _ in range(50)]
    assert await index.ids_of(names) == list(range(50))
    assert await index.ids_of(reversed(names)) == list(reversed(range(50)))
    other = IdIndex(redis_client, "users", names=UUID, namespace=namespace, deadline=10, reversible=True)
    assert await other.id_of(names[7]) == 7
    assert await other.find([names[3], uuid4()]) == [3, None]
    assert await other.names([0, 49, 50]) == [names[0], names[49], None]
    assert await other.size() == 50
    twice = uuid4()
    assert await other.ids_of([twice, twice]) == [50, 50]


async def test_many_processes_at_once(redis_client: Redis, namespace: str) -> None:
    names = [f"user {number}" for number in range(100)]
    indexes = [IdIndex(redis_client, "users", namespace=namespace, deadline=10, remember=n * 30) for n in range(4)]
    found = await asyncio.gather(*(each.id_of(name) for name in names for each in indexes))
    given = {name: set(found[at * 4 : at * 4 + 4]) for at, name in enumerate(names)}
    assert all(len(ids) == 1 for ids in given.values())
    assert set().union(*given.values()) == set(range(100))


async def test_a_full_index_gives_nothing_away(redis_client: Redis, namespace: str) -> None:
    index = IdIndex(redis_client, "users", namespace=namespace, deadline=10, max_id=2)
    await index.ids_of(["a", "b"])
    with pytest.raises(IndexFull, match="up to 2"):
        await index.ids_of(["a", "c", "d"])
    assert await index.size() == 2
    assert await index.ids_of(["c", "a"]) == [2, 0]


async def test_what_was_seen_lately_costs_no_round_trip(fault_proxy: FaultProxy, namespace: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        index = IdIndex(client, "users", namespace=namespace, deadline=10, remember=2)
        await index.ids_of(["a", "b", "c"])
        async with assert_round_trips(fault_proxy, 0):
            assert await index.ids_of(["b", "c"]) == [1, 2]
        async with assert_round_trips(fault_proxy, 1):
            assert await index.id_of("a") == 0
        fault_proxy.drop_replies("EVALSHA", times=1)
        assert await index.id_of("d") == 3
        index.forget()
        async with assert_round_trips(fault_proxy, 1):
            assert await index.ids_of(["a", "d"]) == [0, 3]


async def test_cancelled_anywhere_numbers_stay_dense(index: IdIndex[UUID]) -> None:
    given: list[UUID] = []

    async def critical() -> None:
        given.append(uuid4())
        await index.id_of(given[-1])

    await cancel_everywhere(critical)
    index.forget()
    found = [number for number in await index.find(given) if number is not None]
    assert sorted(found) == list(range(await index.size()))


async def test_uuids_in_a_bitmap(index: IdIndex[UUID], tracker: ActivityTracker) -> None:
    names = [uuid4() for _ in range(5)]
    await tracker.mark_many(await index.ids_of(names[1:4]))
    assert await index.names([user async for user in tracker.day()]) == names[1:4]


@pytest.mark.parametrize("name", ["text", 1, None, b""])
async def test_names_of_another_type_are_refused_before_any_io(name: Any) -> None:
    index: IdIndex[UUID] = IdIndex(Redis(port=1), "users", names=UUID)
    with pytest.raises(ValueError, match="UUID"):
        await index.id_of(name)
    with pytest.raises(ValueError, match="reversible"):
        await index.names([1])


async def test_memory_as_stated(index: IdIndex[UUID], redis_client: Redis) -> None:
    await index.ids_of([uuid4() for _ in range(4000)])
    used = await redis_client.memory_usage(index._keys.index, samples=0)
    assert used is not None
    assert used / 4000 < 100
