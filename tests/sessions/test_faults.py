"""Lost replies, lost connections, lost data, cancelled callers: nothing is applied twice, nobody is let in by accident."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import OutcomeUnknown, PipelinedRedis, ReplyTimeout, ServerUnavailable, SessionGone, SessionStore
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.testing import FaultProxy, cancel_everywhere

SCRIPT = "EVALSHA"


@pytest.fixture
async def lossy(fault_proxy: FaultProxy, namespace: str) -> Any:
    """A store behind a proxy; the server knows all scripts."""
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        store = SessionStore(client, namespace=namespace, deadline=10)
        session = await store.create({"n": 0}, user_id="warm")
        await store.get(session.token)
        session.data["n"] = 1
        await store.save(session)
        await store.extend(session.token)
        await store.rotate(session)
        await store.destroy(session.token)
        await store.destroy_all("warm")
        yield store


async def test_a_lost_reply_to_create_makes_one_session(lossy: Any, fault_proxy: FaultProxy) -> None:
    lost = fault_proxy.drop_replies(SCRIPT, times=1)
    session = await lossy.create({"x": 1}, user_id="42")
    assert lost.applied == 1
    assert [info.handle for info in await lossy.list("42")] == [session.handle]
    assert dict((await lossy.get(session.token)).data) == {"x": 1}


async def test_a_lost_reply_to_a_read_is_asked_again(lossy: Any, fault_proxy: FaultProxy) -> None:
    session = await lossy.create({"x": 1})
    lost = fault_proxy.drop_replies(SCRIPT, times=1)
    assert await lossy.get(session.token) is not None
    assert await lossy.extend(session.token)
    assert lost.applied == 1


async def test_a_lost_reply_to_rotate_rotates_once(lossy: Any, fault_proxy: FaultProxy) -> None:
    session = await lossy.create({"x": 1})
    old = session.token
    lost = fault_proxy.drop_replies(SCRIPT, times=1)
    await lossy.rotate(session, user_id="42")
    assert lost.applied == 1
    assert await lossy.get(old) is None
    found = await lossy.get(session.token)
    assert (found.version, found.user_id, dict(found.data)) == (2, "42", {"x": 1})


async def test_a_lost_reply_to_save_is_told_and_not_repeated(lossy: Any, fault_proxy: FaultProxy) -> None:
    session = await lossy.create({"n": 0})
    session.data["n"] = 1
    fault_proxy.drop_replies(SCRIPT, times=1)
    with pytest.raises(OutcomeUnknown):
        await lossy.save(session)
    stored = await lossy.get(session.token)
    assert (stored.version, stored.data["n"]) == (2, 1)
    assert await lossy.save(session), "the caller may repeat it: the same values again"


async def test_a_lost_reply_does_not_keep_anybody_logged_in(lossy: Any, fault_proxy: FaultProxy) -> None:
    session = await lossy.create(user_id="42")
    lost = fault_proxy.drop_replies(SCRIPT, times=1)
    await lossy.destroy(session.token)
    assert lost.applied == 1
    assert await lossy.get(session.token) is None
    assert await lossy.list("42") == []
    events = [event async for event in _some(lossy.events(), 2)]
    assert [event.handle for event in events].count(session.handle) == 1


async def test_a_lost_request_does_not_keep_anybody_logged_in(lossy: Any, fault_proxy: FaultProxy) -> None:
    session = await lossy.create(user_id="42")
    lost = fault_proxy.reset_before(SCRIPT, times=1)
    assert await lossy.destroy(session.token) is True
    assert lost.applied == 1
    assert await lossy.get(session.token) is None


async def test_scripts_that_were_flushed_are_repaired(own_server: EmbeddedServer, own_client: Redis) -> None:
    store = SessionStore(own_client, deadline=10)
    session = await store.create({"n": 0}, user_id="42")
    for verb in (
        lambda: store.get(session.token),
        lambda: store.save(session, if_version=session.version),
        lambda: store.extend(session.token),
        lambda: store.rotate(session),
        lambda: store.list("42"),
        lambda: store.destroy_all("42"),
    ):
        await own_client.script_flush()
        await verb()
    assert await store.list("42") == []


async def test_an_emptied_server_means_logged_out_and_no_error(own_client: Redis) -> None:
    store = SessionStore(own_client, deadline=10)
    session = await store.create({"n": 0}, user_id="42")
    await own_client.flushall()
    assert await store.get(session.token) is None
    session.data["n"] = 1
    with pytest.raises(SessionGone):
        await store.save(session)
    assert await store.destroy_all("42") == 0
    assert await store.create(user_id="42")


async def test_a_server_that_is_down_or_silent_lets_nobody_in_and_answers_in_time(own_server: EmbeddedServer) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        store = SessionStore(client, deadline=0.2)
        session = await SessionStore(client, deadline=10).create(user_id="42")  # a busy machine is no outage
        own_server.pause()
        try:
            start = time.monotonic()
            for verb in (
                lambda: store.get(session.token),
                lambda: store.create(),
                lambda: store.destroy(session.token),
            ):
                with pytest.raises(ReplyTimeout):
                    await verb()
            assert time.monotonic() - start < 10
        finally:
            own_server.resume()
        await own_server.kill()
        for verb in (lambda: store.get(session.token), lambda: store.create(), lambda: store.destroy_all("42")):
            with pytest.raises((ServerUnavailable, OutcomeUnknown)):
                await verb()


async def test_a_killed_connection_is_not_noticed(own_server: EmbeddedServer, own_client: Redis) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        store = SessionStore(client, deadline=10)
        session = await store.create({"n": 0})
        assert await own_client.client_kill_filter(_type="normal", skipme=True) >= 1
        assert await store.get(session.token) is not None


async def test_cancelled_anywhere_create_leaves_no_session(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, deadline=10)
    await store.create(user_id="42")
    finished: list[Any] = []

    async def critical() -> None:
        finished.append(await store.create({"x": 1}, user_id="42"))

    async def check() -> None:
        await redis_client.ping()
        await store.get("A" * 43)  # behind whatever was undone
        known = {session.handle for session in finished}
        alive = {info.handle for info in await store.list("42")}
        assert len(alive) == 1 + len(known)
        assert known <= alive

    assert await cancel_everywhere(critical, check=check) >= 4


async def test_cancelled_anywhere_rotate_leaves_one_session_or_none(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, deadline=10)
    warm = await store.create({"x": 1}, user_id="42")
    await store.rotate(warm)
    await store.destroy_all("42")
    session: Any = None
    old = ""

    async def critical() -> None:
        nonlocal session, old
        session = await store.create({"x": 1})
        old = session.token
        await store.rotate(session, user_id="42")

    async def check() -> None:
        nonlocal session
        if session is None:
            return
        await store.get("A" * 43)
        alive = [token for token in {old, session.token} if await store.get(token)]
        rotated = session.token != old
        assert alive == ([session.token] if rotated else alive)
        listed = {info.handle for info in await store.list("42")}
        assert listed == ({session.handle} if rotated else set())
        await store.destroy_all("42")
        session = None

    assert await cancel_everywhere(critical, check=check) >= 8


@pytest.mark.parametrize("verb", ["get", "save", "extend", "destroy", "destroy_all", "list"])
async def test_cancelled_anywhere_the_connection_lives(redis_client: Redis, namespace: str, verb: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, deadline=10)
    session = await store.create({"n": 0}, user_id="42")

    async def critical() -> None:
        session.data["n"] += 1
        run: dict[str, Callable[[], Awaitable[object]]] = {
            "get": lambda: store.get(session.token),
            "save": lambda: store.save(session),
            "extend": lambda: store.extend(session.token),
            "destroy": lambda: store.destroy(session.token),
            "destroy_all": lambda: store.destroy_all("42"),
            "list": lambda: store.list("42"),
        }
        if verb == "save":
            await store.get(session.token)
        await run[verb]()

    async def check() -> None:
        assert await store.get("A" * 43) is None

    assert await cancel_everywhere(critical, check=check) >= 2


async def test_lost_index_heals_with_the_next_touch(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, touch_threshold=0, deadline=10)
    session = await store.create(user_id="42")
    await redis_client.unlink(store._server.keys.index("42"))
    assert await store.list("42") == []
    await asyncio.sleep(0.005)
    assert await store.get(session.token) is not None
    assert [info.handle for info in await store.list("42")] == [session.handle]


async def test_what_a_lost_index_hid_from_logout_everywhere_ends_with_its_next_touch(
    redis_client: Redis, namespace: str
) -> None:
    store = SessionStore(redis_client, namespace=namespace, touch_threshold=0, deadline=10)
    hidden, kept = await store.create(user_id="42"), await store.create(user_id="42")
    await redis_client.unlink(store._server.keys.index("42"))
    await asyncio.sleep(0.005)
    assert await store.destroy_all("42", keep=kept) == 0
    await asyncio.sleep(0.005)
    assert await store.get(hidden.token) is None
    assert await store.get(kept.token) is not None
    assert await store.extend(kept.token)
    assert await store.get((await store.create(user_id="42")).token) is not None


async def test_index_entries_of_nobody_are_pruned(store: Any, redis_client: Redis) -> None:
    session = await store.create(user_id="42")
    key = store._server.keys
    await redis_client.zadd(key.index("42"), {"A" * 44: 1, "B" * 44: 9e18, session.handle: 1})
    assert [info.handle for info in await store.list("42")] == [session.handle]
    assert await redis_client.zcard(key.index("42")) == 1
    await redis_client.zadd(key.index("42"), {"A" * 44: 1, session.handle: 1})
    await store.create(user_id="42")
    assert await redis_client.zcard(key.index("42")) == 2, "a living session is never removed because of its score"


async def test_logout_everywhere_catches_sessions_that_are_moving(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, deadline=10)

    async def keep_rotating(session: Any) -> None:
        while True:
            try:
                await store.rotate(session)
            except SessionGone:
                return

    for _ in range(10):
        sessions = [await store.create(user_id="42") for _ in range(3)]
        rotating = [asyncio.create_task(keep_rotating(session)) for session in sessions]
        await asyncio.sleep(0.003)
        await asyncio.gather(*(store.list("42") for _ in range(3)), store.destroy_all("42"))
        await asyncio.wait_for(asyncio.gather(*rotating), 5)
        for session in sessions:
            assert await store.get(session.token) is None
        assert await store.list("42") == []


def test_one_store_serves_two_event_loops(redis_url: str, namespace: str) -> None:
    client = Redis.from_url(redis_url)
    store = SessionStore(client, namespace=namespace, deadline=10)
    tokens: list[str] = []

    async def once() -> None:
        session = await store.create({"n": len(tokens)}, user_id="42")
        tokens.append(session.token)
        waiting = asyncio.create_task(store.wait_ended(session))
        for token in tokens:
            assert await store.get(token) is not None
        while not store.statistics().waiting:
            await asyncio.sleep(0.005)
        await store.destroy_all("42", keep=None if len(tokens) == 1 else session)
        if len(tokens) == 1:
            assert (await waiting).reason == "revoked"
            tokens.clear()
            tokens.append((await store.create()).token)
        waiting.cancel()
        await store._server.commands.aclose()  # type: ignore[attr-defined]

    for _ in range(2):
        asyncio.run(once())


async def _some(events: Any, count: int) -> Any:
    for _ in range(count):
        yield await asyncio.wait_for(anext(events), 5)
    await events.aclose()
