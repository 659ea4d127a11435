"""Numbered messages: the envelope, the count, and what a reconnect means then."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from aredis_patterns import Gap, PubSub, RawCodec
from aredis_patterns.pubsub._keys import ChannelNames
from aredis_patterns.pubsub._numbers import MARK, Position, Tracker, parse
from aredis_patterns.testing import FaultProxy

from .conftest import take


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 40))
def test_every_hole_is_counted_once(arrives: list[bool], caught_up_after: int) -> None:
    """Some messages arrive and some do not; at some moment the server is asked how far it has counted."""
    tracker, told = Tracker(), 0
    first = arrives.index(True) if any(arrives) else None
    for number, here in enumerate(arrives, 1):
        if here:
            told += tracker.arrived(b"e", number) or 0
        if number == caught_up_after and first is not None and number > first:
            told += tracker.caught_up(Position(b"e", number)) or 0
    if first is not None:
        told += tracker.caught_up(Position(b"e", len(arrives))) or 0
        assert told == arrives[first:].count(False)


def test_a_count_that_began_anew_is_not_taken_for_the_old_one() -> None:
    tracker = Tracker()
    assert tracker.arrived(b"one", 7) == 0
    assert tracker.arrived(b"two", 1) == 0
    assert tracker.arrived(b"three", 4) is None
    assert tracker.caught_up(Position(b"four", 2)) is None
    assert tracker.caught_up(None) is None


def test_the_envelope() -> None:
    assert parse(MARK + b"123 45 a b\n") == (b"123", 45, b"a b\n")
    assert parse(b'{"plain": 1}') is None
    assert parse(MARK + b"half") is None


async def test_each_message_has_its_number(client: Redis, redis_client: Redis, namespace: str) -> None:
    pubsub = PubSub(client, namespace=namespace, sequence=True, codec=RawCodec())
    async with pubsub.subscribe("a") as subscription, pubsub.subscribe("*", pattern=True) as matched:
        counts = await pubsub.publish_many([("a", b"\x00%d" % number) for number in range(20)])
        assert counts == [2] * 20
        events = await take(subscription, 20)
        assert [(event.sequence, event.data) for event in events] == [
            (number + 1, b"\x00%d" % number) for number in range(20)
        ]
        assert [event.sequence for event in await take(matched, 20)] == list(range(1, 21))
        await redis_client.publish(f"{namespace}:ps:a", b"plain")
        (event,) = await take(subscription, 1)
        assert (event.sequence, event.data) == (None, b"plain")
    keys = [key async for key in redis_client.scan_iter(match=f"{namespace}*")]
    assert len(keys) == 1
    assert 0 < await redis_client.pttl(keys[0]) <= 24 * 3600 * 1000


async def test_after_a_reconnect_the_gap_is_exact_at_once(
    through_proxy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    near = PubSub(through_proxy, namespace=namespace, sequence=True)
    far = PubSub(redis_client, namespace=namespace, sequence=True)
    async with near.subscribe("x") as subscription:
        await far.publish("x", 1)
        await take(subscription, 1)
        for lost in (3, 1, 12):
            held = fault_proxy.hold_commands("SUBSCRIBE")
            fault_proxy.kill_connections()
            await held.until_applied()
            await far.publish_many([("x", number) for number in range(lost)])
            held.release()
            # Nothing is published now: the gap does not wait for the next message.
            assert await take(subscription, 1) == [Gap("reconnect", lost, "x")]
            await far.publish("x", "next")
            (event,) = await take(subscription, 1)
            assert event.data == "next"


async def test_a_reconnect_that_missed_nothing_is_no_gap(
    through_proxy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    near = PubSub(through_proxy, namespace=namespace, sequence=True)
    far = PubSub(redis_client, namespace=namespace, sequence=True)
    async with near.subscribe("x") as subscription:
        await far.publish("x", 1)
        await take(subscription, 1)
        for number in range(3):
            asked = fault_proxy.watch("HMGET")
            fault_proxy.kill_connections()
            await asked.until_answered()
            await far.publish("x", number)
            (event,) = await take(subscription, 1)
            assert event.data == number


async def test_messages_that_arrive_while_we_ask_are_not_counted_as_lost(
    through_proxy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    near = PubSub(through_proxy, namespace=namespace, sequence=True)
    far = PubSub(redis_client, namespace=namespace, sequence=True)
    async with near.subscribe("x") as subscription:
        await far.publish("x", 0)
        await take(subscription, 1)
        asking = fault_proxy.hold_replies("HMGET")
        fault_proxy.kill_connections()
        await asking.until_applied()
        await far.publish_many([("x", number) for number in range(1, 6)])
        asking.release()
        assert [event.data for event in await take(subscription, 5)] == [1, 2, 3, 4, 5]


async def test_a_forgotten_count_is_a_reset(
    through_proxy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    near = PubSub(through_proxy, namespace=namespace, sequence=True)
    far = PubSub(redis_client, namespace=namespace, sequence=True)
    async with near.subscribe("x") as subscription:
        await far.publish("x", 0)
        await take(subscription, 1)
        held = fault_proxy.hold_commands("SUBSCRIBE")
        fault_proxy.kill_connections()
        await held.until_applied()
        keys = [key async for key in redis_client.scan_iter(match=f"{namespace}*")]
        await redis_client.unlink(*keys)
        await far.publish("x", 1)
        held.release()
        assert await take(subscription, 1) == [Gap("reset", None, "x")]


async def test_a_quiet_pattern_is_told_of_a_gap_once(
    through_proxy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    near = PubSub(through_proxy, namespace=namespace, sequence=True)
    far = PubSub(redis_client, namespace=namespace, sequence=True)
    async with near.subscribe("*", pattern=True) as subscription:
        await far.publish("x", 1)
        await take(subscription, 1)
        held = fault_proxy.hold_commands("PSUBSCRIBE")
        fault_proxy.kill_connections()
        await held.until_applied()
        await far.publish("x", 2)
        held.release()
        assert await take(subscription, 1) == [Gap("reconnect", None, None)]
        await far.publish("x", 3)
        (event,) = await take(subscription, 1)
        assert (event.data, event.sequence) == (3, 3)


async def test_without_the_count_the_gap_is_unknown_and_not_silent(
    through_proxy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    pubsub = PubSub(through_proxy, namespace=namespace, sequence=True)
    async with pubsub.subscribe("x") as subscription:
        await pubsub.publish("x", 1)
        await take(subscription, 1)
        (key,) = [key async for key in redis_client.scan_iter(match=f"{namespace}*")]
        await redis_client.set(key, "not a count", ex=60)
        fault_proxy.kill_connections()
        assert await take(subscription, 1) == [Gap("reconnect", None, "x")]


@pytest.mark.parametrize("channel", [b"plain", b"a{tag}b", b"a{}b", b"a{b", b"{x}{y}"])
def test_a_count_lives_in_the_slot_of_its_shard_channel(channel: bytes) -> None:
    from redis.crc import key_slot

    names = ChannelNames("ap")
    name = names.on_server(channel)
    if b"}" in channel and channel == b"a{}b":
        with pytest.raises(ValueError, match="lone brace"):
            names.counter(name, same_slot=True)
        return
    assert key_slot(names.counter(name, same_slot=True)) == key_slot(name)


def test_two_channels_never_share_a_count() -> None:
    names = ChannelNames("ap")
    channels: list[Any] = ["a", "a}", "a%7D", "{a}", "{a}b", "b{a}"]
    for same_slot in (False, True):
        usable = [name for name in channels if not (same_slot and name == "a}")]
        counters = {names.counter(names.on_server(name), same_slot=same_slot) for name in usable}
        assert len(counters) == len(usable)


async def test_a_lost_reply_is_told_and_nothing_is_published_twice(
    through_proxy: Redis, fault_proxy: FaultProxy, redis_client: Redis, namespace: str
) -> None:
    from aredis_patterns import OutcomeUnknown

    near = PubSub(through_proxy, namespace=namespace, sequence=True)
    far = PubSub(redis_client, namespace=namespace, sequence=True)
    await near.publish("x", 0)
    async with far.subscribe("x") as subscription:
        fault_proxy.drop_replies("EVALSHA", times=1)
        with pytest.raises(OutcomeUnknown, match="x"):
            await near.publish("x", 1)
        await near.publish("x", 2)
        assert [event.data for event in await take(subscription, 2)] == [1, 2]


async def test_the_channels_of_a_pattern_are_followed_in_bounded_memory(
    redis_client: Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aredis_patterns.pubsub._routes.MOST_TRACKED", 3)
    pubsub = PubSub(redis_client, namespace=namespace, sequence=True)
    async with pubsub.subscribe("*", pattern=True) as subscription:
        await pubsub.publish_many([(f"c{number}", number) for number in range(9)])
        assert len(await take(subscription, 9)) == 9
        (route,) = pubsub._board()._routes.values()
        assert list(route.trackers) == ["c6", "c7", "c8"]
    await pubsub.aclose()
