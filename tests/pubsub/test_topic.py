"""Topics: positions, replay, exact gaps, publications that happen once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from redis.asyncio import Redis

from aredis_patterns import (
    EmbeddedServer,
    EntryId,
    Gap,
    JSONCodec,
    Last,
    PermissionDenied,
    ReplyTimeout,
    Topic,
    WireClosed,
)
from aredis_patterns.pipelining import lane_of, listener_of
from aredis_patterns.pubsub._positions import Position, parse_position, parse_start
from aredis_patterns.testing import FaultProxy, assert_round_trips, cancel_everywhere

from .conftest import take, until

AGED_INTEREST: dict[str, Any] = {"retention": "interest", "max_age": 60}
"""To keep what is needed, and to drop what is old: both cannot be promised."""


def numbers(items: list[Any]) -> list[Any]:
    return [item if isinstance(item, Gap) else item.data for item in items]


async def test_live_messages_arrive_in_order(client: Redis, namespace: str) -> None:
    topic = Topic(client, "t", namespace=namespace)
    async with topic.subscribe() as one, topic.subscribe("new") as two:
        published = await topic.publish_many(range(50))
        published += [await topic.publish(number) for number in range(50, 100)]
        assert [each.number for each in published] == list(range(1, 101))
        assert sorted(each.id for each in published) == [each.id for each in published]
        entries = await take(one, 100)
        assert numbers(entries) == numbers(await take(two, 100)) == list(range(100))
        assert [(entry.id, entry.number) for entry in entries] == [(each.id, each.number) for each in published]
        assert abs(entries[0].published_at - datetime.now(UTC).timestamp()) < 30
        assert "live" in repr(one)


STARTS = {
    "all": "abcde",
    "new": "",
    "0-0": "abcde",
    "last 2": "de",
    "last 99": "abcde",
    "id of b": "cde",
    "position of b": "cde",
    "after c": "de",
    "in an hour": "",
}


@pytest.mark.parametrize("which", STARTS)
async def test_every_start(redis_client: Redis, namespace: str, which: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    _, b, c = await topic.publish_many("abc")
    await asyncio.sleep(0.003)
    start: Any = {
        "last 2": Last(2),
        "last 99": Last(99),
        "id of b": str(b.id),
        "position of b": f"{b.id}/{b.number}",
        "after c": datetime.fromtimestamp((c.id.ms + 1) / 1000, UTC),
        "in an hour": datetime.now(UTC) + timedelta(hours=1),
    }.get(which, which)
    await topic.publish_many("de")
    async with topic.subscribe(start) as subscription:
        await topic.publish("!")
        assert "".join(numbers(await take(subscription, len(STARTS[which]) + 1))) == STARTS[which] + "!"


async def test_the_gap_after_trimming_is_exact(client: Redis, namespace: str) -> None:
    topic = Topic(client, "t", namespace=namespace, maxlen=10)
    first = await topic.publish("first")
    await topic.publish_many(range(25))
    assert (await topic.info()).length == 10
    async with topic.subscribe(f"{first.id}/{first.number}") as subscription:
        assert await take(subscription, 1) == [Gap("trimmed", 15, "t")]
        assert numbers(await take(subscription, 10)) == list(range(15, 25))
    async with topic.subscribe(str(first.id)) as subscription:  # the id alone is gone, and so is what followed it
        assert await take(subscription, 1) == [Gap("trimmed", None, "t")]
        assert numbers(await take(subscription, 10)) == list(range(15, 25))
    async with topic.subscribe("all") as subscription:  # asks for what is there
        assert numbers(await take(subscription, 10)) == list(range(15, 25))


async def test_a_slow_subscriber_loses_nothing_that_is_kept(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    async with topic.subscribe(buffer=5) as slow, topic.subscribe() as quick:
        await topic.publish_many(range(500))
        assert numbers(await take(quick, 500)) == list(range(500))
        assert len(slow._items) <= 5
        assert numbers(await take(slow, 500)) == list(range(500))
        await topic.publish("live again")
        assert numbers(await take(slow, 1)) == ["live again"]


async def test_a_slow_subscriber_is_told_exactly_what_was_trimmed_meanwhile(
    redis_client: Redis, namespace: str
) -> None:
    topic = Topic(redis_client, "t", namespace=namespace, maxlen=100)
    async with topic.subscribe(buffer=5) as slow, topic.subscribe() as quick:
        for number in range(300):
            await topic.publish(number)
        await take(quick, 300)
        got = numbers(await take(slow, 106))
        assert got == [*range(5), Gap("trimmed", 195, "t"), *range(200, 300)]


async def test_a_subscriber_that_was_cut_off_gets_everything_once(
    through_proxy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    near, far = (Topic(client, "t", namespace=namespace) for client in (through_proxy, redis_client))
    async with near.subscribe() as subscription:
        expected = 0
        for how in ("kill", "black hole", "kill", "refuse"):
            if how == "black hole":
                fault_proxy.black_hole()
            elif how == "refuse":
                fault_proxy.refuse_connections()
                fault_proxy.kill_connections()
            else:
                fault_proxy.kill_connections()
            await far.publish_many(range(expected, expected + 10))
            if how == "black hole":
                await until(lambda: not near._core.feed().live)
            fault_proxy.restore()
            await far.publish_many(range(expected + 10, expected + 20))
            assert numbers(await take(subscription, 20)) == list(range(expected, expected + 20))
            expected += 20


async def test_batches(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    await topic.publish_many(range(600))
    got: list[Any] = []
    async with topic.subscribe("all") as subscription:
        async for items in subscription.batches():
            got += numbers(items)
            if len(got) == 600:
                subscription.close()
    assert got == list(range(600))


async def test_one_round_trip(through_proxy: Redis, fault_proxy: FaultProxy, namespace: str) -> None:
    topic = Topic(through_proxy, "t", namespace=namespace)
    await topic.publish("warm")
    async with topic.subscribe() as subscription:
        async with assert_round_trips(fault_proxy, 1, commands=1):
            await topic.publish(1)
        async with assert_round_trips(fault_proxy, 1, commands=1):
            await topic.publish_many(range(100))
        async with assert_round_trips(fault_proxy, 0):
            await take(subscription, 101)
        async with assert_round_trips(fault_proxy, 1):  # no channel to subscribe to: only where to begin
            second = await topic.subscribe()
        second.close()


async def test_a_publication_whose_reply_was_lost_is_there_once(
    through_proxy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    near, far = (Topic(client, "t", namespace=namespace) for client in (through_proxy, redis_client))
    await near.publish("warm")
    lost = fault_proxy.drop_replies("EVALSHA", probability=0.2)
    published = await asyncio.gather(*(near.publish(number) for number in range(200)))
    published += [await near.publish(number) for number in range(200, 300)]
    assert lost.applied > 5
    lost.remove()
    many = fault_proxy.drop_replies("EVALSHA", times=1)
    batch = await near.publish_many(["x"] * 10)
    assert many.applied == 1
    async with far.subscribe("all") as subscription:
        entries = (await take(subscription, 311))[1:]
        assert sorted(numbers(entries[:300])) == list(range(300))
        by_number = {entry.number: entry for entry in entries}
        for sent, data in zip([*published, *batch], [*range(300), *["x"] * 10], strict=True):
            assert (by_number[sent.number].id, by_number[sent.number].data) == (sent.id, data)


async def test_large_messages_are_there_once_too(
    through_proxy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    near = Topic(through_proxy, "t", namespace=namespace)
    await near.publish("warm")
    lost = fault_proxy.drop_replies("EVALSHA", times=1)
    published = await near.publish("x" * 200_000)
    assert (lost.applied, published.number) == (1, 2)
    assert (await near.info()).length == 2


async def test_a_deadline_that_passes_says_perhaps(
    through_proxy: Redis, fault_proxy: FaultProxy, namespace: str
) -> None:
    topic = Topic(through_proxy, "t", namespace=namespace)
    await topic.publish("warm")
    held = fault_proxy.hold_replies("EVALSHA")
    with pytest.raises(ReplyTimeout):
        await topic.publish("late", deadline=0.05)
    held.release()
    await until(lambda: _has_length(topic, 2))


async def _has_length(topic: Topic[Any], length: int) -> bool:
    return (await topic.info()).length == length


async def test_dedup_id(client: Redis, namespace: str) -> None:
    topic = Topic(client, "t", namespace=namespace, dedup_window=30)
    first = await topic.publish("paid", dedup_id="payment:{1}")
    again = await Topic(client, "t", namespace=namespace).publish("paid", dedup_id="payment:{1}")
    other = await topic.publish("paid", dedup_id=b"payment:2")
    assert not first.deduplicated
    assert again.deduplicated
    assert (again.id, again.number) == (first.id, first.number)
    assert (other.number, (await topic.info()).length) == (2, 2)
    short = Topic(client, "t", namespace=namespace, dedup_window=0.01)
    await short.publish("x", dedup_id="short")
    await asyncio.sleep(0.03)
    assert not (await short.publish("x", dedup_id="short")).deduplicated


async def test_what_is_kept_has_a_stated_life(redis_client: Redis, namespace: str) -> None:
    aged = Topic(redis_client, "aged", namespace=namespace, max_age=60)
    await aged.publish(1, dedup_id="x")
    lives = {key.decode(): await redis_client.pttl(key) async for key in redis_client.scan_iter(match=f"{namespace}*")}
    assert len(lives) == 4
    assert all(life > 0 for life in lives.values())
    assert lives[aged._core.stream] <= 60_000 < lives[aged._core.keys.counter]
    plain = Topic(redis_client, "plain", namespace=namespace)
    await plain.publish(1)
    immortal = {
        key.decode() async for key in redis_client.scan_iter(match=f"{namespace}*") if await redis_client.pttl(key) < 0
    }
    assert immortal == {plain._core.stream, plain._core.keys.counter}


async def test_old_messages_go(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace, maxlen=None, max_age=0.05)
    await topic.publish_many(range(300))
    await asyncio.sleep(0.06)
    await topic.publish("new")
    assert (await topic.info()).length <= 201  # whole nodes of 100 go


async def test_flushall_is_reported_and_reading_goes_on(own_client: Redis) -> None:
    topic = Topic(own_client, "t")
    async with topic.subscribe() as subscription:
        await topic.publish_many(range(5))
        await take(subscription, 5)
        await own_client.flushall()
        await own_client.script_flush()
        await topic.publish("after")
        assert numbers(await take(subscription, 2)) == [Gap("reset", None, "t"), "after"]
    await lane_of(own_client).aclose()


async def test_what_others_add_by_hand_is_read_too(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    await topic.publish(1)
    await redis_client.xadd(topic._core.stream, {"d": "2"})
    async with topic.subscribe("all") as subscription:
        assert numbers(await take(subscription, 2)) == [1, 2]


async def test_a_message_that_cannot_be_read_is_a_gap(
    redis_client: Redis, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    anything = Topic(redis_client, "t", namespace=namespace)
    strict = Topic(redis_client, "t", namespace=namespace, codec=JSONCodec(int))
    async with strict.subscribe() as live:
        await anything.publish_many([1, "two", 3])
        assert numbers(await take(live, 3)) == [1, Gap("undecodable", 1, "t"), 3]
    async with strict.subscribe("all", gaps="ignore") as later:
        assert numbers(await take(later, 2)) == [1, 3]
    assert "left out" in caplog.text


async def test_strangers_on_the_channel_hurt_nobody(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    async with topic.subscribe() as subscription:
        await redis_client.publish(topic._core.keys.channel, b"not ours\nat all")
        await topic.publish(1)
        assert numbers(await take(subscription, 1)) == [1]


async def test_bad_input_is_refused_before_any_io(redis_client: Redis) -> None:
    topic = Topic(redis_client, "t")
    for options in (
        {"maxlen": 0},
        {"max_age": 0},
        {"retention": "work"},
        {"dedup_window": -1},
        {"buffer": 0},
        AGED_INTEREST,
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            Topic(redis_client, "t", **options)  # type: ignore[call-overload]
    for start in ("", "latest", "1", "1-2/3/4", "1-99999999999999999999999", datetime(2026, 1, 1)):
        with pytest.raises(ValueError, match="start"):
            topic.subscribe(start)
    with pytest.raises(TypeError, match="start"):
        topic.subscribe(5)  # type: ignore[call-overload]
    for count in (0, True, -1):
        with pytest.raises(ValueError, match="Last"):
            Last(count)
    with pytest.raises(ValueError, match="empty"):
        await Topic(redis_client, "").publish(1)
    assert listener_of(redis_client).statistics().channels == 0


async def test_names_never_share_keys(redis_client: Redis, namespace: str) -> None:
    for name in ("a", "a:count", "a}", "{a}", "a:to:b"):
        await Topic(redis_client, name, namespace=namespace).publish(name)
    for name in ("a", "a:count", "a}", "{a}", "a:to:b"):
        topic = Topic(redis_client, name, namespace=namespace)
        assert (await topic.info()).length == 1
        async with topic.subscribe("all") as subscription:
            assert numbers(await take(subscription, 1)) == [name]


async def test_without_permission_to_listen_it_looks_by_itself(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.execute_command("ACL SETUSER deaf on nopass ~* resetchannels +@all")
    async with Redis.from_url(own_server.url, username="deaf", password="x") as client:
        topic = Topic(client, "t")
        async with topic.subscribe() as subscription:
            await topic.publish(1)
            await Topic(own_client, "t").publish(2)
            assert numbers(await take(subscription, 2)) == [1, 2]
        await lane_of(client).aclose()
    await own_client.execute_command("ACL SETUSER blind on nopass resetkeys &* +@all")
    async with Redis.from_url(own_server.url, username="blind", password="x") as client:
        with pytest.raises(PermissionDenied):
            await Topic(client, "t").publish(1)
        with pytest.raises(PermissionDenied):
            await Topic(client, "t").subscribe()
        await lane_of(client).aclose()
    await lane_of(own_client).aclose()


async def test_closing_ends_a_waiting_reader(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace)
    subscription = await topic.subscribe()
    reading = asyncio.ensure_future(_read_all(subscription))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another task"):
        await anext(subscription)
    await subscription.aclose()
    subscription.close()
    assert await reading == []
    assert not topic._core.feed().readers
    with pytest.raises(RuntimeError, match="subscribe again"):
        await subscription
    with pytest.raises(RuntimeError, match="not open"):
        await anext(topic.subscribe())
    closed = await topic.subscribe()
    await lane_of(redis_client).aclose()
    with pytest.raises(WireClosed):
        await anext(closed)


async def _read_all(subscription: Any) -> list[Any]:
    return [item async for item in subscription]


async def test_cancelling_anywhere_loses_nothing(redis_client: Redis, namespace: str) -> None:
    topic = Topic(redis_client, "t", namespace=namespace, buffer=2)
    await topic.publish_many(range(20))
    subscription = await topic.subscribe("all")
    got: list[int] = []

    async def read_one() -> None:
        got.append((await anext(subscription)).data)

    async def check() -> None:
        if len(got) % 7 == 0:
            await topic.publish(-1)

    await topic.publish_many(range(20, 2000))
    runs = await cancel_everywhere(read_one, check=check, ignore_task=lambda task: "aredis-patterns" in task.get_name())
    assert runs > 3
    rest = numbers(await take(subscription, 2000 - len(got)))
    assert [number for number in [*got, *rest] if number >= 0][:1000] == list(range(1000))
    subscription.close()


def test_a_second_event_loop(redis_url: str, namespace: str) -> None:
    client = Redis.from_url(redis_url)
    topic = Topic(client, "t", namespace=namespace)

    async def visit() -> Any:
        async with topic.subscribe("all") as subscription:
            await topic.publish(1)
            entry = await anext(subscription)
        await lane_of(client).aclose()
        await client.aclose()
        return entry.data

    assert [asyncio.run(visit()) for _ in range(3)] == [1, 1, 1]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.none() | st.integers(0, 10**18))
def test_positions_read_back(ms: int, sequence: int, number: int | None) -> None:
    assume((ms, sequence) != (2**64 - 1, 2**64 - 1))
    position = Position(EntryId(ms, sequence), number)
    assert parse_position(str(position)) == position
    assert position.id.before() < position.id or position.id == (0, 0)


def test_starts() -> None:
    assert parse_start(datetime(1969, 1, 1, tzinfo=UTC)).value == "0"
    assert parse_start("5-0/3").number == 3


def test_behind_the_largest_id_there_is_nothing() -> None:
    """It may come from a browser, and the server refuses to read there."""
    with pytest.raises(ValueError, match="start is"):
        parse_start("18446744073709551615-18446744073709551615")
