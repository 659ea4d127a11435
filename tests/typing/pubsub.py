"""A tour of pub/sub and topics, for type checkers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from redis.asyncio import Redis

from aredis_patterns import (
    Delivery,
    Durable,
    Event,
    Gap,
    JSONCodec,
    Last,
    Listening,
    Patterns,
    Publication,
    PubSub,
    Subscription,
    Topic,
    TopicEntry,
    TopicSubscription,
)


@dataclass
class Order:
    id: int


async def pubsub(redis: Redis, p: Patterns) -> None:
    anything = PubSub(redis, buffer=10, overflow="latest")
    assert_type(anything, PubSub[Any])
    assert_type(p.pubsub(sequence=True), PubSub[Any])
    orders = PubSub(redis, codec=JSONCodec(Order))
    assert_type(await orders.publish("orders", Order(1)), int)
    assert_type(await orders.publish_many([("orders", Order(1)), (b"raw", Order(2))]), list[int])
    async with orders.subscribe("orders") as subscription:
        assert_type(subscription, Subscription[Event[Order] | Gap])
        async for item in subscription:
            if isinstance(item, Gap):
                assert_type(item.missed, int | None)
            else:
                assert_type(item.data, Order)
    plain = await orders.subscribe("orders", gaps="ignore")
    assert_type(plain, Subscription[Event[Order]])
    async for event in plain:
        assert_type(event.data.id, int)

    async def handle(event: Event[Order]) -> None: ...

    async with await orders.listen("orders", handle, concurrency=4) as listening:
        assert_type(listening, Listening[Order])
    await orders.listen("orders", lambda event: print(event.data.id))


async def topic(redis: Redis, p: Patterns) -> None:
    assert_type(p.topic("prices", maxlen=None, retention="interest"), Topic[Any])
    orders = Topic(redis, "orders", codec=JSONCodec(Order), max_age=3600)
    assert_type(await orders.publish(Order(1), dedup_id="order:1"), Publication)
    assert_type(await orders.publish_many([Order(1)]), list[Publication])
    async with orders.subscribe(Last(10)) as subscription:
        assert_type(subscription, TopicSubscription[TopicEntry[Order] | Gap])
    async with orders.subscribe(gaps="ignore") as entries:
        async for entry in entries:
            assert_type(entry, TopicEntry[Order])
            assert_type(entry.position, str)
    async with orders.durable("billing", ack_wait=10, max_deliveries=5) as durable:
        assert_type(durable, Durable[Delivery[Order] | Gap])
        async for delivery in durable:
            if isinstance(delivery, Gap):
                continue
            async with delivery:
                assert_type(delivery.data, Order)
    async with orders.durable("audit", gaps="ignore") as audit:
        assert_type(await anext(audit), Delivery[Order])
