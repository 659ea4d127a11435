"""Leases: who has a message, for how long, and what somebody may still do who has lost it."""

from __future__ import annotations

import asyncio
import gc
import statistics
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.exceptions import LeaseLost
from aredis_patterns.queues import Backoff


async def expire(client: Redis, namespace: str, id: str) -> None:
    """As if the lease had ended: the clock is the server's, so its state is what a test can change."""
    await client.zadd(f"{namespace}:queue:{{jobs}}:leases", {id: 1}, xx=True)


async def test_a_lease_is_renewed_for_as_long_as_the_work_takes(make_queue: Any) -> None:
    """Two renewals, with another worker that looks for expired leases all the time; the lease is longer than any stall."""
    queue, rival = make_queue(lease=3), make_queue(lease=3)
    await queue.enqueue("slow")
    message = await queue.dequeue()
    first = message.deadline
    deadlines = {first}
    async with asyncio.timeout(30):
        while len(deadlines) < 3:
            assert await rival.dequeue(0) is None
            await rival.requeue_expired()
            deadlines.add(message.deadline)
            await asyncio.sleep(0.05)
    assert max(deadlines) - first > timedelta(seconds=1.5), "each from its own moment on"
    assert not message.lost
    await message.ack()
    stats = await queue.stats()
    assert (stats.done, stats.expired) == (1, 0)


async def test_what_a_dead_worker_held_comes_back_within_a_lease(make_queue: Any) -> None:
    """Fifty messages, all within lease + 1 s, each once, with one more attempt. The waiting consumer is not polling."""
    dead, alive = make_queue(lease=1), make_queue(lease=1)
    await dead.enqueue_many(range(50))
    held = await dead.dequeue_many(50)
    dead._here().consumer._leases.close()  # it renews nothing any more
    begin = time.monotonic()
    again: list[Any] = []
    while len(again) < 50:
        again += await alive.dequeue_many(50)
    assert time.monotonic() - begin < 1 + 1 + 1  # the last second is for a loaded machine
    assert sorted(message.id for message in again) == sorted(message.id for message in held)
    assert {message.attempt for message in again} == {2}
    assert [message.body for message in again] == list(range(50)), "in their old order"
    assert await alive.dequeue(0) is None


async def test_a_message_that_nobody_refers_to_any_more_comes_back(make_queue: Any) -> None:
    queue, other = make_queue(lease=0.3), make_queue(lease=0.3)
    await queue.enqueue("dropped")
    await queue.dequeue()
    gc.collect()
    again = await other.dequeue(5)
    assert (again.body, again.attempt) == ("dropped", 2)


async def test_a_late_ack_is_fine_until_somebody_else_has_the_message(
    make_queue: Any, redis_client: Redis, namespace: str
) -> None:
    queue = make_queue(lease=0.2)
    await queue.enqueue("late")
    message = await queue.dequeue()
    queue._here().consumer._leases.close()  # nothing is renewed any more
    await asyncio.sleep(0.3)
    assert message.lost, "by our own clock"
    await message.ack()
    assert (await queue.stats()).done == 1


async def test_the_old_owner_changes_nothing(make_queue: Any, redis_client: Redis, namespace: str) -> None:
    """Ack raises, nack and release say no, extend raises; the new owner does not notice."""
    old, new = make_queue(), make_queue()
    await old.enqueue_many(range(5))
    held = await old.dequeue_many(5)
    for message in held:
        await expire(redis_client, namespace, message.id)
    taken = await new.dequeue_many(5)
    assert [message.attempt for message in taken] == [2] * 5
    with pytest.raises(LeaseLost) as caught:
        await held[0].ack()
    assert caught.value.message_id == held[0].id and caught.value.queue == "jobs"
    assert not await held[1].nack(delay=0)
    assert not await held[2].release()
    assert not await held[3].reject()
    with pytest.raises(LeaseLost):
        await held[4].extend(60)
    assert all(message.lost for message in held)
    assert (await old.stats()).in_flight == 5
    await new.ack_many(taken)
    assert old.statistics().lost == 5


async def test_requeue_expired_moves_only_what_has_expired(
    make_queue: Any, redis_client: Redis, namespace: str
) -> None:
    queue, other = make_queue(), make_queue()
    await queue.enqueue_many(range(6))
    held = await queue.dequeue_many(6)
    for message in held[:2]:
        await expire(redis_client, namespace, message.id)
    assert await other.requeue_expired() == 2
    stats = await queue.stats()
    assert (stats.ready, stats.in_flight, stats.expired) == (2, 4, 2)
    for message in held[2:]:
        await message.ack()


