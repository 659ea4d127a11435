"""What a reliable queue promises when nothing goes wrong."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.exceptions import EncodeError, LeaseLost, QueueClosed
from aredis_patterns.queues import Backoff, MessageId, ReliableQueue
from aredis_patterns.testing import no_leaked_keys


async def test_a_message_goes_in_and_comes_out_and_is_gone(queue: ReliableQueue[Any]) -> None:
    id = await queue.enqueue({"to": "ada"}, headers={"trace": "x"})
    message = await queue.dequeue()
    assert message is not None
    assert (message.id, message.body, message.attempt, message.headers) == (id, {"to": "ada"}, 1, {"trace": "x"})
    assert abs(message.enqueued_at - datetime.now(UTC)) < timedelta(seconds=60)
    assert message.deadline - message.enqueued_at >= timedelta(seconds=10)
    assert (await queue.stats()).in_flight == 1
    await message.ack()
    await message.ack()  # acked twice is acked
    stats = await queue.stats()
    assert (stats.ready, stats.in_flight, stats.done) == (0, 0, 1)
    assert await queue.dequeue(0) is None


async def test_first_in_first_out(queue: ReliableQueue[Any]) -> None:
    """In exact order, ten thousand of them, whatever the way in."""
    await queue.enqueue_many(range(9_000))
    await asyncio.gather(*(queue.enqueue(9_000 + n) for n in range(1_000)))
    seen: list[int] = []
    while messages := await queue.dequeue_many(500, timeout=0):
        seen += [message.body for message in messages]
        await queue.ack_many(messages)
    assert seen == list(range(10_000))


async def test_higher_priority_first_and_fifo_inside(queue: ReliableQueue[Any]) -> None:
    for n, priority in enumerate([0, -100, 5, 0, 100, 5]):
        await queue.enqueue((n, priority), priority=priority)
    messages = [await queue.dequeue(0) for _ in range(6)]
    assert [message.body for message in messages if message] == [[4, 100], [2, 5], [5, 5], [0, 0], [3, 0], [1, -100]]


async def test_a_timeout_is_none_and_zero_does_not_wait(queue: ReliableQueue[Any]) -> None:
    loop = asyncio.get_running_loop()
    for timeout in (0, 0.001, 0.05, timedelta(milliseconds=100)):
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        begin = loop.time()
        assert await queue.dequeue(timeout) is None
        assert seconds <= loop.time() - begin + 0.001 < seconds + 1
    waiting = asyncio.create_task(queue.dequeue())
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await queue.enqueue(1)
    message = await waiting
    assert message is not None and message.body == 1


@pytest.mark.parametrize("timeout", [-1, float("nan"), True])
async def test_a_wrong_timeout_is_refused(queue: ReliableQueue[Any], timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        await queue.dequeue(timeout)


async def test_two_equal_payloads_are_two_messages(queue: ReliableQueue[Any]) -> None:
    """Ack is by id: the second one delivered is acked, the first one stays leased."""
    first_id, second_id = await queue.enqueue("same"), await queue.enqueue("same")
    first, second = await queue.dequeue(), await queue.dequeue()
    assert first and second
    assert (first.id, second.id) == (first_id, second_id)
    await second.ack()
    assert (await queue.stats()).in_flight == 1
    await first.release()
    again = await queue.dequeue(0)
    assert again is not None and again.id == first_id


@pytest.mark.parametrize(
    "body",
    [{"b": 1, "a": 2}, 1.0, 1, 2**70, "", "\n\n{}", "ünï \x00", [], [[{}]], {"priority": 7}, "x" * 1_000_000],
    ids=lambda body: repr(body)[:20],
)
async def test_payloads_come_back_as_they_were(queue: ReliableQueue[Any], body: Any) -> None:
    await queue.enqueue(body)
    message = await queue.dequeue()
    assert message is not None
    assert message.body == body and type(message.body) is type(body)
    if isinstance(body, dict):
        assert list(message.body) == list(body)
    await message.ack()


@pytest.mark.parametrize("body", [float("nan"), object(), {1, 2}.__iter__()])
async def test_what_cannot_be_encoded_leaves_nothing_half_written(
    queue: ReliableQueue[Any], body: Any, redis_client: Redis, namespace: str
) -> None:
    async with no_leaked_keys(redis_client, namespace):
        with pytest.raises(EncodeError):
            await queue.enqueue_many([1, 2, body])
        with pytest.raises(EncodeError):
            await queue.enqueue(body)


async def test_a_block_acks_nacks_or_releases(make_queue: Any) -> None:
    queue = make_queue(backoff=Backoff(first=0.001, longest=0.001))
    await queue.enqueue("done")
    async with await queue.dequeue():
        pass
    assert (await queue.stats()).done == 1
    await queue.enqueue("fails")
    with pytest.raises(ZeroDivisionError):
        async with await queue.dequeue() as message:
            raise ZeroDivisionError
    assert message.state == "nacked"
    again = await queue.dequeue()
    assert again.attempt == 2

    async def cancelled() -> None:
        async with again:
            await asyncio.sleep(10)

    task = asyncio.create_task(cancelled())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert again.state == "released"
    third = await queue.dequeue()
    assert third.attempt == 2, "a message that was given back was not tried"
    await third.ack()


async def test_a_decision_is_taken_once(queue: ReliableQueue[Any]) -> None:
    await queue.enqueue(1)
    message = await queue.dequeue()
    assert message is not None
    await message.nack(delay=0)
    with pytest.raises(RuntimeError, match="nacked already"):
        await message.ack()


async def test_nack_with_delay_comes_back_in_time_and_in_its_old_place(queue: ReliableQueue[Any]) -> None:
    await queue.enqueue_many(["a", "b", "c"])
    first = await queue.dequeue()
    assert first is not None
    assert await first.nack(delay=0, reason="not now")
    again = await queue.dequeue()
    assert again is not None and (again.body, again.attempt) == ("a", 2), "before all that are younger"
    begin = asyncio.get_running_loop().time()
    await again.nack(delay=0.2)
    rest = [await queue.dequeue(), await queue.dequeue()]
    assert [message.body for message in rest if message] == ["b", "c"]
    late = await queue.dequeue(5)
    assert late is not None and late.body == "a"
    assert asyncio.get_running_loop().time() - begin >= 0.199


async def test_a_poison_message_is_dead_after_max_deliveries_and_can_be_redriven(make_queue: Any) -> None:
    queue = make_queue(max_deliveries=3, backoff=Backoff(first=0.001, longest=0.002))
    id = await queue.enqueue("poison")
    attempts = []
    while (message := await queue.dequeue(0.5)) is not None:
        attempts.append(message.attempt)
        await message.nack(reason=f"failure {message.attempt}")
    assert attempts == [1, 2, 3]
    [letter] = await queue.dead_letters.list()
    assert (letter.id, letter.body, letter.failures, letter.last_reason) == (id, "poison", 3, "failure 3")
    assert await queue.dead_letters.count() == 1
    assert await queue.dead_letters.redrive() == 1
    again = await queue.dequeue(1)
    assert (again.id, again.attempt) == (id, 1)
    assert await again.reject("never")
    assert [letter.last_reason for letter in await queue.dead_letters.list()] == ["never"]
    assert await queue.dead_letters.purge([id]) == 1
    assert await queue.dead_letters.list() == []
    assert (await queue.stats()).died == 2


async def test_without_dead_letters_a_poison_message_is_forgotten(make_queue: Any) -> None:
    queue = make_queue(max_deliveries=1, dead_letter=False)
    await queue.enqueue("poison")
    await (await queue.dequeue()).nack()
    stats = await queue.stats()
    assert (stats.dead, stats.ready, stats.delayed, stats.died) == (0, 0, 0, 1)


async def test_redrive_keeps_the_order(queue: ReliableQueue[Any]) -> None:
    ids = await queue.enqueue_many(range(1_200))
    for _ in range(3):
        for message in await queue.dequeue_many(400):
            assert await message.reject()
    assert await queue.dead_letters.redrive() == 1_200
    assert [message.id for message in await queue.dequeue_many(500)] == ids[:500]


async def test_an_unreadable_body_is_dead_and_the_consumer_goes_on(
    queue: ReliableQueue[Any], redis_client: Redis, namespace: str
) -> None:
    broken, fine = await queue.enqueue("x"), await queue.enqueue("fine")
    await redis_client.hset(f"{namespace}:queue:{{jobs}}:messages", broken, b"\n{not json")  # type: ignore[misc]
    message = await queue.dequeue(5)
    assert message is not None and message.id == fine
    await message.ack()
    [letter] = await queue.dead_letters.list()
    assert (letter.id, letter.body, letter.raw) == (broken, None, b"{not json")
    assert "cannot be read" in letter.last_reason


async def test_unreadable_facts_stop_nobody(queue: ReliableQueue[Any], redis_client: Redis, namespace: str) -> None:
    broken, fine = await queue.enqueue("x", ordering_key="k"), await queue.enqueue("fine")
    await redis_client.hset(f"{namespace}:queue:{{jobs}}:messages", broken, b"{no facts\n1")  # type: ignore[misc]
    message = await queue.dequeue(5)
    assert message is not None and message.id == fine
    await message.ack()
    [letter] = await queue.dead_letters.list()
    assert (letter.id, letter.raw) == (broken, b"{no facts\n1")


async def test_the_clock_of_a_client_does_not_matter(make_queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour early or late: nothing is reclaimed, and what is delayed is delayed by as much as was said."""
    right, wrong = make_queue(lease=30), make_queue(lease=30)
    await right.enqueue("held")
    held = await right.dequeue()
    now = time.time
    for shift in (3600, -3600):
        monkeypatch.setattr(time, "time", lambda shift=shift: now() + shift)
        assert await wrong.requeue_expired() == 0
        assert await wrong.dequeue(0) is None
        begin = time.monotonic()
        await wrong.enqueue("later", delay=0.2)
        message = await asyncio.wait_for(wrong.dequeue(), 10)
        assert message.body == "later"
        assert time.monotonic() - begin >= 0.199
        assert abs(message.enqueued_at - held.enqueued_at) < timedelta(seconds=60), "by the clock of the server"
        await message.ack()
    await held.ack()
    assert (await right.stats()).expired == 0


