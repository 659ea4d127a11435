"""Two thousand operations while one reply in twenty is lost: money is conserved, and each counts once or is reported."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from aredis_patterns import OutcomeUnknown, Transaction, increment, optimistic, transfer
from aredis_patterns.testing import FaultProxy

TASKS = 20
LOSS = 0.05


class Ledger:
    """What should be true at the end: which operations were acknowledged, and which were reported as unknown."""

    def __init__(self) -> None:
        self.moved = self.unknown_moved = 0
        self.added = self.unknown_added = 0

    async def count(self, operation: Callable[[int], Awaitable[object]], amount: int, kind: str) -> None:
        try:
            await operation(amount)
        except OutcomeUnknown:
            setattr(self, f"unknown_{kind}", getattr(self, f"unknown_{kind}") + amount)
        else:
            setattr(self, kind, getattr(self, kind) + amount)


async def until_known(operation: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await operation()
        except OutcomeUnknown:
            continue
        return


async def test_nothing_is_lost_and_nothing_counts_twice(
    lossy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str, alice: str, bob: str
) -> None:
    await redis_client.mset({alice: 1_000_000, bob: 0})
    counter, ledger, chance = f"{namespace}:n", Ledger(), random.Random(11)

    async def by_script(amount: int) -> None:
        """The wire repeats a few times; after that the caller does, under the same name, until there is an answer."""
        name = uuid.uuid4().hex
        await until_known(lambda: transfer(lossy, alice, bob, amount, operation_id=name, namespace=namespace))

    async def by_watch(amount: int) -> None:
        async def move(tx: Transaction) -> None:
            balance = await tx.get_int(alice)
            tx.queue("SET", alice, balance - amount)
            tx.queue("INCRBY", bob, amount)

        await optimistic(lossy, alice, bob, attempts=1000, timeout=40, namespace=namespace).run(move)

    async def add(amount: int) -> None:
        name = uuid.uuid4().hex
        await until_known(lambda: increment(lossy, counter, amount, operation_id=name, namespace=namespace))

    async def worker(number: int) -> None:
        for turn in range(100):
            amount = chance.randint(1, 9)
            if turn % 2:
                await ledger.count(add, amount, "added")
            elif number < 2 and turn % 10 == 0:  # a hot key is no place for WATCH: few, but enough
                await ledger.count(by_watch, amount, "moved")
            else:
                await ledger.count(by_script, amount, "moved")

    await transfer(lossy, alice, bob, 1, namespace=namespace)
    await increment(lossy, counter, 1, namespace=namespace)
    ledger.moved, ledger.added = 1, 1
    lost = [fault_proxy.drop_replies(name, probability=LOSS) for name in ("EVALSHA", "EXEC")]
    await asyncio.gather(*(worker(number) for number in range(TASKS)))
    for rule in lost:
        rule.remove()
    assert lost[0].applied > 20
    one, two, total = (int(value) for value in await redis_client.mget(alice, bob, counter))
    assert one + two == 1_000_000
    assert ledger.moved <= two <= ledger.moved + ledger.unknown_moved
    assert (ledger.added, ledger.unknown_added) == (total, 0)


async def test_the_same_with_redis_py_alone_is_wrong(
    fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    """The harness can fail: the stock client counts some increments twice."""
    async with Redis(host="127.0.0.1", port=int(fault_proxy.url.rpartition(":")[2].partition("/")[0])) as stock:
        fault_proxy.drop_replies("INCRBY", probability=0.2)
        for _ in range(60):
            await stock.incr(f"{namespace}:n")
    assert int(await redis_client.get(f"{namespace}:n") or 0) > 60


@pytest.mark.parametrize("lost", ["first", "last"])
async def test_a_lost_reply_within_a_pipeline_of_scripts(
    lossy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str, lost: str
) -> None:
    await increment(lossy, f"{namespace}:0", namespace=namespace)
    fault_proxy.drop_replies("EVALSHA", nth=1 if lost == "first" else 50, times=1)
    keys = [f"{namespace}:{number % 5}" for number in range(50)]
    await asyncio.gather(*(increment(lossy, key, namespace=namespace) for key in keys))
    assert [int(value) for value in await redis_client.mget(*keys[:5])] == [11, 10, 10, 10, 10]


async def test_a_script_cache_that_is_flushed_every_50_ms_is_not_noticed(
    lossy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    async def flush() -> None:
        while True:
            await redis_client.script_flush()
            await asyncio.sleep(0.05)

    async def count() -> None:
        for _ in range(100):
            await increment(lossy, f"{namespace}:n", deadline=10, namespace=namespace)

    flusher = asyncio.create_task(flush())
    await asyncio.gather(*(count() for _ in range(10)))
    flusher.cancel()
    await asyncio.wait([flusher])
    assert await redis_client.get(f"{namespace}:n") == b"1000"
    assert not [name for name in fault_proxy.statistics().commands if name == "SCRIPT EXISTS"]
