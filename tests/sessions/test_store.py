"""The store as a user meets it, on a real server. The numbers S1 to S12 are known ways to get sessions wrong."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest
from redis.asyncio import Redis

from aredis_patterns import (
    DecodeError,
    EncodeError,
    PipelinedRedis,
    Session,
    SessionConflict,
    SessionGone,
    SessionStore,
    SessionTooLarge,
)
from aredis_patterns.pipelining import lane_of
from aredis_patterns.sessions._tokens import handle_of, new_token
from aredis_patterns.testing import FaultProxy, assert_round_trips, no_leaked_keys

Store = SessionStore[dict[str, Any]]
MALFORMED = [
    "",
    "x",
    "A" * 44,
    "A" * 1_000_000,
    "A" * 42 + "\n",
    "A" * 41 + "\r\n",
    "Ä" * 43,
    "A" * 42 + "=",
    "\x00" * 43,
]


async def test_the_four_verbs(store: Store) -> None:
    session = await store.create({"theme": "dark"}, user_id="42")
    assert (len(session.token), session.user_id, session.is_new, session.version) == (43, "42", True, 1)
    found = await store.get(session.token)
    assert found is not None
    assert (dict(found.data), found.user_id, found.is_new, found.handle) == (
        {"theme": "dark"},
        "42",
        False,
        session.handle,
    )
    assert await store.extend(session.token) is True
    assert await store.destroy(session.token) is True
    assert await store.destroy(session.token) is False
    assert await store.extend(session.token) is False
    assert await store.get(session.token) is None


async def test_times_are_those_of_the_server(store: Store, redis_client: Redis) -> None:
    session = await store.create()
    seconds, micros = await redis_client.time()
    now = datetime.fromtimestamp(seconds + micros / 1e6, UTC)
    assert timedelta(0) <= now - session.created_at < timedelta(seconds=5)
    assert session.expires_at - session.created_at == timedelta(seconds=1800)
    assert session.last_seen_at == session.created_at
    key = store._server.keys.session(session.handle)
    assert 1_790_000 < await redis_client.pttl(key) <= 1_800_000


async def test_round_trips(fault_proxy: FaultProxy, namespace: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        store = SessionStore(client, namespace=namespace, deadline=10)
        for _ in range(2):  # the first time the server learns the scripts
            visitor = await store.create({"n": 0})
            session = await store.create({"n": 0}, user_id="42")
            session.data["n"] += 1
            await store.save(session)
            await store.get(session.token)
            await store.extend(visitor.token)
            await store.rotate(visitor)
            await store.list("42")
            await store.destroy(visitor.token)
            await store.destroy_all("42")
        session = await store.create({"n": 0}, user_id="42")
        async with assert_round_trips(fault_proxy, 1, commands=1):
            visitor = await store.create({"n": 0})
        async with assert_round_trips(fault_proxy, 1, commands=1):
            await store.get(session.token)
        session.data["n"] += 1
        async with assert_round_trips(fault_proxy, 1, commands=1):
            await store.save(session)
        async with assert_round_trips(fault_proxy, 1, commands=1):
            await store.extend(visitor.token)
        async with assert_round_trips(fault_proxy, 1, commands=1):
            await store.rotate(visitor)
        async with assert_round_trips(fault_proxy, 1, commands=1):
            await store.destroy(visitor.token)
        async with assert_round_trips(fault_proxy, 2):
            await store.rotate(session)
        async with assert_round_trips(fault_proxy, 2):
            assert len(await store.list("42")) == 1
        async with assert_round_trips(fault_proxy, 3):
            assert await store.destroy_all("42") == 1


@pytest.mark.parametrize("token", MALFORMED, ids=lambda token: f"{len(token)} {token[:3]!a}")
async def test_s12_what_cannot_be_a_token_never_reaches_the_server(token: str) -> None:
    store = SessionStore(Redis(port=1))
    assert await store.get(token) is None
    assert await store.extend(token) is False
    assert await store.destroy(token) is False
    assert store.statistics().malformed == 3


async def test_s1_an_unknown_token_is_never_adopted(store: Store, redis_client: Redis, namespace: str) -> None:
    planted = new_token()
    async with no_leaked_keys(redis_client, namespace):
        assert await store.get(planted) is None
        assert await store.extend(planted) is False
    session = await store.create({"x": 1})
    assert session.token != planted
    assert await store.get(planted) is None
    assert store.statistics().missed == 2


async def test_s2_a_login_kills_the_old_token_at_once(store: Store) -> None:
    visitor = await store.create({"cart": ["book"]})
    old, old_handle = visitor.token, visitor.handle
    session = await store.rotate(visitor, user_id="42", meta={"agent": "test"})
    assert session is visitor
    assert session.token != old
    assert session.handle != old_handle
    answers = await asyncio.gather(store.get(old), store.get(session.token))
    assert answers[0] is None
    assert answers[1] is not None
    assert (answers[1].user_id, dict(answers[1].data)) == ("42", {"cart": ["book"]})
    assert await store.destroy(old) is False
    assert await store.extend(old) is False
    assert [info.handle for info in await store.list("42")] == [session.handle]


async def test_a_rotation_can_leave_the_old_token_some_grace(store: Store) -> None:
    session = await store.create({"n": 1}, user_id="42")
    old = session.token
    await store.rotate(session, grace=30)
    parallel = await store.get(old)
    assert parallel is not None
    assert parallel.handle == session.handle
    parallel.data["n"] = 2
    assert await store.save(parallel)
    assert await store.extend(old)
    assert await store.destroy(old) is True
    assert await store.get(session.token) is None
    with pytest.raises(ValueError, match="no grace"):
        await store.rotate(session, user_id="1", grace=1)


async def test_within_the_grace_a_request_that_began_before_the_rotation_still_writes(store: Store) -> None:
    session = await store.create({"n": 1}, user_id="42")
    slow, slower = await store.get(session.token), await store.get(session.token)
    assert slow is not None
    assert slower is not None
    await store.rotate(session, grace=30)
    slow.data["late"] = True
    assert await store.save(slow)
    found = await store.get(session.token)
    assert found is not None
    assert dict(found.data) == {"n": 1, "late": True}
    await store.rotate(session)
    await store.destroy(session.token)
    slower.data["late"] = False
    with pytest.raises(SessionGone):
        await store.save(slower)


@pytest.mark.parametrize("version", [0, -1, True])
async def test_a_senseless_version_is_refused_and_not_taken_for_any(store: Store, version: int) -> None:
    session = await store.create({"n": 0})
    session.data["n"] = 1
    with pytest.raises(ValueError, match="if_version"):
        await store.save(session, if_version=version)


async def test_what_a_login_says_of_the_device_is_bounded(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, max_bytes=100, deadline=10)
    session = await store.create({"n": 0}, meta={"agent": "x" * 80})
    for verb in (
        lambda: store.create({}, user_id="42", meta={"agent": "x" * 100}),
        lambda: store.rotate(session, user_id="42", meta={"agent": "x" * 100}),
    ):
        with pytest.raises(SessionTooLarge):
            await verb()
    assert await store.get(session.token) is not None
    assert await store.list("42") == []


async def test_a_touch_that_comes_too_late_takes_no_place_of_the_cap(store: Store, redis_client: Redis) -> None:
    session = await store.create(user_id="42")
    await store.destroy(session.token)
    await store._lifecycle._touch(session.record)
    await store.get("A" * 43)
    assert await redis_client.zcard(store._server.keys.index("42")) == 0


async def test_a_login_begins_a_new_life_and_a_rotation_does_not(store: Store) -> None:
    session = await store.create()
    began = session.created_at
    await asyncio.sleep(0.005)
    await store.rotate(session)
    assert session.created_at == began
    await store.rotate(session, user_id="42")
    assert session.created_at > began
    read = await store.get(session.token)
    assert read is not None
    assert (read.created_at, read.expires_at, read.version) == (session.created_at, session.expires_at, session.version)


async def test_s3_a_slow_request_cannot_bring_back_a_session_that_was_logged_out(
    store: Store, redis_client: Redis, namespace: str
) -> None:
    session = await store.create({"n": 0}, user_id="42")
    slow = await store.get(session.token)
    assert slow is not None
    await store.destroy(session.token)
    slow.data["n"] = 1
    with pytest.raises(SessionGone):
        await store.save(slow)
    with pytest.raises(SessionGone):
        await store.rotate(slow)
    assert await store.get(session.token) is None
    assert await redis_client.exists(store._server.keys.session(session.handle)) == 0
    assert store.statistics().refused == 2


async def test_s4_parallel_writers_of_different_attributes_both_win(store: Store) -> None:
    session = await store.create({"both": 0})
    left, right = await store.get(session.token), await store.get(session.token)
    assert left is not None
    assert right is not None
    left.data["left"] = left.data["both"] = 1
    right.data["right"] = 2
    await asyncio.gather(store.save(left), store.save(right))
    merged = await store.get(session.token)
    assert merged is not None
    assert dict(merged.data) == {"both": 1, "left": 1, "right": 2}


async def test_s4_of_the_same_attribute_the_last_wins_or_a_conflict_is_told(store: Store) -> None:
    session = await store.create({"n": 0})
    first, second = await store.get(session.token), await store.get(session.token)
    assert first is not None
    assert second is not None
    first.data["n"], second.data["n"] = 1, 2
    await store.save(first, if_version=first.version)
    with pytest.raises(SessionConflict) as caught:
        await store.save(second, if_version=second.version)
    assert (caught.value.expected, caught.value.actual) == (1, 2)
    await store.save(second)
    now = await store.get(session.token)
    assert now is not None
    assert (now.data["n"], now.version) == (2, 3)
    with pytest.raises(SessionConflict):
        await store.save(first, if_version=first.version)  # nothing to write, and still checked


async def test_s5_changes_inside_of_values_are_seen_and_reading_writes_nothing(
    fault_proxy: FaultProxy, namespace: str
) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        store = SessionStore(client, namespace=namespace, deadline=10)
        session = await store.create({"cart": {"items": []}, "n": 1.5, "ключ": "ü"})
        read = await store.get(session.token)
        assert read is not None
        assert dict(read.data) == {"cart": {"items": []}, "n": 1.5, "ключ": "ü"}
        async with assert_round_trips(fault_proxy, 0):
            assert await store.save(read) is False
        read.data["cart"]["items"].append("book")
        del read.data["n"]
        assert await store.save(read) is True
        again = await store.get(session.token)
        assert again is not None
        assert dict(again.data) == {"cart": {"items": ["book"]}, "ключ": "ü"}
        assert store.statistics().unchanged == 1


async def test_s6_idle_and_absolute_timeout_together(clocked: Any, clocked_server: Any) -> None:
    """30 minutes idle, 8 hours in all, a request every 5 minutes: over after 8 hours."""
    server = clocked_server(idle_timeout=1800, absolute_timeout=8 * 3600, touch_threshold=0.1)
    handle = handle_of(new_token()) or ""
    created = seen = await server.create(handle, "", b"", 0, [])
    moved = reads = 0
    for _ in range(10 * 60 // 5):
        clocked.now += 300_000_000
        if server.rules.gain(created, seen, clocked.now // 1000) >= server.rules.threshold:
            reply = await server.extend(handle, threshold=server.rules.threshold)
            if reply.status == 0:
                break
            moved, seen = moved + (reply.seen != seen), reply.seen
        reads += 1
    assert clocked.now // 1000 - created == 8 * 3600 * 1000
    assert reads == 8 * 12 - 1
    assert moved == 90, "every five minutes, until the last half hour: there is nothing to gain"


async def test_s6_a_read_within_the_threshold_writes_nothing(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, deadline=10)
    session = await store.create({"x": 1}, user_id="42")
    key = store._server.keys.session(session.handle)
    await redis_client.pexpire(key, 1_790_000)  # a TTL that the scripts would not choose themselves
    before = await redis_client.hgetall(key)
    for _ in range(5):
        assert await store.get(session.token) is not None
    assert await redis_client.hgetall(key) == before
    assert await redis_client.pttl(key) <= 1_790_000
    assert store.statistics().touched == 0


async def test_a_key_that_lost_its_ttl_is_over_in_time_and_gets_one_again(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, deadline=10)
    mended, over = await store.create({"x": 1}), await store.create({"x": 1})
    for session, minutes in ((mended, 10), (over, 30)):
        await redis_client.persist(store._server.keys.session(session.handle))
        await redis_client.hincrby(store._server.keys.session(session.handle), "seen", -minutes * 60_000)
    assert await store.get(mended.token) is not None
    assert 0 < await redis_client.pttl(store._server.keys.session(mended.handle)) <= 1_800_000
    assert await store.get(over.token) is None
    over.data["x"] = 2
    with pytest.raises(SessionGone):
        await store.save(over)
    await redis_client.unlink(store._server.keys.session(over.handle))


async def test_s7_logout_everywhere_but_here(store: Store, redis_client: Redis) -> None:
    devices = [await store.create(user_id="42", meta={"n": n}) for n in range(5)]
    other = await store.create(user_id="43")
    assert await store.destroy_all("42", keep=devices[2]) == 4
    alive = [await store.get(device.token) is not None for device in devices]
    assert alive == [False, False, True, False, False]
    assert await redis_client.zcard(store._server.keys.index("42")) == 1
    assert await store.get(other.token) is not None
    assert await store.destroy_all("42") == 1
    assert await store.destroy_all("42") == 0
    with pytest.raises(ValueError, match="a token is no handle"):
        await store.destroy_all("42", keep=devices[0].token)


async def test_s8_the_session_too_many_ends_the_oldest(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, max_per_user=3, deadline=10)
    sessions = [await store.create(user_id="42") for _ in range(5)]
    alive = [await store.get(session.token) is not None for session in sessions]
    assert alive == [False, False, True, True, True]
    assert store.statistics().evicted == 2
    async with aclosing(store.events()) as events:
        ended = [await anext(events) for _ in range(2)]
    assert {(event.reason, event.handle, event.user_id) for event in ended} == {
        ("evicted", session.handle, "42") for session in sessions[:2]
    }


async def test_s8_the_cap_holds_for_logins_side_by_side(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, max_per_user=3, deadline=10)
    await asyncio.gather(*(store.create(user_id="42") for _ in range(30)))
    assert len(await store.list("42")) == 3
    visitors = [await store.create() for _ in range(5)]
    await asyncio.gather(*(store.rotate(visitor, user_id="42") for visitor in visitors))
    assert len(await store.list("42")) == 3


async def test_s9_sessions_that_expired_while_nothing_ran_leave_no_trace_in_the_index(
    redis_client: Redis, namespace: str
) -> None:
    """More than one page of them. Their time is over because their keys are gone and their scores lie in the past."""
    store = SessionStore(redis_client, namespace=namespace, deadline=10)
    index = store._server.keys.index("42")

    async def expire(sessions: list[Any]) -> None:
        await redis_client.unlink(*(store._server.keys.session(session.handle) for session in sessions))
        await redis_client.zadd(index, {session.handle: n for n, session in enumerate(sessions)}, xx=True)

    await expire(await asyncio.gather(*(store.create(user_id="42") for _ in range(250))))
    assert await redis_client.zcard(index) == 250
    alive = await store.create(user_id="42")
    assert await redis_client.zrange(index, 0, -1) == [alive.handle.encode()]
    await expire([alive])
    assert await store.list("42") == []
    assert await redis_client.exists(index) == 0


async def test_s10_a_dump_holds_nothing_that_a_browser_could_send(
    store: Store, redis_client: Redis, namespace: str
) -> None:
    sessions = [await store.create({"n": n}, user_id="42", meta={"n": n}) for n in range(3)]
    await store.rotate(sessions[0], grace=60)
    dump = b""
    async for key in redis_client.scan_iter(match=f"{namespace}*"):
        dump += key + b"\n"
        kind = await redis_client.type(key)
        if kind == b"hash":
            dump += b"\n".join(part for pair in (await redis_client.hgetall(key)).items() for part in pair) + b"\n"
        elif kind == b"zset":
            dump += b"\n".join(await redis_client.zrange(key, 0, -1)) + b"\n"
        else:
            dump += await redis_client.get(key)
    text = dump.decode()
    for session in sessions:
        assert session.token not in text
        assert session.token[1:] not in text
    words = {word for line in text.split("\n") for word in line.replace(":", " ").replace("{", " ").split()}
    for word in words:
        for candidate in (word, word[1:], word[:43], "A" + word[:42]):
            assert await store.get(candidate) is None


async def test_users_and_namespaces_never_meet(redis_client: Redis, namespace: str) -> None:
    first = SessionStore(redis_client, namespace=f"{namespace}:app", deadline=10)
    second = SessionStore(redis_client, namespace=f"{namespace}:app2", deadline=10)
    third = SessionStore(redis_client, namespace=f"{namespace}:app", name="admin", deadline=10)
    session = await first.create({"x": 1}, user_id="42")
    for other in (second, third):
        assert await other.get(session.token) is None
        assert await other.list("42") == []
        assert await other.destroy(session.token) is False
        assert await other.destroy_all("42") == 0
    for user in ("42:revoked", "{42}", "42%", "ends", "ü" * 300, "a:b", "a%3Ab"):
        await first.create(user_id=user)
        assert len(await first.list(user)) == 1
    assert len(await first.list("42")) == 1


async def test_a_device_can_be_logged_out_by_its_user_only(store: Store) -> None:
    mine, theirs = await store.create(user_id="ada"), await store.create(user_id="bob")
    assert await store.revoke("ada", theirs.handle) is False
    assert await store.revoke("ada", "nonsense") is False
    assert await store.get(theirs.token) is not None
    assert await store.revoke("ada", mine.handle) is True
    assert await store.get(mine.token) is None
    assert await store.list("ada") == []


async def test_the_list_of_devices(store: Store) -> None:
    phone = await store.create(user_id="ada", meta={"agent": "phone", "ip": "::1"})
    laptop = await store.create(user_id="ada")
    first, second = await store.list("ada")
    assert (first.handle, second.handle) == (laptop.handle, phone.handle)
    assert second.meta == {"agent": "phone", "ip": "::1"}
    assert first.meta == {}
    assert second.created_at == phone.created_at
    assert second.expires_at == phone.expires_at
    assert await store.list("nobody") == []


async def test_another_login_moves_the_session_to_its_new_user(store: Store) -> None:
    session = await store.create(user_id="ada")
    await store.rotate(session, user_id="bob")
    assert [info.handle for info in await store.list("bob")] == [session.handle]
    assert await store.list("ada") == []


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}.__iter__(), lambda: None])
async def test_what_cannot_be_encoded_leaves_the_stored_session_untouched(store: Store, value: Any) -> None:
    session = await store.create({"a": 1, "b": 2})
    session.data["a"] = 5
    session.data["b"] = value
    with pytest.raises(EncodeError, match="'b'"):
        await store.save(session)
    with pytest.raises(EncodeError):
        await store.create({"b": value})
    stored = await store.get(session.token)
    assert stored is not None
    assert dict(stored.data) == {"a": 1, "b": 2}
    session.data["b"] = 3
    assert await store.save(session)


@pytest.mark.parametrize("data", [{1: "x"}, [("a", 1)], {"\ud800": 1}, {f"n{n}": n for n in range(1001)}])
async def test_names_are_text_and_not_too_many(store: Store, data: Any) -> None:
    with pytest.raises(EncodeError):
        await store.create(data)


async def test_values_and_names_of_any_kind(store: Store) -> None:
    data = {
        "": 0, "created": "mine", ".x": None, "user": False, "seen": "", "moved": [], "{}": {"a": [1, {"b": 2**70}]},
        "nul\x00": "x\r\ny", "t": "2024-01-01",
    }  # fmt: skip
    session = await store.create(data)
    found = await store.get(session.token)
    assert found is not None
    assert dict(found.data) == data
    assert found.user_id is None
    found.data["t"] = (1, 2)
    await store.save(found)
    again = await store.get(session.token)
    assert again is not None
    assert again.data["t"] == [1, 2]


async def test_the_size_is_bounded_whoever_writes(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, max_bytes=100, deadline=10)
    with pytest.raises(SessionTooLarge):
        await store.create({"x": "y" * 100})
    session = await store.create({"x": "y" * 50})
    sessions = [await store.get(session.token) for _ in range(5)]
    for number, each in enumerate(sessions):
        assert each is not None
        each.data[f"n{number}"] = "z" * 20
    done = await asyncio.gather(*(store.save(each) for each in sessions if each), return_exceptions=True)
    assert [isinstance(answer, SessionTooLarge) for answer in done].count(False) == 1
    session.data["x"] = "y" * 200
    with pytest.raises(SessionTooLarge):
        await store.save(session)
    smaller = SessionStore(redis_client, namespace=namespace, max_bytes=40, deadline=10)
    large = await smaller.get(session.token)
    assert large is not None
    large.data["x"] = "y" * 30
    assert await smaller.save(large), "a session may always shrink"


@dataclass
class Cart:
    items: list[str] = field(default_factory=list)
    theme: str = "light"


class CartStruct(msgspec.Struct):
    items: list[str] = []
    theme: str = "light"


class CartModel(pydantic.BaseModel):
    items: list[str] = []
    theme: str = "light"


@pytest.mark.parametrize("model", [Cart, CartStruct, CartModel])
async def test_typed_models(redis_client: Redis, namespace: str, model: Any) -> None:
    store: SessionStore[Any] = SessionStore(redis_client, namespace=namespace, model=model, deadline=10)
    plain = SessionStore(redis_client, namespace=namespace, deadline=10)
    session = await store.create(user_id="42")
    assert session.data == model()
    session.data.items.append("book")
    assert await store.save(session) is True
    found = await store.get(session.token)
    assert found is not None
    assert found.data == model(items=["book"])
    assert await store.save(found) is False
    other = await plain.get(session.token)
    assert other is not None
    other.data["future"] = {"a": 1}
    del other.data["theme"]
    await plain.save(other)
    old = await store.get(session.token)
    assert old is not None
    assert await store.save(old) is False, "a default is no change"
    old.data.theme = "dark"
    assert await store.save(old) is True
    other = await plain.get(session.token)
    assert other is not None
    assert dict(other.data) == {"items": ["book"], "future": {"a": 1}, "theme": "dark"}
    other.data["items"] = 7
    await plain.save(other)
    with pytest.raises(DecodeError):
        await store.get(session.token)


class Optional(TypedDict, total=False):
    a: int
    b: int


async def test_a_member_can_be_removed(redis_client: Redis, namespace: str) -> None:
    store: SessionStore[Optional] = SessionStore(redis_client, namespace=namespace, model=Optional, deadline=10)
    session = await store.create({"a": 1, "b": 2})
    del session.data["a"]
    assert await store.save(session)
    found = await store.get(session.token)
    assert found is not None
    assert found.data == {"b": 2}


async def test_bytes_that_another_encoder_wrote_are_no_change(store: Store, redis_client: Redis) -> None:
    session = await store.create({"a": {"x": [1]}})
    await redis_client.hset(store._server.keys.session(session.handle), ".a", b'{ "x": [ 1 ] }')
    found = await store.get(session.token)
    assert found is not None
    assert found.data["a"] == {"x": [1]}
    assert await store.save(found) is False


@pytest.mark.parametrize("bad", [b"\x80not json", b"1,2", b"", b"NaN"])
async def test_an_attribute_that_cannot_be_read_is_told_and_left(store: Store, redis_client: Redis, bad: bytes) -> None:
    session = await store.create({"a": 1, "b": 2}, user_id="42")
    key = store._server.keys.session(session.handle)
    await redis_client.hset(key, ".a", bad)
    found = await store.get(session.token)
    assert found is not None
    assert found.user_id == "42"
    with pytest.raises(DecodeError, match="'a'"):
        _ = found.data
    assert await store.save(found) is False
    assert await redis_client.hget(key, ".a") == bad


async def test_secrets_do_not_reach_a_log(store: Store) -> None:
    session = await store.create({"password": "hunter2"}, user_id="42")
    for text in (repr(session), repr(store), str(SessionGone(session.handle))):
        assert session.token not in text
        assert "hunter2" not in text


async def test_csrf_tokens_belong_to_one_session(store: Store) -> None:
    mine, theirs = await store.create(), await store.create()
    token = mine.csrf_token()
    assert mine.csrf_token() != token
    assert mine.verify_csrf(token)
    assert mine.verify_csrf(mine.csrf_token())
    assert not theirs.verify_csrf(token)
    for wrong in (
        None,
        "",
        "x",
        token[:-1],
        token + "x",
        "A" * 86,
        mine.token,
        token.swapcase(),
        "ü" * 86,
        "A" * 10**6,
    ):
        assert not mine.verify_csrf(wrong)
    read = await store.get(mine.token)
    assert read is not None
    assert read.verify_csrf(token), "in every process"
    await store.rotate(mine)
    assert not mine.verify_csrf(token)


async def test_same_answers_on_every_protocol(redis_url: str, client_options: dict[str, Any], namespace: str) -> None:
    async with Redis.from_url(redis_url, **client_options) as client:
        store = SessionStore(client, namespace=namespace, deadline=10)
        session: Session[Any] = await store.create({"ü": "ö"}, user_id="ключ", meta={"ß": 1})
        await store.rotate(session)
        found = await store.get(session.token)
        assert found is not None
        assert (dict(found.data), found.user_id) == ({"ü": "ö"}, "ключ")
        assert (await store.list("ключ"))[0].meta == {"ß": 1}
        waiting = asyncio.create_task(store.wait_ended(found))
        while not store.statistics().waiting:
            await asyncio.sleep(0.01)
        assert await store.destroy_all("ключ") == 1
        assert (await waiting).user_id == "ключ"
        async with aclosing(store.events()) as events:
            assert (await anext(events)).handle == session.handle
        await lane_of(client).aclose()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"idle_timeout": 0}, "idle_timeout"),
        ({"absolute_timeout": -1}, "absolute_timeout"),
        ({"idle_timeout": 10, "absolute_timeout": 5}, "must not be longer"),
        ({"idle_timeout": float("nan")}, "idle_timeout"),
        ({"idle_timeout": timedelta(days=36500)}, "ten years"),
        ({"touch_threshold": 1}, "touch_threshold"),
        ({"touch_threshold": -0.1}, "touch_threshold"),
        ({"max_per_user": 0}, "max_per_user"),
        ({"max_per_user": 1.5}, "max_per_user"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"keep_events": 0}, "keep_events"),
        ({"deadline": 0}, "deadline"),
        ({"name": ""}, "empty"),
        ({"namespace": ""}, "empty"),
    ],
)
def test_senseless_rules_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SessionStore(Redis(port=1), **options)


@pytest.mark.parametrize("user", ["", 42, b"x", True, "\ud800"])
async def test_senseless_users_are_refused_before_any_io(user: Any) -> None:
    store = SessionStore(Redis(port=1))
    for make in (lambda: store.create(user_id=user), lambda: store.list(user), lambda: store.destroy_all(user)):
        with pytest.raises(ValueError, match="user_id"):
            await make()