async def test_deduplication_within_the_window(make_queue: Any) -> None:
    queue = make_queue(dedup_window=0.3)
    first = await queue.enqueue(1, dedup_key="order:7")
    second = await queue.enqueue(2, dedup_key="order:7")
    assert (first.deduplicated, second.deduplicated, second) == (False, True, first)
    assert isinstance(second, MessageId)
    await (await queue.dequeue()).ack()
    assert (await queue.enqueue(3, dedup_key="order:7")).deduplicated, "also when the first one is done"
    assert await queue.dequeue(0) is None
    await asyncio.sleep(0.35)
    assert not (await queue.enqueue(4, dedup_key="order:7")).deduplicated


async def test_concurrent_twins_are_one(queue: ReliableQueue[Any]) -> None:
    ids = await asyncio.gather(*(queue.enqueue(n, dedup_key="same") for n in range(50)))
    assert len(set(ids)) == 1 and sum(not id.deduplicated for id in ids) == 1
    assert (await queue.stats()).ready == 1


async def test_peek_cancel_and_stats(queue: ReliableQueue[Any]) -> None:
    now = await queue.enqueue("now", priority=3)
    later = await queue.enqueue("later", delay=60)
    assert [(each.id, each.body, each.priority) for each in await queue.peek()] == [(now, "now", 3)]
    stats = await queue.stats()
    assert (stats.ready, stats.delayed, stats.in_flight, stats.dead, stats.enqueued) == (1, 1, 0, 0, 2)
    assert stats.oldest_ready_age is not None and stats.oldest_ready_age >= 0
    assert stats.next_due_in is not None and 50 < stats.next_due_in <= 60
    assert await queue.cancel(later)
    assert not await queue.cancel(later)
    message = await queue.dequeue()
    assert message is not None
    assert not await queue.cancel(now), "it is under way"
    assert (await queue.stats()).oldest_in_flight_age is not None
    await message.ack()
    with pytest.raises(ValueError, match="16 digits"):
        await queue.cancel("17")


