"""Ends are told once; and who waits for one hears of it at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import aclosing, suppress
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import PipelinedRedis, SessionEvent, SessionStore
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.pipelining import lane_of
from aredis_patterns.testing import FaultProxy


async def collect(store: Any, into: list[SessionEvent]) -> None:
    async for event in store.events():
        into.append(event)


async def until(condition: Any, within: float = 8) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def stop(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_each_end_is_told_exactly_once_to_one_of_all_readers(redis_url: str, namespace: str) -> None:
    """Three processes' worth of clients; sessions expire, are revoked and evicted; readers come and go."""
    clients = [Redis.from_url(redis_url) for _ in range(3)]
    stores = [
        SessionStore(client, namespace=namespace, idle_timeout=0.5, absolute_timeout=60, max_per_user=2, deadline=10)
        for client in clients
    ]
    seen: list[SessionEvent] = []
    tasks = [asyncio.create_task(collect(store, seen)) for store in stores]
    sessions = [await stores[n % 3].create(user_id=f"u{n % 40}") for n in range(120)]
    revoked = sum([await stores[0].destroy(session.token) for session in sessions[-20:]])
    for _ in range(5):
        victim = tasks.pop(0)
        victim.cancel()
        with suppress(asyncio.CancelledError):
            await victim
        tasks.append(asyncio.create_task(collect(stores[1], seen)))
        await asyncio.sleep(0.02)
    await until(lambda: len(seen) >= 120, within=60)
    await asyncio.sleep(0.3)
    await stop(tasks)
    assert Counter(event.handle for event in seen) == Counter(session.handle for session in sessions)
    reasons = Counter(event.reason for event in seen)
    assert reasons["revoked"] == revoked
    # On a machine that is slower than the idle timeout some expire before they are too many.
    assert reasons["evicted"] == sum(store.statistics().evicted for store in stores) <= 40
    assert reasons["expired"] == 120 - revoked - reasons["evicted"]
    assert {event.user_id for event in seen} == {f"u{n}" for n in range(40)}
    for client in clients:
        await lane_of(client).aclose()
        await client.aclose()


async def test_ends_wait_while_nobody_listens(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, idle_timeout=0.2, absolute_timeout=60, deadline=10)
    long = SessionStore(redis_client, namespace=namespace, deadline=10)
    expired, revoked = await store.create(), await long.create(user_id="42")
    assert await long.destroy(revoked.token)
    await asyncio.sleep(0.25)
    async with aclosing(store.events()) as events:
        told = [await asyncio.wait_for(anext(events), 5) for _ in range(2)]
        assert set(told) == {
            SessionEvent("expired", expired.handle, None),
            SessionEvent("revoked", revoked.handle, "42"),
        }
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(events), 0.3)


async def test_a_touched_session_is_not_told_before_its_time(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, idle_timeout=1, absolute_timeout=1.5, deadline=10)
    session = await store.create()
    seen: list[SessionEvent] = []
    task = asyncio.create_task(collect(store, seen))
    start = time.monotonic()
    while await store.get(session.token) is not None:
        assert not seen
        await asyncio.sleep(0.05)
    assert time.monotonic() - start > 1.4
    await until(lambda: seen)
    await stop([task])
    assert [event.reason for event in seen] == ["expired"]


async def test_a_reader_that_is_woken_all_the_time_still_finds_what_has_expired(
    redis_client: Redis, namespace: str
) -> None:
    store = SessionStore(redis_client, namespace=namespace, idle_timeout=1, absolute_timeout=60, deadline=10)
    session = await store.create()
    other = next(letter for letter in "AB" if letter != session.handle[0])
    seen: list[SessionEvent] = []
    task = asyncio.create_task(collect(store, seen))
    deadline = time.monotonic() + 10
    while not seen and time.monotonic() < deadline:
        await redis_client.publish(store._server.keys.channel, f"returned:{other}::")
        await asyncio.sleep(0.02)
    await stop([task])
    assert seen == [SessionEvent("expired", session.handle, None)]


async def test_a_reader_that_stops_gives_back_what_it_has_not_handed_out(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, deadline=10)
    sessions = [await store.create() for _ in range(30)]
    await asyncio.gather(*(store.destroy(session.token) for session in sessions))
    seen: list[SessionEvent] = []
    while len(seen) < 30:
        async for event in store.events():
            seen.append(event)
            break
        assert event in seen
    assert len({event.handle for event in seen}) == 30


async def test_what_a_lost_reader_had_taken_comes_again_after_its_lease(redis_client: Redis, namespace: str) -> None:
    from aredis_patterns.sessions._scripts import ends_claim

    store = SessionStore(redis_client, namespace=namespace, deadline=10)
    session = await store.create()
    await store.destroy(session.token)
    server = store._server
    claim = await ends_claim(
        server.commands, ends=server.keys.ends(session.handle[0]), lease=300, keep=server.rules.keep, most=10
    )
    assert len(claim.taken) == 1  # and here its process is killed
    start = time.monotonic()
    async with aclosing(store.events()) as events:
        assert (await asyncio.wait_for(anext(events), 8)).handle == session.handle
    assert time.monotonic() - start > 0.2


