"""Round trips are counted exactly, however the bytes are cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.testing import FaultProxy, assert_round_trips


@pytest.fixture
async def client(fault_proxy: FaultProxy, client_options: dict[str, Any]) -> AsyncGenerator[Any, None]:
    async with Redis.from_url(fault_proxy.url, **client_options) as client:
        yield client


async def test_one_by_one_and_together(fault_proxy: FaultProxy, client: Any, namespace: str) -> None:
    async with fault_proxy.count() as counted:
        await client.set(namespace, 1)
        await client.get(namespace)
    assert (counted.round_trips, counted.commands) == (2, 2)
    async with client.pipeline(transaction=False) as batch:
        for _ in range(5):
            batch.incrby(namespace)
        async with assert_round_trips(fault_proxy, 1, commands=5):
            await batch.execute()
    async with assert_round_trips(fault_proxy, 0):
        pass


async def test_a_batch_of_many_reads_is_still_one_round_trip(
    fault_proxy: FaultProxy, client: Any, namespace: str
) -> None:
    async with client.pipeline(transaction=False) as batch:
        for number in range(300):
            batch.set(f"{namespace}:{number}", b"x" * 2_000)
        async with assert_round_trips(fault_proxy, 1, commands=300):
            await batch.execute()


async def test_the_greeting_of_a_new_connection_is_not_counted(
    fault_proxy: FaultProxy, client_options: dict[str, Any], namespace: str
) -> None:
    async with (
        Redis.from_url(fault_proxy.url, client_name="c", **client_options) as client,
        assert_round_trips(fault_proxy, 1, commands=1),
    ):
        await client.get(namespace)
    assert fault_proxy.statistics().commands["CLIENT"] >= 1


async def test_concurrent_commands_on_warm_connections_are_one_round_trip(
    fault_proxy: FaultProxy, client: Any, namespace: str
) -> None:
    held = fault_proxy.hold_replies("PING")
    warm = asyncio.gather(*(client.ping() for _ in range(10)))
    await held.until_applied(10)
    held.release()
    await warm
    async with assert_round_trips(fault_proxy, 1, commands=10):
        await asyncio.gather(*(client.get(namespace) for _ in range(10)))


async def test_the_failure_lists_the_commands(fault_proxy: FaultProxy, client: Any, namespace: str) -> None:
    async def two_trips(expected: int, *, commands: int | None = None, fail: bool = False) -> None:
        async with assert_round_trips(fault_proxy, expected, commands=commands):
            await client.get(namespace)
            await client.exists(namespace)
            if fail:
                raise ZeroDivisionError

    with pytest.raises(AssertionError, match=r"expected 1 round trips.* 2, 2 commands: GET \(trip 1\), EXISTS"):
        await two_trips(1)
    with pytest.raises(AssertionError, match="expected 3 commands"):
        await two_trips(2, commands=3)
    with pytest.raises(ZeroDivisionError):
        await two_trips(7, fail=True)
