"""The pattern view against the families themselves: what their objects say is what their keys show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from redis.asyncio import Redis

from aredis_patterns import Patterns
from aredis_patterns._core.keys import Keyspace
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import PermissionDenied
from aredis_patterns.monitoring import pattern_view
from aredis_patterns.monitoring._pattern_keys import PatternKey, parse_key

AWKWARD_NAME = "user:7 {x}/é%"


@pytest.fixture
async def apps(own_server: EmbeddedServer) -> AsyncGenerator[tuple[Patterns, Patterns], None]:
    """Two processes of one application, as far as the server can tell."""
    async with (
        Patterns.from_url(own_server.url, namespace="shop:eu") as one,
        Patterns.from_url(own_server.url, namespace="shop:eu") as other,
    ):
        yield one, other


@pytest.mark.parametrize("name", ["a", AWKWARD_NAME, "a}b", "::", "line\nbreak"])
def test_a_key_is_taken_apart_as_it_was_put_together(name: str) -> None:
    key = Keyspace("shop:eu", "rl", "fixed", "the api").key(name, "log", "x")
    assert parse_key(key.encode(), "shop:eu") == PatternKey("rl", ("fixed", "the api"), name, ("log", "x"))


@pytest.mark.parametrize(
    "key", [b"shop:other:{x}", b"shop:eu", b"shop:eu:plain", b"shop:eu:{x}", b"\xff", b"shop:eux:lock:{x}"]
)
def test_a_key_of_somebody_else_is_none(key: bytes) -> None:
    assert parse_key(key, "shop:eu") is None


async def test_a_lock_that_is_held_and_waited_for(apps: tuple[Patterns, Patterns], own_client: Redis) -> None:
    one, other = apps
    async with one.lock(AWKWARD_NAME, ttl=30) as _:
        waiter = asyncio.create_task(other.lock(AWKWARD_NAME).acquire())
        try:
            async with asyncio.timeout(10):
                while True:
                    view = await pattern_view(own_client, namespace="shop:eu")
                    if view.locks and view.locks[0].waiting:
                        break
                    await asyncio.sleep(0.02)
        finally:
            waiter.cancel()
    (lock,) = view.locks
    assert (lock.kind, lock.name, lock.held, lock.waiting) == ("lock", AWKWARD_NAME, True, 1)
    assert lock.holder
    assert lock.ttl is not None
    assert 0 < lock.ttl <= 30


async def test_a_lock_that_was_released_is_no_longer_shown(apps: tuple[Patterns, Patterns], own_client: Redis) -> None:
    async with apps[0].lock("x"):
        pass
    await own_client.ping()
    assert (await apps[0].pattern_view()).locks == ()


async def test_queues_are_as_deep_and_as_old_as_they_say(apps: tuple[Patterns, Patterns]) -> None:
    queue = apps[0].queue("emails")
    for number in range(5):
        await queue.enqueue({"n": number})
    await queue.enqueue({"n": 9}, delay=60)
    message = await queue.dequeue()
    assert message is not None
    await apps[0].simple_queue("jobs").enqueue_many([1, 2, 3])
    state, jobs = (await apps[0].pattern_view()).queues
    assert (state.name, state.ready, state.leased, state.delayed, state.dead) == ("emails", 4, 1, 1, 0)
    assert state.age is not None
    assert 0 <= state.age < 30
    assert (jobs.name, jobs.ready) == ("jobs", 3)
    await message.ack()
    await queue.pause()
    paused = (await apps[0].pattern_view()).queues[0]
    assert (paused.leased, paused.paused, paused.done) == (0, True, 1)
    await queue.resume()


async def test_limiters_and_boards_are_counted_by_name(apps: tuple[Patterns, Patterns]) -> None:
    for algorithm in ("token_bucket", "fixed_window"):
        for user in ("a", "b", "c"):
            await apps[0].rate_limiter("9/hour", algorithm=algorithm, name="api", deadline=5).hit(user)  # type: ignore[arg-type]
    await apps[0].leaderboard("season").add_score("alice", 7)
    objects = {(each.family, each.name): each.keys for each in (await apps[0].pattern_view()).objects}
    assert objects["ratelimit", "bucket api"] == 3
    assert objects["ratelimit", "fixed api"] == 3
    assert any(family == "leaderboards" for family, _ in objects)


async def test_every_family_is_known_by_its_name(apps: tuple[Patterns, Patterns]) -> None:
    p = apps[0]
    await p.activity("logins", retention=86400).mark_active(7)
    await p.unique_counter("visits", retention=86400).track_visitor("home", "ada")
    await p.client.set("{bank}:user-7", 5)
    for number in range(3):
        await p.transfer("{bank}:user-7", f"{{bank}}:user-{number}", 1)
        await p.increment(f"views:{number}", ttl=60)
    objects = {(each.family, each.name): each.keys for each in (await p.pattern_view()).objects}
    assert {family for family, _ in objects} == {"analytics", "transactions"}
    assert objects["transactions", "markers of transfer"] == objects["transactions", "markers of increment"] == 3


async def test_looking_is_not_seen_as_misses(apps: tuple[Patterns, Patterns], own_client: Redis) -> None:
    async with apps[0].lock("x"):
        before = (await own_client.info("stats"))["keyspace_misses"]
        for _ in range(5):
            await apps[0].pattern_view()
        assert (await own_client.info("stats"))["keyspace_misses"] == before


async def test_other_namespaces_and_an_early_end(apps: tuple[Patterns, Patterns], own_client: Redis) -> None:
    await own_client.mset({f"shop:eu:rl:fixed:api:{{{n}}}": 1 for n in range(3000)} | {"other:lock:{x}": "1"})
    view = await pattern_view(own_client, namespace="shop:eu", max_keys=1000)
    assert not view.complete
    assert 1000 <= view.keys < 3000
    assert (await pattern_view(own_client, namespace="shop")).keys == 3000
    assert (await pattern_view(own_client, namespace="sh*")).keys == 0


async def test_no_permission(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.acl_setuser("app", enabled=True, nopass=True, keys="*", commands=["+@all", "-scan"])
    async with Redis.from_url(own_server.url, username="app", password="x") as client:
        with pytest.raises(PermissionDenied, match="SCAN"):
            await pattern_view(client)


async def test_a_key_of_the_wrong_kind_breaks_nothing(own_client: Redis) -> None:
    await own_client.sadd("ap:lock:{x}", "not a lock")
    await own_client.set("ap:queue:{q}:ready", "not a queue")
    await own_client.set("ap:list:{l}", "not a list")
    view = await pattern_view(own_client)
    assert [(lock.name, lock.held, lock.holder) for lock in view.locks] == [("x", True, None)]
    assert sorted((queue.name, queue.ready) for queue in view.queues) == [("l", 0), ("q", 0)]
