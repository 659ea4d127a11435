"""transfer, increment, compare_and_set: what they answer, what they refuse, and that they count once."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis, RedisCluster
from redis.crc import key_slot
from redis.exceptions import ResponseError

from aredis_patterns import (
    CrossSlot,
    InsufficientFunds,
    NotAnInteger,
    Transfer,
    compare_and_set,
    increment,
    transfer,
)
from aredis_patterns.pipelining import lane_of
from aredis_patterns.testing import FaultProxy, LocalCluster, assert_round_trips, no_leaked_keys
from aredis_patterns.transactions._keys import marker_of, to_bytes


async def balances(client: Redis, *keys: str) -> list[int]:
    return [int(value or 0) for value in await client.mget(keys)]


async def test_a_transfer_moves_the_amount(redis_client: Redis, namespace: str, alice: str, bob: str) -> None:
    await redis_client.set(alice, 100)
    assert await transfer(redis_client, alice, bob, 30, namespace=namespace) == Transfer(70, 30)
    assert await transfer(redis_client, alice, bob, 70, namespace=namespace) == Transfer(0, 100)
    with pytest.raises(InsufficientFunds) as refused:
        await transfer(redis_client, alice, bob, 1, namespace=namespace)
    assert (refused.value.key, refused.value.balance, refused.value.amount) == (alice, 0, 1)
    assert await balances(redis_client, alice, bob) == [0, 100]


@pytest.mark.parametrize("using", ["script", "watch"])
async def test_both_ways_answer_alike(
    redis_client: Redis, namespace: str, alice: str, bob: str, using: Literal["script", "watch"]
) -> None:
    await redis_client.set(alice, 10)
    moves = [transfer(redis_client, alice, bob, 1, using=using, deadline=20, namespace=namespace) for _ in range(10)]
    assert sorted(await asyncio.gather(*moves)) == [Transfer(left, 10 - left) for left in range(10)]
    with pytest.raises(InsufficientFunds):
        await transfer(redis_client, alice, bob, 1, using=using, namespace=namespace)
    with pytest.raises(ValueError, match="both"):
        await transfer(redis_client, alice, alice, 1, using=using, namespace=namespace)
    await redis_client.set(alice, 2**63 - 5)
    with pytest.raises(ResponseError, match="overflow"):
        await transfer(redis_client, bob, alice, 5, using=using, namespace=namespace)
    assert await balances(redis_client, alice, bob) == [2**63 - 5, 10]
    await redis_client.set(alice, "ten")
    with pytest.raises(NotAnInteger):
        await transfer(redis_client, bob, alice, 1, using=using, namespace=namespace)
    assert await redis_client.mget(alice, bob) == [b"ten", b"10"]


async def test_any_client_gives_the_same_answers(
    redis_url: str, client_options: dict[str, Any], namespace: str, alice: str, bob: str
) -> None:
    async with Redis.from_url(redis_url, **client_options) as client:
        await client.set(alice, 5)
        assert await transfer(client, alice, bob, 5, namespace=namespace) == Transfer(0, 5)
        assert await increment(client, bob, -2, namespace=namespace) == 3
        assert await compare_and_set(client, bob, 3, "x", namespace=namespace)
        await lane_of(client).aclose()


async def test_the_operation_itself_is_one_round_trip(
    lossy: Redis, fault_proxy: FaultProxy, namespace: str, alice: str, bob: str
) -> None:
    await lossy.set(alice, 10)
    await transfer(lossy, alice, bob, 1, namespace=namespace)  # the script is known from here on
    async with assert_round_trips(fault_proxy, 1):
        await transfer(lossy, alice, bob, 1, namespace=namespace)


async def test_refusals_write_nothing_and_successes_only_what_expires(
    redis_client: Redis, namespace: str, alice: str, bob: str
) -> None:
    async with no_leaked_keys(redis_client, namespace):
        with pytest.raises(InsufficientFunds):
            await transfer(redis_client, alice, bob, 1, namespace=namespace)
        assert not await compare_and_set(redis_client, alice, "something", "else", namespace=namespace)
    await redis_client.set(alice, 1)
    async with no_leaked_keys(redis_client, f"{namespace}:tx", allow_ttl=True):
        await transfer(redis_client, alice, bob, 1, namespace=namespace)
    markers = [key async for key in redis_client.scan_iter(f"{namespace}:tx*")]
    assert [0 < await redis_client.pttl(key) <= 600_000 for key in markers] == [True]


async def test_the_whole_range_of_integers_is_exact(redis_client: Redis, namespace: str, alice: str, bob: str) -> None:
    largest = 2**63 - 1
    await redis_client.set(alice, largest)
    assert await transfer(redis_client, alice, bob, largest - 1, namespace=namespace) == Transfer(1, largest - 1)
    with pytest.raises(InsufficientFunds):
        await transfer(redis_client, bob, alice, largest, namespace=namespace)
    with pytest.raises(ResponseError, match="overflow"):
        await transfer(redis_client, bob, await _with(redis_client, f"{alice}:full", largest), 1, namespace=namespace)
    assert await balances(redis_client, alice, bob) == [1, largest - 1]


async def _with(client: Redis, key: str, value: int) -> str:
    await client.set(key, value)
    return key


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(has=st.integers(-(2**63), 2**63 - 1), other=st.integers(-(2**63), 2**63 - 1), amount=st.integers(1, 2**63 - 1))
async def test_transfers_agree_with_integers(redis_url: str, namespace: str, has: int, other: int, amount: int) -> None:
    one, two = f"{namespace}:{{t}}:1", f"{namespace}:{{t}}:2"
    async with Redis.from_url(redis_url) as client:
        await client.mset({one: has, two: other})
        try:
            answer = await transfer(client, one, two, amount, namespace=namespace)
        except InsufficientFunds:
            assert has < amount
            assert await balances(client, one, two) == [has, other]
        except ResponseError:
            assert other + amount > 2**63 - 1
            assert await balances(client, one, two) == [has, other]
        else:
            assert answer == (has - amount, other + amount)
            assert await balances(client, one, two) == [has - amount, other + amount]
        await lane_of(client).aclose()


@pytest.mark.parametrize("amount", [0, -1, True, 1.5, "3", None, 2**63])
async def test_bad_amounts_are_refused_before_any_io(amount: Any) -> None:
    nobody = Redis(host="127.0.0.1", port=1)
    with pytest.raises(ValueError, match="amount"):
        await transfer(nobody, "a", "b", amount)
    if amount not in (0, -1):
        with pytest.raises(ValueError, match="amount"):
            await increment(nobody, "a", amount)


async def test_other_mistakes_are_refused_before_any_io() -> None:
    nobody = Redis(host="127.0.0.1", port=1)
    with pytest.raises(ValueError, match="both 'a'"):
        await transfer(nobody, "a", b"a", 1)
    with pytest.raises(ValueError, match="empty"):
        await transfer(nobody, "", "b", 1)
    with pytest.raises(ValueError, match="operation_id"):
        marker_of("ap", "transfer", "", [b"a"])
    with pytest.raises(ValueError, match="remember"):
        await increment(nobody, "a", remember=0)


@pytest.mark.parametrize("using", ["script", "watch"])
@pytest.mark.parametrize("beyond", [2**63, -(2**63) - 1, 10**25])
async def test_a_number_beyond_64_bits_is_refused_before_anything_is_written(
    redis_client: Redis, namespace: str, alice: str, bob: str, using: Literal["script", "watch"], beyond: int
) -> None:
    """INCRBY of the one side would take effect, DECRBY of the other would fail: money out of nothing."""
    await redis_client.mset({alice: beyond, bob: 7})
    for one, other in ((alice, bob), (bob, alice)):
        with pytest.raises(NotAnInteger) as refused:
            await transfer(redis_client, one, other, 5, using=using, namespace=namespace)
        assert refused.value.key == alice
    assert await redis_client.mget(alice, bob) == [str(beyond).encode(), b"7"]
    for edge in (-(2**63), 2**63 - 6):
        await redis_client.set(alice, edge)
        assert await transfer(redis_client, bob, alice, 1, using=using, namespace=namespace)


async def test_a_watched_transfer_tells_the_balances_also_when_the_reply_was_lost(
    lossy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str, alice: str, bob: str
) -> None:
    await redis_client.set(alice, 100)
    fault_proxy.drop_replies("EXEC", times=1)
    assert await transfer(lossy, alice, bob, 10, using="watch", namespace=namespace) == Transfer(90, 10)
    with pytest.raises(ValueError, match="using"):
        await transfer(lossy, alice, bob, 1, using="lua")  # type: ignore[arg-type]


async def test_a_balance_that_is_no_number(redis_client: Redis, namespace: str, alice: str, bob: str) -> None:
    await redis_client.mset({alice: 5, bob: "five"})
    with pytest.raises(NotAnInteger) as refused:
        await transfer(redis_client, alice, bob, 1, namespace=namespace)
    assert (refused.value.key, refused.value.value) == (bob, b"five")
    with pytest.raises(NotAnInteger):
        await transfer(redis_client, bob, alice, 1, namespace=namespace)
    await redis_client.delete(bob)
    await redis_client.lpush(bob, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await transfer(redis_client, alice, bob, 1, namespace=namespace)
    assert await redis_client.get(alice) == b"5"


async def test_lost_replies_count_once(
    lossy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str, alice: str, bob: str
) -> None:
    await redis_client.set(alice, 100)
    await transfer(lossy, alice, bob, 1, namespace=namespace)
    await increment(lossy, f"{alice}:n", namespace=namespace)
    lost = fault_proxy.drop_replies("EVALSHA", times=3)
    assert await transfer(lossy, alice, bob, 10, namespace=namespace) == Transfer(89, 11)
    assert lost.applied == 3
    lost = fault_proxy.drop_replies("EVALSHA", times=2)
    assert await increment(lossy, f"{alice}:n", namespace=namespace) == 2
    assert lost.applied == 2
    await redis_client.set(f"{alice}:v", "old")
    await compare_and_set(lossy, f"{alice}:v", "none", "x", namespace=namespace)
    lost = fault_proxy.drop_replies("EVALSHA", times=2)
    assert await compare_and_set(lossy, f"{alice}:v", "old", "new", namespace=namespace)
    assert lost.applied == 2
    assert not await compare_and_set(lossy, f"{alice}:v", "old", "new", namespace=namespace)


async def test_an_operation_id_is_recognised_across_calls(
    redis_client: Redis, namespace: str, alice: str, bob: str
) -> None:
    await redis_client.set(alice, 100)
    answers = [
        await transfer(redis_client, alice, bob, 10, operation_id="payment {7}:é", namespace=namespace)
        for _ in range(3)
    ]
    assert answers == [Transfer(90, 10)] * 3
    assert await transfer(redis_client, bob, alice, 10, operation_id="payment {7}:é", namespace=namespace) == (0, 100)
    views = [await increment(redis_client, f"{bob}:n", operation_id="r", namespace=namespace) for _ in range(3)]
    assert views == [1, 1, 1]


async def test_script_flush_every_few_calls_is_not_noticed(redis_client: Redis, namespace: str) -> None:
    key = f"{namespace}:n"
    for _ in range(20):
        flush = asyncio.create_task(redis_client.script_flush())
        await asyncio.gather(*(increment(redis_client, key, namespace=namespace) for _ in range(10)))
        await flush
    assert await redis_client.get(key) == b"200"


async def test_a_counter_gets_its_ttl_when_it_is_created(redis_client: Redis, namespace: str) -> None:
    key = f"{namespace}:n"
    await increment(redis_client, key, ttl=100, namespace=namespace)
    assert 99_000 < await redis_client.pttl(key) <= 100_000
    await increment(redis_client, key, ttl=500, namespace=namespace)
    assert await redis_client.pttl(key) <= 100_000


async def test_compare_and_set_of_missing_and_deleted_keys(redis_client: Redis, namespace: str) -> None:
    key = f"{namespace}:v"
    assert await compare_and_set(redis_client, key, None, "1", ttl=50, namespace=namespace)
    assert not await compare_and_set(redis_client, key, None, "2", namespace=namespace)
    assert await compare_and_set(redis_client, key, 1, "\x00{}", ttl="keep", namespace=namespace)
    assert 0 < await redis_client.pttl(key) <= 50_000
    assert await compare_and_set(redis_client, key, b"\x00{}", "", namespace=namespace)
    assert (await redis_client.get(key), await redis_client.pttl(key)) == (b"", -1)
    assert not await compare_and_set(redis_client, key, None, "2", namespace=namespace)  # empty is not missing
    assert await compare_and_set(redis_client, key, "", None, namespace=namespace)
    assert not await redis_client.exists(key)


async def test_of_many_one_wins(redis_client: Redis, namespace: str) -> None:
    key = f"{namespace}:v"
    won = await asyncio.gather(
        *(compare_and_set(redis_client, key, None, number, namespace=namespace) for number in range(50))
    )
    assert sum(won) == 1


@pytest.mark.parametrize(
    "key",
    ["plain", "{tag}:a", "a{tag}b{other}", "{}empty", "brace}only", "{open", "a{}b{c}", "{ta}g}", "ключ", "x" * 500]
    + ["{" + "y" * 300 + "}"],
)
def test_a_marker_lies_in_the_slot_of_its_key(key: str) -> None:
    raw = to_bytes(key)
    assert key_slot(marker_of("ap", "cas", "op {x}", [raw])) == key_slot(raw)


async def test_on_a_cluster(redis_cluster: LocalCluster) -> None:
    async with RedisCluster.from_url(redis_cluster.url) as cluster:
        await cluster.set("{b}:alice", 10)
        assert await transfer(cluster, "{b}:alice", "{b}:bob", 4) == Transfer(6, 4)
        assert await increment(cluster, "odd}key{", 2, ttl=60) == 2
        with pytest.raises(CrossSlot, match="common hash tag"):
            await transfer(cluster, "alice", "bob", 1)
        await lane_of(cluster).aclose()
        await cluster.delete("{b}:alice", "{b}:bob")