async def test_readers_outlive_lost_connections(fault_proxy: FaultProxy, namespace: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        store = SessionStore(client, namespace=namespace, deadline=10)
        seen: list[SessionEvent] = []
        task = asyncio.create_task(collect(store, seen))
        handles: list[str] = []
        for number in range(6):
            session = await store.create()
            handles.append(session.handle)
            fault_proxy.kill_connections()
            await store.destroy(session.token)
            await until(lambda number=number: len(seen) > number)
        await stop([task])
        assert [event.handle for event in seen] == handles


async def test_a_store_that_records_nothing_says_so(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, keep_events=None, deadline=10)
    session = await store.create()
    await store.extend(session.token)
    await store.destroy(session.token)
    assert [key async for key in redis_client.scan_iter(match=f"{namespace}*")] == []
    with pytest.raises(ValueError, match="keep_events"):
        store.events()


async def waiting(store: Any, session: Any) -> asyncio.Task[SessionEvent]:
    """A task that has subscribed and looked."""
    before = store.statistics().waiting
    task = asyncio.create_task(store.wait_ended(session))
    await until(lambda: store.statistics().waiting > before)
    watch = next(iter(store._watches._by_loop.values()))
    await until(lambda: watch.live)
    await store.get("A" * 43)
    return task


async def test_a_revocation_is_pushed_to_all_who_wait(redis_url: str, namespace: str) -> None:
    async with Redis.from_url(redis_url) as one, Redis.from_url(redis_url) as two:
        here = SessionStore(one, namespace=namespace, deadline=10)
        there = SessionStore(two, namespace=namespace, deadline=10)
        session, other = await here.create(user_id="42"), await here.create(user_id="43")
        tasks = [await waiting(store, session) for store in (here, here, there)]
        untouched = await waiting(there, other)
        await here.destroy_all("42")
        for task in tasks:
            assert await asyncio.wait_for(task, 5) == SessionEvent("revoked", session.handle, "42")
        assert not untouched.done()
        await stop([untouched])
        assert here.statistics().waiting == there.statistics().waiting == 0
        for client in (one, two):
            await lane_of(client).aclose()


async def test_who_comes_too_late_is_told_at_once(store: Any) -> None:
    session = await store.create(user_id="42")
    await store.destroy(session.token)
    assert (await asyncio.wait_for(store.wait_ended(session), 5)).reason == "revoked"
    moved = await store.create(user_id="42")
    stale = await store.get(moved.token)
    await store.rotate(moved)
    task = asyncio.create_task(store.wait_ended(stale))
    await asyncio.sleep(0.1)
    assert not task.done(), "under a new id it is the same session"
    await store.destroy(moved.token)
    assert (await asyncio.wait_for(task, 5)).handle == moved.handle


async def test_waiting_follows_a_rotation_but_not_a_login(store: Any) -> None:
    session = await store.create(user_id="42")
    task = await waiting(store, await store.get(session.token))
    await store.rotate(session)
    await store.rotate(session)
    await store.get(session.token)
    await asyncio.sleep(0.05)
    assert not task.done()
    await store.destroy(session.token)
    assert (await asyncio.wait_for(task, 5)) == SessionEvent("revoked", session.handle, "42")
    visitor = await store.create()
    task = await waiting(store, await store.get(visitor.token))
    await store.rotate(visitor, user_id="42")
    assert (await asyncio.wait_for(task, 5)).reason == "rotated"


async def test_waiting_ends_with_the_session_and_not_before(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, idle_timeout=1, absolute_timeout=60, deadline=10)
    session = await store.create()
    task = await waiting(store, session)
    await asyncio.sleep(0.3)
    extended = time.monotonic()
    assert await store.extend(session.token)
    assert (await asyncio.wait_for(task, 10)).reason == "expired"
    assert time.monotonic() - extended >= 0.99


async def test_a_revocation_in_a_gap_is_found_afterwards(
    fault_proxy: FaultProxy, redis_url: str, namespace: str
) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client, Redis.from_url(redis_url) as direct:
        behind = SessionStore(client, namespace=namespace, deadline=10)
        session = await behind.create(user_id="42")
        task = await waiting(behind, session)
        fault_proxy.refuse_connections()
        fault_proxy.kill_connections()
        await SessionStore(direct, namespace=namespace, deadline=10).destroy(session.token)
        await asyncio.sleep(0.05)
        assert not task.done()
        fault_proxy.restore()
        assert (await asyncio.wait_for(task, 10)).reason == "revoked"


async def test_without_permission_to_listen_we_look_instead(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.execute_command("ACL SETUSER app on >pw ~* resetchannels +@all")
    async with PipelinedRedis.from_url(own_server.url, username="app", password="pw") as client:
        store = SessionStore(client, deadline=10)
        session = await store.create(user_id="42")
        task = asyncio.create_task(store.wait_ended(session))
        await asyncio.sleep(0.05)
        assert await store.destroy(session.token) is True, "a channel that is closed to us does not stop a logout"
        assert (await asyncio.wait_for(task, 10)).reason == "revoked"
        async with aclosing(store.events()) as events:
            assert (await asyncio.wait_for(anext(events), 10)).handle == session.handle