def start(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


async def test_a_blocked_event_loop_loses_the_lease_and_is_told(make_queue: Any, redis_url: str) -> None:
    queue = make_queue(lease=0.3)
    await queue.enqueue("cpu")
    message = await queue.dequeue()
    other = f"""
import asyncio
from redis.asyncio import Redis
from aredis_patterns.queues import ReliableQueue
async def main():
    async with Redis.from_url({redis_url!r}) as client:
        queue = ReliableQueue(client, "jobs", namespace={queue.namespace!r}, lease=60)
        message = await queue.dequeue(10)
        print(message.attempt, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    with start(other) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "2"  # blocks this loop until the other one has it
        assert message.lost
        with pytest.raises(LeaseLost):
            await message.ack()
        process.kill()


async def test_expired_deliveries_count_and_end_in_the_dead_letters(
    make_queue: Any, redis_client: Redis, namespace: str
) -> None:
    queue = make_queue(max_deliveries=2)
    await queue.enqueue("kills its worker")
    for attempt in (1, 2):
        message = await queue.dequeue(1)
        assert message.attempt == attempt
        await expire(redis_client, namespace, message.id)
    assert await queue.dequeue(0) is None
    [letter] = await queue.dead_letters.list()
    assert (letter.failures, letter.last_reason) == (2, "the lease expired")


async def test_a_message_can_be_given_more_time(make_queue: Any) -> None:
    queue = make_queue(lease=5)
    await queue.enqueue(1)
    message = await queue.dequeue()
    before = message.deadline
    await message.extend(60)
    assert 50 < (message.deadline - before).total_seconds() < 90
    await asyncio.gather(message.extend(100), message.extend(200), message.extend(100))
    assert not message.lost, "several wishes of one moment are one, the longest"
    assert (message.deadline - before).total_seconds() > 190
    await message.ack()


async def test_a_message_that_lapsed_and_came_back_to_the_same_process_is_two_deliveries(
    make_queue: Any, redis_client: Redis, namespace: str
) -> None:
    """The first one is lost; what its holder does changes nothing about the second one, whose lease stays renewed."""
    queue = make_queue()
    await queue.enqueue(1)
    first = await queue.dequeue()
    await expire(redis_client, namespace, first.id)
    second = await queue.dequeue(0)
    assert (second.id, second.attempt) == (first.id, 2)
    assert first.lost
    first._state = "held"  # as if it had not heard of it
    answers = await asyncio.gather(first.ack(), second.extend(60), return_exceptions=True)
    assert isinstance(answers[0], LeaseLost) and answers[1] is None
    assert first.lost and not second.lost
    assert queue._here().consumer._leases._now_held(second.id) is second
    await second.ack()


async def test_a_block_whose_lease_was_lost_meanwhile_says_so(
    make_queue: Any, redis_client: Redis, namespace: str
) -> None:
    """Also when the renewal has noticed before the end of the block: nobody believes that it was acked."""
    queue, other = make_queue(lease=1), make_queue(lease=60)
    await queue.enqueue(1)
    with pytest.raises(LeaseLost):
        async with await queue.dequeue() as message:
            await expire(redis_client, namespace, message.id)
            again = await other.dequeue(10)
            async with asyncio.timeout(10):
                while message.state == "held":
                    await asyncio.sleep(0.01)
    await again.ack()


async def test_acks_do_not_get_dearer_with_what_is_in_flight(make_queue: Any, redis_client: Redis) -> None:
    """The server's own time for an ack with 50 and with 5000 others in flight: sorted sets, not LREM.

    A time that the machine took away counts for one ack or two of a hundred: the median does not see it. LREM from the
    far end would take ten times as long and more.
    """
    queue = make_queue(lease=120)

    async def microseconds_per_ack(in_flight: int) -> float:
        await queue.enqueue_many(range(in_flight + 60))
        held = []
        while len(held) < in_flight + 60:
            held += await queue.dequeue_many(500)
        spent: list[int] = []
        for message in reversed(held[-60:]):
            await redis_client.config_resetstat()
            await message.ack()
            spent.append((await redis_client.info("commandstats"))["cmdstat_evalsha"]["usec"])
        await queue.ack_many(held[:-60])
        return statistics.median(spent)

    few, many = await microseconds_per_ack(50), await microseconds_per_ack(5000)
    assert many < few * 5 + 100, f"{few} and {many} microseconds"


def test_backoff_grows_is_jittered_and_bounded() -> None:
    backoff = Backoff(first=1, longest=60, factor=2)
    assert [backoff.bound(n) for n in (1, 2, 3, 7, 10_000)] == [1, 2, 4, 60, 60]
    assert [backoff.pause(3, uniform=lambda low, high: high) for _ in range(2)] == [4, 4]
    assert backoff.pause(3, uniform=lambda low, high: low) == 0
    assert len({backoff.pause(5) for _ in range(20)}) > 10
    for wrong in ({"first": 0}, {"first": 2, "longest": 1}, {"factor": 0.5}):
        with pytest.raises(ValueError, match=r"first|longest|factor"):
            Backoff(**wrong)
