"""The lane against real servers: order, cancellation, lost replies, silence, restarts."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, DataError, ResponseError

from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import OutcomeUnknown, ReplyTimeout, ServerUnavailable
from aredis_patterns.pipelining import PipelinedRedis, lane_of
from aredis_patterns.pipelining._lane import Lane
from aredis_patterns.testing import FaultProxy, assert_round_trips
from tests.pipelining.conftest import SLOW


def lane(redis: Redis) -> Lane:
    return lane_of(redis).here().lane_for(None)


async def test_replies_belong_to_their_callers(redis: PipelinedRedis, namespace: str) -> None:
    async def own(number: int) -> None:
        key = f"{namespace}:{number}"
        for turn in range(20):
            assert await redis.set(key, f"{number}-{turn}", ex=60)
            assert await redis.get(key) == f"{number}-{turn}".encode()

    await asyncio.gather(*(own(number) for number in range(50)))
    statistics = redis.statistics()
    assert statistics.commands >= 2000
    assert statistics.mean_batch > 5
    assert statistics.in_flight == statistics.unsent == 0


async def test_calls_of_one_tick_are_executed_in_order(redis: PipelinedRedis, namespace: str) -> None:
    key = f"{namespace}:list"
    await asyncio.gather(*(redis.rpush(key, number) for number in range(500)), redis.expire(key, 60))
    assert await redis.lrange(key, 0, -1) == [str(number).encode() for number in range(500)]


async def test_an_error_reply_reaches_its_caller_only(redis: PipelinedRedis, namespace: str) -> None:
    key = f"{namespace}:text"
    await redis.set(key, "text", ex=60)
    replies = await asyncio.gather(redis.get(key), redis.incr(key), redis.get(key), return_exceptions=True)
    assert replies[0] == replies[2] == b"text"
    assert isinstance(replies[1], ResponseError)


async def test_concurrent_calls_are_one_round_trip(fault_proxy: FaultProxy) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as redis:
        await redis.ping()
        async with assert_round_trips(fault_proxy, 1):
            await asyncio.gather(*(redis.echo(str(number)) for number in range(20)))


async def test_a_thousand_cancelled_calls_leave_order_and_connection(redis: PipelinedRedis, namespace: str) -> None:
    key = f"{namespace}:n"
    client_id = await redis.client_id()
    await asyncio.gather(redis.set(key, 0, ex=60))
    tasks = [asyncio.create_task(redis.incr(key)) for _ in range(1000)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    answers = [answer for answer in done if isinstance(answer, int)]
    assert len(answers) == 500
    assert answers == sorted(set(answers)), "a reply went to the wrong caller"
    assert int(await redis.get(key)) <= 1000
    assert await redis.client_id() == client_id
    assert redis.statistics().in_flight == 0


async def test_a_cancelled_call_that_was_not_written_is_never_executed(redis: PipelinedRedis, namespace: str) -> None:
    key = f"{namespace}:n"
    await redis.ping()
    blocker = asyncio.create_task(redis.ping())
    await asyncio.sleep(0)
    task = asyncio.create_task(redis.incr(key))
    asyncio.get_running_loop().call_soon(task.cancel)  # runs after the call was queued, before the flush of its tick
    with pytest.raises(asyncio.CancelledError):
        await task
    await blocker
    assert await redis.exists(key) in (0, 1)
    assert redis.statistics().in_flight == 0


async def test_random_cancellation_and_disconnects_never_cross_replies(own_server: EmbeddedServer, fast: bool) -> None:
    chance = random.Random(7)
    outcomes: Counter[str] = Counter()
    async with PipelinedRedis.from_url(own_server.url) as redis, Redis.from_url(own_server.url) as other:
        redis.lane_options["fast"] = fast

        async def caller(number: int) -> None:
            for turn in range(60):
                text = f"{number}-{turn}"
                try:
                    async with asyncio.timeout(chance.choice([None, 0.0, 0.001, 0.01])):
                        assert await redis.echo(text) == text.encode()
                    outcomes["answered"] += 1
                except TimeoutError:
                    outcomes["cancelled"] += 1
                except ConnectionError:
                    outcomes["lost"] += 1

        async def killer() -> None:
            for _ in range(8):
                await asyncio.sleep(0.01)
                await other.client_kill_filter(_type="normal", skipme=True)

        await asyncio.gather(*(caller(number) for number in range(40)), killer())
        assert sum(outcomes.values()) == 2400
        assert outcomes["answered"] > 500
        assert redis.statistics().in_flight == redis.statistics().unsent == 0


async def test_a_lost_reply_is_applied_once_and_reported(fault_proxy: FaultProxy, namespace: str, fast: bool) -> None:
    key = f"{namespace}:n"
    async with PipelinedRedis.from_url(fault_proxy.url) as redis:
        redis.lane_options["fast"] = fast
        await redis.set(key, 0, ex=60)
        fault_proxy.drop_replies("INCRBY", times=1)
        with pytest.raises(OutcomeUnknown) as caught:
            await redis.incr(key)
        assert (caught.value.command, caught.value.key) == ("INCRBY", key)
        assert isinstance(caught.value, ConnectionError)
        assert await redis.get(key) == b"1"
        assert redis.statistics().unknown_outcomes == 1
        assert redis.statistics().reconnects == 1


async def test_stock_redis_py_would_have_counted_twice(fault_proxy: FaultProxy, namespace: str) -> None:
    """The reason for all this. If it ever fails, redis-py has changed and the claim must be reworded."""
    key = f"{namespace}:n"
    host, port = fault_proxy.url.removeprefix("redis://").split("/")[0].split(":")
    async with Redis(host=host, port=int(port)) as redis:
        await redis.set(key, 0, ex=60)
        fault_proxy.drop_replies("INCRBY", times=1)
        await redis.incr(key)
        assert await redis.get(key) == b"2"


async def test_a_read_is_repeated(fault_proxy: FaultProxy, namespace: str) -> None:
    key = f"{namespace}:v"
    async with PipelinedRedis.from_url(fault_proxy.url) as redis:
        await redis.set(key, "v", ex=60)
        fault_proxy.drop_replies("GET", times=1)
        assert await redis.get(key) == b"v"
        assert redis.statistics().repeated == 1


async def test_a_dedicated_command_is_not_sent_twice_either(fault_proxy: FaultProxy, namespace: str) -> None:
    key = f"{namespace}:q"
    async with PipelinedRedis.from_url(fault_proxy.url) as redis:
        await asyncio.gather(redis.rpush(key, "a", "b"), redis.expire(key, 60))
        fault_proxy.drop_replies("BLPOP", times=1)
        with pytest.raises(OutcomeUnknown):
            await redis.blpop(key, timeout=1)
        assert await redis.lrange(key, 0, -1) == [b"b"]


async def test_unsent_commands_wait_for_the_next_connection(own_server: EmbeddedServer, fast: bool) -> None:
    async with PipelinedRedis.from_url(own_server.url) as redis:
        redis.lane_options["fast"] = fast
        await redis.ping()
        await own_server.kill()
        gone = lane(redis).engine
        while lane(redis).engine is gone and gone is not None:
            await asyncio.sleep(0)
        waiting = asyncio.create_task(redis.incr("n"))
        await own_server.restart()
        assert await waiting == 1


async def test_kill_and_restart_recovers_without_help(own_server: EmbeddedServer, fast: bool) -> None:
    async with PipelinedRedis.from_url(own_server.url) as redis:
        redis.lane_options["fast"] = fast
        assert await redis.incr("n") == 1
        await own_server.kill()
        with pytest.raises(ConnectionError):
            await redis.incr("n")
        await own_server.restart()
        assert await redis.incr("n") == 1
        assert redis.statistics().reconnects >= 1


async def test_a_refused_port_answers_at_once() -> None:
    async with PipelinedRedis(host="127.0.0.1", port=1) as redis:
        start = time.monotonic()
        answers = await asyncio.gather(*(redis.get("a") for _ in range(100)), return_exceptions=True)
        assert time.monotonic() - start < 0.5
        assert all(isinstance(answer, ServerUnavailable) for answer in answers)
        assert len({id(answer) for answer in answers}) == 100, "each caller gets an error of its own"
        with pytest.raises(ServerUnavailable):
            await redis.blpop("a", timeout=1)


async def test_a_silent_server_ends_in_reply_timeout(own_server: EmbeddedServer, fast: bool) -> None:
    async with PipelinedRedis.from_url(own_server.url, socket_timeout=0.2) as redis:
        redis.lane_options["fast"] = fast
        await redis.ping()
        own_server.pause()
        try:
            start = time.monotonic()
            with pytest.raises(ReplyTimeout):
                await redis.incr("n")
            assert time.monotonic() - start < 1.0
        finally:
            own_server.resume()
        assert await redis.ping()


async def test_a_deadline_answers_one_caller_and_keeps_the_connection(redis: PipelinedRedis) -> None:
    commands = lane_of(redis)
    client_id = await redis.client_id()
    slow = asyncio.create_task(commands.call("EVAL", SLOW, 0, 30_000_000))
    await asyncio.sleep(0)
    with pytest.raises(ReplyTimeout):
        await commands.call("ECHO", "late", deadline=0.05)
    assert await commands.call("ECHO", "x", deadline=5) == b"x"
    assert await slow == 1
    assert await redis.client_id() == client_id


async def test_a_deadline_before_the_connection_is_up_means_not_executed(own_server: EmbeddedServer) -> None:
    own_server.pause()
    try:
        async with PipelinedRedis.from_url(own_server.url) as redis:
            with pytest.raises(ServerUnavailable, match="could not be sent"):
                await lane_of(redis).call("INCR", "n", deadline=0.05)
            own_server.resume()
            assert await redis.get("n") is None
    finally:
        own_server.resume()


async def test_a_half_open_connection_is_noticed_while_idle(fault_proxy: FaultProxy) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url, socket_timeout=0.5, health_check_interval=0.1) as redis:
        await redis.ping()
        lost = asyncio.Event()
        lane(redis).pushes.on_connection(lambda error: lost.set() if error else None)
        fault_proxy.black_hole()
        async with asyncio.timeout(5):
            await lost.wait()
        fault_proxy.restore()
        assert await redis.incr("n")
        assert redis.statistics().unknown_outcomes <= 1, "only the probe itself"
        await redis.delete("n")


async def test_callers_wait_in_order_above_the_bound(redis_url: str, namespace: str) -> None:
    key = f"{namespace}:order"
    async with PipelinedRedis.from_url(redis_url, max_in_flight=4) as redis:
        most = 0

        async def push(number: int) -> None:
            nonlocal most
            await redis.rpush(key, number)
            most = max(most, redis.statistics().in_flight + redis.statistics().unsent)

        await asyncio.gather(*(push(number) for number in range(100)))
        assert most <= 4
        assert await redis.lrange(key, 0, -1) == [str(number).encode() for number in range(100)]
        await redis.expire(key, 60)


async def test_a_cancelled_waiter_gives_its_place_back(redis_url: str) -> None:
    async with PipelinedRedis.from_url(redis_url, max_in_flight=1) as redis:
        tasks = [asyncio.create_task(redis.ping()) for _ in range(50)]
        await asyncio.sleep(0)
        for task in tasks[1::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [answer for answer in answers if answer is True] == [True] * 25
        assert redis.statistics().waiting == 0
        assert await redis.ping()


async def test_waiting_for_room_is_part_of_the_deadline(own_server: EmbeddedServer) -> None:
    async with PipelinedRedis.from_url(own_server.url, max_in_flight=2) as redis:
        await redis.ping()
        own_server.pause()
        try:
            start = time.monotonic()
            calls = (lane_of(redis).call("INCR", "n", deadline=0.1) for _ in range(20))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert time.monotonic() - start < 1
        finally:
            own_server.resume()
        assert sum(isinstance(answer, ReplyTimeout) for answer in answers) == 2
        assert sum(isinstance(answer, ServerUnavailable) for answer in answers) == 18
        assert await redis.get("n") == b"2", "those that had no room were never sent"


async def test_what_cannot_be_packed_leaves_no_half_batch(redis: PipelinedRedis, namespace: str) -> None:
    key = f"{namespace}:n"
    with pytest.raises(DataError):
        await lane_of(redis).batch([("INCR", key), ("SET", key, None)], key=key)  # type: ignore[list-item]
    assert await redis.exists(key) == 0


async def test_every_task_gets_its_share(redis: PipelinedRedis) -> None:
    counts = [0] * 100
    stop = time.monotonic() + 0.5

    async def caller(number: int) -> None:
        while time.monotonic() < stop:
            await redis.ping()
            counts[number] += 1

    await asyncio.gather(*(caller(number) for number in range(100)))
    mean = sum(counts) / len(counts)
    assert mean / 2 <= min(counts) <= max(counts) <= mean * 2


async def test_a_waiting_command_holds_up_nobody(redis: PipelinedRedis, namespace: str) -> None:
    key = f"{namespace}:q"
    waiting = asyncio.create_task(redis.blpop(key, timeout=10))
    while not redis.statistics().bypassed:
        await asyncio.sleep(0)
    assert await redis.ping()
    await redis.lpush(key, "x")
    assert await waiting == (key.encode(), b"x")


async def test_a_blocking_command_may_wait_longer_than_the_socket_timeout(redis_url: str, namespace: str) -> None:
    # An idle server looks at such timeouts every tenth of a second only, so the socket's must leave room for that.
    async with PipelinedRedis.from_url(redis_url, socket_timeout=0.5) as redis:
        start = time.monotonic()
        assert await redis.blpop(f"{namespace}:none", timeout=0.7) is None
        assert time.monotonic() - start >= 0.7


async def test_large_commands_take_another_way(redis: PipelinedRedis, namespace: str) -> None:
    big = b"x" * 200_000
    await redis.set(f"{namespace}:big", big, ex=60)
    assert await redis.get(f"{namespace}:big") == big
    assert redis.statistics().bypassed == {"is larger than 64 KiB": 1}


async def test_post_lands_behind_what_was_sent_before(redis: PipelinedRedis, namespace: str) -> None:
    key = f"{namespace}:lock"
    task = asyncio.create_task(redis.set(key, "mine", ex=60))
    await asyncio.sleep(0)
    task.cancel()
    lane_of(redis).post("DEL", key, key=key)
    assert await redis.exists(key) == 0


async def test_batch_keeps_errors_in_place(redis: PipelinedRedis, namespace: str) -> None:
    key = f"{namespace}:v"
    replies = await lane_of(redis).batch([("SET", key, "x", "EX", 60), ("INCR", key), ("GET", key)], key=key)
    assert replies[0] == b"OK"
    assert isinstance(replies[1], ResponseError)
    assert replies[2] == b"x"


async def test_lanes_pin_each_key(redis_url: str, namespace: str) -> None:
    async with PipelinedRedis.from_url(redis_url, lanes=3) as redis:
        keys = [f"{namespace}:{number}" for number in range(30)]
        await asyncio.gather(*(redis.set(key, 0, ex=60) for key in keys))
        for key in keys:
            counts = await asyncio.gather(*(redis.incr(key) for _ in range(10)))
            assert counts == list(range(1, 11))
        group = lane_of(redis).here()
        assert len({group.lane_for(key) for key in keys}) == 3


async def test_close_waits_for_what_is_under_way(redis_url: str, namespace: str) -> None:
    key = f"{namespace}:n"
    redis = PipelinedRedis.from_url(redis_url)
    await redis.ping()
    task = asyncio.create_task(redis.incr(key))
    await asyncio.sleep(0)
    await redis.aclose()
    assert await task == 1
    assert await redis.expire(key, 60), "a closed client opens again when it is used"
    await redis.aclose()
