"""A tour of transactions, batches and scripts. Never run; mypy and pyright must accept it."""

from __future__ import annotations

from typing import assert_type

from redis.asyncio import Redis

from aredis_patterns import (
    Batch,
    BatchReport,
    Patterns,
    Transaction,
    Transfer,
    UserScript,
    compare_and_set,
    increment,
    optimistic,
    transfer,
)


async def operations(client: Redis, p: Patterns) -> None:
    assert_type(await transfer(client, "a", b"b", 10, operation_id="payment-7"), Transfer)
    assert_type((await p.transfer("a", "b", 10)).source, int)
    assert_type(await increment(client, "n", ttl=60), int)
    assert_type(await compare_and_set(client, "k", None, "new", ttl="keep"), bool)


async def double(tx: Transaction) -> int:
    value = await tx.get_int("n")
    tx.queue("SET", "n", value * 2)
    return value


async def transactions(client: Redis, p: Patterns) -> None:
    assert_type(await optimistic(client, "n", attempts=3).run(double), int)
    assert_type(await p.optimistic("n").run(double), int)


async def batches(client: Redis) -> None:
    assert_type(await Batch(client).run(("SET", f"k:{n}", n) for n in range(10)), BatchReport)


async def scripts(client: Redis) -> None:
    assert_type(await UserScript(client, "add.lua", returns=lambda reply: int(reply[0]))(keys=["n"]), int)
