"""Optimistic transactions: conflicts, lost replies, cancellation, and that nothing is left on a connection."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, RedisCluster
from redis.exceptions import ConnectionError, DataError, ResponseError

from aredis_patterns import (
    CrossSlot,
    InsufficientFunds,
    OutcomeUnknown,
    PermissionDenied,
    ReadOnlyServer,
    RepliesLost,
    ServerUnavailable,
    Transaction,
    TransactionConflict,
    TransactionFailed,
    optimistic,
)
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.pipelining import lane_of
from aredis_patterns.testing import FaultProxy, LocalCluster, assert_round_trips, cancel_everywhere, no_leaked_keys
from aredis_patterns.transactions import _optimistic


class Move:
    """The body of a transfer; counts how often it ran."""

    def __init__(self, source: str, destination: str, amount: int) -> None:
        self.source, self.destination, self.amount = source, destination, amount
        self.runs = 0

    async def __call__(self, tx: Transaction) -> int:
        self.runs += 1
        balance = await tx.get_int(self.source)
        if balance < self.amount:
            raise InsufficientFunds(self.source, balance, self.amount)
        self.left = tx.queue("DECRBY", self.source, self.amount)
        tx.queue("INCRBY", self.destination, self.amount)
        return balance - self.amount


async def test_commits_and_hands_out_replies(
    lossy: Redis, fault_proxy: FaultProxy, namespace: str, alice: str, bob: str
) -> None:
    await lossy.set(alice, 100)
    move = Move(alice, bob, 30)
    with pytest.raises(AttributeError):
        move.left.result()
    transaction = optimistic(lossy, alice, bob, namespace=namespace)
    assert await transaction.run(move) == 70
    assert (move.left.result(), move.runs) == (70, 1)
    async with assert_round_trips(fault_proxy, 3):
        await transaction.run(move)
    async with no_leaked_keys(lossy, f"{namespace}:tx", allow_ttl=True):
        await transaction.run(move)
    assert await lossy.mget(alice, bob) == [b"10", b"90"]


async def test_a_change_by_somebody_else_is_a_conflict_and_not_an_overwrite(
    redis_client: Redis, namespace: str, alice: str
) -> None:
    await redis_client.set(alice, 1)

    async def double(tx: Transaction) -> int:
        value = await tx.get_int(alice)
        if tx.attempt < 3:
            await redis_client.incr(alice)
        tx.queue("SET", alice, value * 2)
        return value

    assert await optimistic(redis_client, alice, namespace=namespace).run(double) == 3
    assert await redis_client.get(alice) == b"6"


async def test_attempts_and_timeout_end_it(redis_client: Redis, namespace: str, alice: str) -> None:
    async def always_late(tx: Transaction) -> None:
        await redis_client.incr(alice)
        tx.queue("SET", alice, 0)

    with pytest.raises(TransactionConflict, match="3 attempts") as conflict:
        await optimistic(redis_client, alice, attempts=3, namespace=namespace).run(always_late)
    assert conflict.value.keys == [alice]
    with pytest.raises(TransactionConflict, match=r"within 0\.1 s"):
        await optimistic(redis_client, alice, attempts=10_000, timeout=0.1, namespace=namespace).run(always_late)
    assert int(await redis_client.get(alice) or 0) >= 4


async def test_a_watched_key_that_expires_is_a_conflict(redis_client: Redis, namespace: str, alice: str) -> None:
    await redis_client.set(alice, 1, px=30)

    async def slow(tx: Transaction) -> bytes | None:
        value = await tx.get(alice)
        while tx.attempt == 1 and await redis_client.exists(alice):
            await asyncio.sleep(0.005)
        tx.queue("SET", alice, 2)
        return value

    assert await optimistic(redis_client, alice, namespace=namespace).run(slow) is None


async def test_fifty_tasks_on_one_key_lose_no_update(redis_client: Redis, namespace: str, alice: str) -> None:
    async def add_one(tx: Transaction) -> None:
        tx.queue("SET", alice, await tx.get_int(alice) + 1)

    transaction = optimistic(redis_client, alice, attempts=1000, timeout=30, namespace=namespace)
    await asyncio.gather(*(transaction.run(add_one) for _ in range(50)))
    assert await redis_client.get(alice) == b"50"


@pytest.mark.parametrize("kind", [ConnectionPool, BlockingConnectionPool])
async def test_more_transactions_than_connections_wait_in_line(
    redis_url: str, kind: type[ConnectionPool], namespace: str
) -> None:
    pool = kind.from_url(redis_url, max_connections=5)
    async with Redis.from_pool(pool) as client:

        async def count(tx: Transaction) -> None:
            tx.queue("INCR", f"{namespace}:n")

        transactions = [optimistic(client, f"{namespace}:k{at}", timeout=20, namespace=namespace) for at in range(40)]
        await asyncio.gather(*(each.run(count) for each in transactions))
        assert await client.get(f"{namespace}:n") == b"40"
        await lane_of(client).aclose()


async def test_an_error_of_the_body_ends_it_and_leaves_a_clean_connection(
    lossy: Redis, fault_proxy: FaultProxy, namespace: str, alice: str, bob: str
) -> None:
    move = Move(alice, bob, 1)
    with pytest.raises(InsufficientFunds):
        await optimistic(lossy, alice, bob, namespace=namespace).run(move)
    assert move.runs == 1
    connections = fault_proxy.statistics().connections
    await lossy.set(alice, 1)
    await optimistic(lossy, alice, bob, namespace=namespace).run(move)
    assert fault_proxy.statistics().connections == connections


async def test_errors_of_the_body_pass_whatever_they_are(redis_client: Redis, namespace: str, alice: str) -> None:
    runs = 0

    async def body(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        raise error

    for error in (ConnectionError("of another client"), TimeoutError("of something else"), OutcomeUnknown("SET")):
        runs = 0
        with pytest.raises(type(error)) as raised:
            await optimistic(redis_client, alice, namespace=namespace).run(body)
        assert (raised.value, runs) == (error, 1)


async def test_a_body_that_queues_nothing_commits_nothing(redis_client: Redis, namespace: str, alice: str) -> None:
    async def look(tx: Transaction) -> list[object]:
        return await tx.read(("GET", alice), ("STRLEN", alice))

    async with no_leaked_keys(redis_client, namespace):
        assert await optimistic(redis_client, alice, namespace=namespace).run(look) == [None, 0]


@pytest.mark.parametrize("lost_replies", [1, 2, 3])
async def test_a_lost_exec_reply_moves_the_amount_once(
    lossy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str, alice: str, bob: str, lost_replies: int
) -> None:
    await redis_client.set(alice, 100)
    move = Move(alice, bob, 10)
    lost = fault_proxy.drop_replies("EXEC", times=lost_replies)
    assert await optimistic(lossy, alice, bob, namespace=namespace).run(move) == 90
    assert lost.applied == 1  # the first one has committed, and that is found out without another EXEC
    assert move.runs == 1
    with pytest.raises(RepliesLost):
        move.left.result()
    assert await redis_client.mget(alice, bob) == [b"90", b"10"]


async def test_the_stock_helper_moves_it_twice(
    fault_proxy: FaultProxy, redis_client: Redis, alice: str, bob: str
) -> None:
    """What this family is for. When this fails, redis-py has been repaired."""
    await redis_client.set(alice, 100)
    async with Redis.from_url(fault_proxy.url) as stock:

        async def move(pipe: object) -> None:
            pipe.multi()  # type: ignore[attr-defined]
            pipe.decrby(alice, 10)  # type: ignore[attr-defined]
            pipe.incrby(bob, 10)  # type: ignore[attr-defined]

        fault_proxy.drop_replies("EXEC", times=1)
        await stock.transaction(move, alice, bob)
    assert await redis_client.mget(alice, bob) == [b"80", b"20"]


async def test_an_exec_that_never_arrived_is_tried_again(
    lossy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str, alice: str, bob: str
) -> None:
    await redis_client.set(alice, 100)
    move = Move(alice, bob, 10)
    fault_proxy.reset_before("EXEC", times=1)
    assert await optimistic(lossy, alice, bob, namespace=namespace).run(move) == 90
    assert (move.runs, move.left.result()) == (2, 90)
    assert await redis_client.mget(alice, bob) == [b"90", b"10"]


async def test_an_exec_that_arrives_late_does_not_count_again(
    lossy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str, alice: str, bob: str
) -> None:
    """The first EXEC reaches the server only after the second attempt has committed."""
    await redis_client.set(alice, 100)
    held = fault_proxy.hold_commands("EXEC", times=1)
    move = Move(alice, bob, 10)
    lossy.connection_pool.connection_kwargs["socket_timeout"] = 0.3
    assert await optimistic(lossy, alice, bob, namespace=namespace).run(move) == 90
    held.release()
    await redis_client.ping()
    assert await redis_client.mget(alice, bob) == [b"90", b"10"]


async def test_an_exec_that_arrives_while_the_body_looks_is_not_taken_for_somebody_else(
    lossy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str, alice: str
) -> None:
    """The body sees what its own first attempt has just done, and would refuse."""
    await redis_client.set(alice, 1)
    held = fault_proxy.hold_commands("EXEC", times=1)
    lossy.connection_pool.connection_kwargs["socket_timeout"] = 0.3
    reads: list[int] = []

    async def reserve(tx: Transaction) -> str:
        if tx.attempt == 2:
            held.release()
            while await redis_client.get(alice) == b"1":
                await asyncio.sleep(0.01)
        left = await tx.get_int(alice)
        reads.append(left)
        if left == 0:
            raise InsufficientFunds(alice, 0, 1)
        tx.queue("DECRBY", alice, 1)
        return "reserved"

    assert await optimistic(lossy, alice, timeout=20, namespace=namespace).run(reserve) == "reserved"
    assert (reads, await redis_client.get(alice)) == ([1, 0], b"0")


@pytest.mark.parametrize("refuses", [True, False])
async def test_a_refusal_after_an_exec_that_never_arrived_fences_it(
    lossy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str, alice: str, refuses: bool
) -> None:
    await redis_client.set(alice, 1)
    held = fault_proxy.hold_commands("EXEC", times=1)
    lossy.connection_pool.connection_kwargs["socket_timeout"] = 0.3

    async def body(tx: Transaction) -> str:
        if tx.attempt == 1:
            tx.queue("INCR", alice)
        elif refuses:
            raise InsufficientFunds(alice, 0, 1)
        return "nothing"

    running = optimistic(lossy, alice, timeout=20, namespace=namespace).run(body)
    if refuses:
        with pytest.raises(InsufficientFunds):
            await running
    else:
        assert await running == "nothing"
    held.release()
    await redis_client.ping()
    assert await redis_client.get(alice) == b"1"


async def test_a_marker_that_may_have_expired_proves_nothing(
    lossy: Redis, fault_proxy: FaultProxy, namespace: str, alice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_optimistic, "MARKER_TTL_MS", 1)
    fault_proxy.drop_replies("EXEC", times=1)

    async def body(tx: Transaction) -> None:
        tx.queue("INCR", alice)

    with pytest.raises(OutcomeUnknown, match="EXEC"):
        await optimistic(lossy, alice, namespace=namespace).run(body)


@pytest.mark.parametrize("how", ["killed", "timed out"])
async def test_a_body_that_makes_light_of_a_lost_connection_does_not_commit_unwatched(
    redis_url: str, redis_client: Redis, namespace: str, alice: str, how: str
) -> None:
    await redis_client.set(alice, 1)
    async with Redis.from_url(redis_url) as client:

        async def body(tx: Transaction) -> int:
            value = await tx.get_int(alice)
            if tx.attempt == 1:
                if how == "killed":
                    me = await tx.call("CLIENT", "ID")
                    await redis_client.client_kill_filter(_id=me)
                with contextlib.suppress(OutcomeUnknown, TimeoutError):
                    async with asyncio.timeout(0.05):
                        await tx.call("BLPOP", f"{namespace}:nothing", 5)
                await redis_client.incr(alice)
            tx.queue("SET", alice, value + 100)
            return tx.attempt

        assert await optimistic(client, alice, namespace=namespace).run(body) == 2
        assert await redis_client.get(alice) == b"102"
        await lane_of(client).aclose()


async def test_reads_of_one_body_may_run_at_the_same_time_but_not_after_it(
    redis_client: Redis, namespace: str, alice: str, bob: str
) -> None:
    await redis_client.mset({alice: 1, bob: 2})
    kept: list[Transaction] = []

    async def body(tx: Transaction) -> list[bytes | None]:
        kept.append(tx)
        return await asyncio.gather(*(tx.get(key) for key in (alice, bob) * 10))

    assert await optimistic(redis_client, alice, namespace=namespace).run(body) == [b"1", b"2"] * 10
    with pytest.raises(RuntimeError, match="ends with its body"):
        await kept[0].get(alice)


@pytest.mark.parametrize("name", ["SELECT", "EXEC", "unwatch", b"DISCARD", "CLIENT REPLY"])
async def test_a_body_cannot_change_the_connection(
    redis_client: Redis, namespace: str, alice: str, name: str | bytes
) -> None:
    async def call(tx: Transaction) -> None:
        await tx.call(name, "0")

    async def queue(tx: Transaction) -> None:
        tx.queue(name, "0")

    async def read(tx: Transaction) -> None:
        await tx.read(("GET", alice), (name, "0"))

    for body in (call, queue, read):
        with pytest.raises(ValueError, match="cannot be part of a transaction"):
            await optimistic(redis_client, alice, namespace=namespace).run(body)


async def test_what_cannot_be_encoded_is_refused_where_it_is_queued(redis_client: Redis, alice: str) -> None:
    async def body(tx: Transaction) -> None:
        with pytest.raises(DataError):
            tx.queue("SET", alice, None)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="empty"):
            tx.queue()
        raise LookupError

    with pytest.raises(LookupError):
        await optimistic(redis_client, alice).run(body)


async def test_without_an_answer_it_says_so(
    lossy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str, alice: str, bob: str
) -> None:
    await redis_client.set(alice, 100)
    lost = fault_proxy.drop_replies("EXEC", times=1)
    transaction = optimistic(lossy, alice, bob, attempts=2, namespace=namespace)
    task = asyncio.create_task(transaction.run(Move(alice, bob, 10)))
    fault_proxy.reset_before("GET", where=lambda words: b":tx:" in words[1])
    with pytest.raises(OutcomeUnknown, match="EXEC"):
        await task
    assert lost.applied == 1


async def test_nobody_there(namespace: str) -> None:
    async def body(tx: Transaction) -> None:
        tx.queue("INCR", "a")

    nobody = Redis(host="127.0.0.1", port=1)
    with pytest.raises(ServerUnavailable):
        await optimistic(nobody, "a", attempts=2, namespace=namespace).run(body)


async def test_a_refusal_of_the_transaction_itself_says_what_to_do(
    own_server: EmbeddedServer, own_client: Redis
) -> None:
    async def body(tx: Transaction) -> None:
        tx.queue("INCR", "a")

    await own_client.acl_setuser("app", enabled=True, nopass=True, keys="*", commands=["+@all", "-watch"])
    async with Redis.from_url(own_server.url, username="app", password="x") as client:
        with pytest.raises(PermissionDenied, match="ACL SETUSER app \\+watch"):
            await optimistic(client, "a").run(body)
        await lane_of(client).aclose()
    await own_client.replicaof("127.0.0.1", 1)
    with pytest.raises(ReadOnlyServer, match="primary"):
        await optimistic(own_client, "a", attempts=2).run(body)


async def test_commands_that_the_server_refuses(redis_client: Redis, namespace: str, alice: str, bob: str) -> None:
    await redis_client.lpush(bob, "a list")

    async def wrong_type(tx: Transaction) -> None:
        tx.queue("INCR", alice)
        tx.queue("INCR", bob)

    with pytest.raises(TransactionFailed, match="WRONGTYPE") as failed:
        await optimistic(redis_client, alice, bob, namespace=namespace).run(wrong_type)
    assert (list(failed.value.errors), failed.value.committed) == ([1], True)
    assert await redis_client.get(alice) == b"1"

    async def no_such_command(tx: Transaction) -> None:
        tx.queue("INCR", alice)
        tx.queue("NOSUCHCOMMAND")

    with pytest.raises(TransactionFailed, match="nothing was executed") as failed:
        await optimistic(redis_client, alice, namespace=namespace).run(no_such_command)
    assert (list(failed.value.errors), failed.value.committed) == ([1], False)
    assert isinstance(failed.value.errors[1], ResponseError)
    assert await redis_client.get(alice) == b"1"


async def test_cancelled_anywhere_it_is_whole_or_nothing(
    redis_url: str, redis_client: Redis, namespace: str, alice: str, bob: str
) -> None:
    async with Redis.from_url(redis_url) as client:
        await redis_client.mset({alice: 1_000_000, bob: 0})

        async def run() -> None:
            await optimistic(client, alice, bob, namespace=namespace).run(Move(alice, bob, 1))

        async def check() -> None:
            one, two = await redis_client.mget(alice, bob)
            assert int(one) + int(two) == 1_000_000
            await optimistic(client, alice, bob, namespace=namespace).run(Move(alice, bob, 1))

        await cancel_everywhere(run, check=check)
        await lane_of(client).aclose()


async def test_on_a_cluster_with_a_moving_slot(redis_cluster: LocalCluster) -> None:
    from redis.crc import key_slot

    async with RedisCluster.from_url(redis_cluster.url) as cluster:
        with pytest.raises(CrossSlot):
            optimistic(cluster, "alice", "bob")
        await cluster.set("{otx}:a", 10)
        transaction = optimistic(cluster, "{otx}:a", "{otx}:b", timeout=10)
        assert await transaction.run(Move("{otx}:a", "{otx}:b", 3)) == 7
        slot = key_slot(b"{otx}:a")
        home = redis_cluster.owner(slot)
        await redis_cluster.move(slot, home, (home + 1) % 3)
        try:
            assert await transaction.run(Move("{otx}:a", "{otx}:b", 3)) == 4
        finally:
            await redis_cluster.move(slot, (home + 1) % 3, home)
            await cluster.delete("{otx}:a", "{otx}:b")
            await lane_of(cluster).aclose()


def test_bad_arguments() -> None:
    client = Redis()
    with pytest.raises(ValueError, match="at least one key"):
        optimistic(client)
    with pytest.raises(ValueError, match="attempts"):
        optimistic(client, "a", attempts=0)
    with pytest.raises(ValueError, match="timeout"):
        optimistic(client, "a", timeout=-1)
