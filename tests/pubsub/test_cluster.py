"""Shard channels and topics on a real three-node Cluster."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio import RedisCluster
from redis.crc import key_slot

from aredis_patterns import Delivery, Gap, PubSub, Topic
from aredis_patterns.pipelining import lane_of, listener_of
from aredis_patterns.testing import LocalCluster

from .conftest import take, until


@pytest.fixture(params=["resp2", "resp3"])
async def cluster(redis_cluster: LocalCluster, request: pytest.FixtureRequest) -> AsyncGenerator[RedisCluster, None]:
    async with RedisCluster.from_url(redis_cluster.url, protocol=2 if request.param == "resp2" else 3) as client:
        yield client
        await lane_of(client).aclose()
        await client.flushall(target_nodes="primaries")


@pytest.mark.parametrize("sequence", [False, True])
async def test_shard_channels_are_the_default_and_each_node_has_one_reader(
    cluster: RedisCluster, sequence: bool
) -> None:
    async with PubSub(cluster, sequence=sequence) as pubsub:
        assert pubsub.sharded
        subscription = await pubsub.subscribe(*(f"c{number}" for number in range(50)))
        assert await pubsub.publish_many([(f"c{number % 50}", number) for number in range(500)]) == [1] * 500
        events = await take(subscription, 500)
        for channel in range(50):
            numbers = [event.data for event in events if event.channel == f"c{channel}"]
            assert numbers == list(range(channel, 500, 50))
        assert listener_of(cluster).statistics().connections == 3
        if sequence:
            assert [event.sequence for event in events if event.channel == "c0"] == list(range(1, 11))


async def test_plain_channels_and_patterns_still_work(cluster: RedisCluster) -> None:
    async with PubSub(cluster, sharded=False) as pubsub:
        exact = await pubsub.subscribe("news")
        matched = await pubsub.subscribe("n*", pattern=True)
        await pubsub.publish("news", 1)
        assert (await take(exact, 1))[0].data == (await take(matched, 1))[0].data == 1
        assert listener_of(cluster).statistics().connections == 1
    with pytest.raises(ValueError, match="patterns"):
        PubSub(cluster).subscribe("n*", pattern=True)


@pytest.mark.parametrize("sequence", [False, True])
async def test_a_moved_slot_is_a_gap_and_is_heard_on_the_other_node(
    cluster: RedisCluster, redis_cluster: LocalCluster, sequence: bool
) -> None:
    async with PubSub(cluster, sequence=sequence) as pubsub:
        subscription = await pubsub.subscribe("{moving}.a", "{moving}.b")
        await pubsub.publish("{moving}.a", 1)
        await take(subscription, 1)
        slot = key_slot(b"{moving}")
        home = redis_cluster.owner(slot)
        away = (home + 1) % 3
        await redis_cluster.move(slot, home, away)
        try:
            await until(lambda: subscription.live)
            vain = await _publish_until_heard(pubsub, "{moving}.a", 2)
            items = await take(subscription, 1)
            while isinstance(items[-1], Gap):
                items += await take(subscription, 1)
            assert items[-1].data == 2
            gaps = items[:-1]
            if sequence:
                assert sum(gap.missed for gap in gaps) == vain  # 0, most of the time, and then there is no gap
            else:
                assert {(gap.reason, gap.missed) for gap in gaps} == {("reconnect", None)}
        finally:
            await redis_cluster.move(slot, away, home)


async def _publish_until_heard(pubsub: PubSub[Any], channel: str, data: object) -> int:
    """Until the subscription has moved as well, nobody is there. How often that was so."""
    vain = 0

    async def somebody() -> bool:
        nonlocal vain
        heard = await pubsub.publish(channel, data) == 1
        vain += not heard
        return heard

    await until(somebody)
    return vain


async def test_a_topic_lives_in_one_slot_and_all_of_it_works(cluster: RedisCluster) -> None:
    topics = [Topic(cluster, f"t:{{{number}}}", maxlen=50, retention="interest") for number in range(9)]
    for topic in topics:
        async with topic.subscribe() as subscription, topic.durable("d") as durable:
            await topic.publish_many(range(20), deadline=5)
            await topic.publish(20, dedup_id="x")
            assert (await topic.publish(20, dedup_id="x")).deduplicated
            assert [entry.data for entry in await take(subscription, 21)] == list(range(21))
            deliveries = await take(durable, 21)
            assert await deliveries[0].nack()
            assert await deliveries[1].reject()
            deliveries[2].release()
            assert all(await durable.ack_many(deliveries[3:]))
            again = await take(durable, 2)
            assert {(each.data, each.attempt) for each in again if isinstance(each, Delivery)} == {(0, 2), (2, 1)}
            assert all(await durable.ack_many(again))
            info = await topic.info()
            assert (info.published, info.durables[0].unacked, info.durables[0].dead) == (21, 0, 1)
        assert await topic.remove_durable("d")