async def test_pause_and_resume(queue: ReliableQueue[Any], make_queue: Any) -> None:
    other = make_queue()
    running = asyncio.create_task(other.dequeue())
    await queue.enqueue("before")
    message = await running
    await queue.pause()
    await queue.enqueue("during")
    waiting = [asyncio.create_task(each.dequeue()) for each in (queue, other)]
    await asyncio.sleep(0.2)
    assert not any(task.done() for task in waiting)
    assert (await queue.stats()).paused
    await message.ack()  # what is under way is finished
    assert await queue.resume()
    done, _ = await asyncio.wait(waiting, timeout=2, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    await queue.enqueue("after")
    await asyncio.wait(waiting, timeout=2)
    assert {task.result().body for task in waiting} == {"during", "after"}
    assert not await queue.resume()


async def test_groups_take_turns(queue: ReliableQueue[Any]) -> None:
    """A tenant with a thousand messages does not hold up one with three."""
    await queue.enqueue_many([("big", n) for n in range(1_000)], group="big")
    await queue.enqueue_many([("small", n) for n in range(3)], group="small")
    messages = await queue.dequeue_many(8)
    assert [tuple(message.body) for message in messages].count(("small", 0)) == 1
    assert [message.body[1] for message in messages if message.group == "small"] == [0, 1, 2]
    assert [message.body[1] for message in messages if message.group == "big"] == [0, 1, 2, 3, 4]
    await queue.enqueue(("new", 0), group="new")
    assert ["new", 0] in [message.body for message in await queue.dequeue_many(3)]


async def test_a_flood_of_single_messages_does_not_starve_a_group(queue: ReliableQueue[Any]) -> None:
    await queue.enqueue_many(["a1", "a2", "a3"], group="a")
    seen: list[str] = []
    for n in range(12):
        await queue.enqueue(f"single {n}")
        message = await queue.dequeue(0)
        assert message is not None
        seen.append(message.body)
    assert {"a1", "a2", "a3"} <= set(seen)


async def test_one_message_per_ordering_key_at_a_time(queue: ReliableQueue[Any]) -> None:
    for n in range(3):
        for key in ("a", "b"):
            await queue.enqueue(f"{key}{n}", ordering_key=key)
    first = await queue.dequeue_many(10, timeout=0)
    assert sorted(message.body for message in first) == ["a0", "b0"]
    assert (await queue.stats()).parked == 4
    await first[0].nack(delay=0.05)
    await first[1].ack()
    other = await queue.dequeue(0)
    assert other is not None and other.body == "b1"
    assert await queue.dequeue(0) is None, "a failed message still holds its key"
    again = await queue.dequeue(5)
    assert again is not None and (again.body, again.attempt) == ("a0", 2)
    await again.reject()
    following = await queue.dequeue(5)
    assert following is not None and following.body == "a1", "a dead message holds nothing up"


async def test_ordering_keys_in_random_order_of_finishing(queue: ReliableQueue[Any]) -> None:
    random.seed(5)
    for n in range(60):
        await queue.enqueue(n, ordering_key=f"k{n % 7}", priority=n % 3)
    seen: dict[str, list[int]] = {}
    held: list[Any] = []
    while True:
        held += await queue.dequeue_many(4, timeout=0)
        assert len({message.ordering_key for message in held}) == len(held)
        if not held:
            break
        message = held.pop(random.randrange(len(held)))
        seen.setdefault(message.ordering_key, []).append(message.body)
        await message.ack()
    assert sorted(n for each in seen.values() for n in each) == list(range(60))
    assert all(each == sorted(each) for each in seen.values())


async def test_cancelling_a_parked_message_and_its_holder(queue: ReliableQueue[Any]) -> None:
    ids = [await queue.enqueue(n, ordering_key="k") for n in range(3)]
    assert await queue.cancel(ids[1])
    assert await queue.cancel(ids[0])
    message = await queue.dequeue(0)
    assert message is not None and message.body == 2


async def test_consume_gives_back_what_was_taken_ahead(queue: ReliableQueue[Any], make_queue: Any) -> None:
    await queue.enqueue_many(range(20))
    seen: list[int] = []
    iteration = queue.consume(prefetch=5)
    async for message in iteration:
        async with message:
            seen.append(message.body)
        if len(seen) == 3:
            break
    await iteration.aclose()
    other = make_queue()
    rest = [(message.body, message.attempt) for message in await other.dequeue_many(20, timeout=5)]
    assert seen == [0, 1, 2]
    assert rest == [(n, 1) for n in range(3, 20)]


async def test_closing_ends_what_waits_and_gives_back(make_queue: Any, redis_client: Redis, namespace: str) -> None:
    queue, other = make_queue(), make_queue()
    waiting = asyncio.create_task(queue.dequeue())
    await asyncio.sleep(0.05)
    await queue.aclose()
    with pytest.raises(QueueClosed):
        await waiting
    await queue.enqueue(1)  # using it again opens it anew
    assert (await other.dequeue()).body == 1


async def test_a_finished_queue_leaves_no_key_but_its_counters(
    make_queue: Any, redis_client: Redis, namespace: str
) -> None:
    queue = make_queue()
    await queue.enqueue_many(range(50), group="g")
    await queue.enqueue(51, ordering_key="k", dedup_key="d", priority=4)
    for message in await queue.dequeue_many(100, timeout=0):
        await message.ack()
    await queue.aclose()
    left = {key.decode().rpartition(":")[2] async for key in redis_client.scan_iter(f"{namespace}*")}
    assert left <= {"counters", "dedup", "rounds"}
    async with no_leaked_keys(redis_client, "", allow_ttl=True):
        pass
    for part in left:
        assert await redis_client.pttl(f"{namespace}:queue:{{jobs}}:{part}") > 0


async def test_names_that_begin_alike_do_not_meet(make_queue: Any) -> None:
    names = ["a", "a:b", "a:messages", "{a}", "a}{", "ä", "a%3Ab"]
    queues = [make_queue(name) for name in names]
    for name, queue in zip(names, queues, strict=True):
        await queue.enqueue(name)
    for name, queue in zip(names, queues, strict=True):
        assert [message.body for message in await queue.dequeue_many(10, timeout=0)] == [name]


async def test_a_transaction_happens_with_the_ack(
    queue: ReliableQueue[Any], redis_client: Redis, namespace: str
) -> None:
    await queue.enqueue("credit")
    message = await queue.dequeue()
    assert message is not None
    key = f"{namespace}:balance"
    with pytest.raises(ZeroDivisionError):
        async with message.transaction() as tx:
            tx.execute("INCRBY", key, 100)
            raise ZeroDivisionError
    assert await redis_client.get(key) is None
    assert message.state == "held"
    async with message.transaction() as tx:
        tx.execute("INCRBY", key, 100)
        tx.execute("RPUSH", f"{namespace}:ledger", b"\x00\xff")
    assert (await redis_client.get(key), message.state) == (b"100", "acked")
    assert await redis_client.lrange(f"{namespace}:ledger", 0, -1) == [b"\x00\xff"]  # type: ignore[misc]
    assert (await queue.stats()).done == 1


async def test_a_transaction_of_a_lost_lease_does_nothing(make_queue: Any, redis_client: Redis, namespace: str) -> None:
    queue, other = make_queue(), make_queue()
    await queue.enqueue(1)
    message = await queue.dequeue()
    lease = f"{namespace}:queue:{{jobs}}:leases"
    await redis_client.zadd(lease, {message.id: 1})
    assert (await other.dequeue(5)).attempt == 2
    with pytest.raises(LeaseLost):
        async with message.transaction() as tx:
            tx.execute("SET", f"{namespace}:effect", 1)
    assert await redis_client.exists(f"{namespace}:effect") == 0
    assert message.lost


async def test_statistics_and_repr(queue: ReliableQueue[Any]) -> None:
    await queue.enqueue(1)
    message = await queue.dequeue()
    assert message is not None
    await message.ack()
    now = queue.statistics()
    assert (now.enqueued, now.delivered, now.acked, now.lost) == (1, 1, 1, 0)
    assert "1 enqueued" in repr(queue) and message.id in repr(message)
