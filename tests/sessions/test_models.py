"""The scripts on a real server answer what the plain Python models answer: any order, any clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aredis_patterns.sessions._models import IndexModel, SessionsModel
from aredis_patterns.sessions._server import SessionServer
from aredis_patterns.sessions._tokens import handle_of, new_token

SETTINGS = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
HANDLES = [str(handle_of("A" + new_token()[1:])) for _ in range(4)]
USERS = ["", "ada", "bob:b", "ünï\n"]
NAMES = [".a", ".b", ".cart"]
VALUES = [b"1", b'"x"', b"[1,2,3]", b'"' + b"y" * 400 + b'"']
STEPS = st.sampled_from([0, 1, 5_999, 6_000, 6_001, 30_000, 59_999, 60_000, 60_001, 299_999, 300_000, 599_999, -5_000])

VERBS = st.one_of(
    st.tuples(
        st.just("create"), st.sampled_from(USERS), st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES))
    ),
    st.tuples(st.just("read")),
    st.tuples(
        st.just("save"),
        st.integers(0, 3),
        st.sets(st.sampled_from(NAMES)),
        st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES)),
    ),
    st.tuples(st.just("extend"), st.sampled_from([0, 6_000])),
    st.tuples(
        st.just("rotate"),
        st.sampled_from(HANDLES),
        st.none() | st.sampled_from(USERS[1:]),
        st.sampled_from([0, 10_000]),
    ),
    st.tuples(st.just("destroy"), st.sampled_from(["revoked", "evicted", ""]), st.sampled_from(USERS), st.booleans()),
    st.tuples(st.just("claim"), st.sampled_from([1, 100])),
    st.tuples(st.just("peek")),
)
STORIES = st.lists(st.tuples(STEPS, st.sampled_from(HANDLES), VERBS), max_size=20)


@SETTINGS
@given(story=STORIES)
async def test_sessions(clocked: Any, clocked_server: Callable[..., SessionServer], story: list[Any]) -> None:
    server = clocked_server()
    rules = server.rules
    model = SessionsModel(idle=rules.idle, absolute=rules.absolute, keep=rules.keep, most=rules.max_bytes)
    for step, handle, verb in story:
        clocked.now += step * 1000
        await _compare(server, model, clocked.now // 1000, handle, verb)
        ends = await clocked.commands.client.zrange(server.keys.ends("A"), 0, -1, withscores=True)
        assert {member.decode(): int(score) for member, score in ends} == model.ends


async def _compare(server: SessionServer, model: SessionsModel, now: int, handle: str, verb: tuple[Any, ...]) -> None:
    name, *args = verb
    if name == "create":
        user, attributes = args
        size = sum(len(name) + len(value) for name, value in attributes.items())
        fields = [part for pair in attributes.items() for part in pair]
        expected = model.create(handle, now=now, user=user, attributes=attributes)
        assert await server.create(handle, user, b"", size, fields) == expected
    elif name == "read":
        await _compare_read(server, model, handle)
    elif name == "save":
        version, removed, written = args
        removed = removed - written.keys()
        expected = model.save(handle, now=now, expected=version, removed=sorted(removed), written=written)
        fields = [part for pair in written.items() for part in pair]
        *numbers, successor = await server.save(handle, version, sorted(removed), fields)
        assert (*numbers, successor.decode()) == expected
    elif name == "extend":
        *numbers, text = await server.extend(handle, threshold=args[0])
        assert (*numbers, text.decode()) == model.extend(handle, now=now, threshold=args[0])
    elif name == "rotate":
        moved, user, grace = args
        if moved in model.sessions or moved in model.notes or moved == handle:
            return  # a new handle is fresh
        expected = model.rotate(handle, moved, now=now, user=user, grace=grace)
        for _ in range(2):  # the second time as after a lost reply
            reply = await server.rotate(handle, moved, user=user, meta=b"", grace=grace)
            assert (reply.before.decode() if reply.status else None) == expected
    elif name == "destroy":
        reason, owner, follow = args
        expected = model.destroy(handle, now=now, reason=reason, owner=owner, follow=follow)
        reply = await server.destroy(handle, reason=reason, owner=owner, follow=follow)
        assert (reply.status, reply.user.decode(), reply.moved.decode()) == expected
    elif name == "claim":
        from aredis_patterns.sessions._scripts import ends_claim

        claim = await ends_claim(
            server.commands, ends=server.keys.ends("A"), lease=30_000, keep=server.rules.keep, most=args[0]
        )
        assert [member.decode() for member in claim.taken] == model.claim(now=now, lease=30_000, most=args[0])
    else:
        (seen,) = await server.peek([handle])
        state = model.alive(handle, now)
        assert (seen.left if seen.status else None) == (model.expires(state) - now if state else None)


async def _compare_read(server: SessionServer, model: SessionsModel, handle: str) -> None:
    fields, state = await server.read(handle), model.sessions.get(handle)
    if state is None:
        assert b"created" not in fields
        assert bool(fields) == (handle in model.notes)
        return
    assert {name.decode(): value for name, value in fields.items() if name[:1] == b"."} == state.attributes
    assert (int(fields[b"created"]), int(fields[b"seen"])) == (state.created, state.seen)
    assert (int(fields[b"version"]), int(fields[b"size"])) == (state.version, state.size)
    assert fields.get(b"user", b"").decode() == state.user


INDEX_STEPS = st.sampled_from([0, 1, 999, 1_000, 30_000_000, 60_000_000])
ADDS = st.tuples(
    st.sampled_from(HANDLES), st.sampled_from([1, 30_000, 60_000]), st.integers(0, 2), st.integers(0, 3),
    st.sampled_from(["", *HANDLES]),
)  # fmt: skip


@SETTINGS
@given(story=st.lists(st.tuples(INDEX_STEPS, st.none() | ADDS), max_size=25))
async def test_index(clocked: Any, clocked_server: Callable[..., SessionServer], story: list[Any]) -> None:
    server, model = clocked_server(), IndexModel()
    moments = [clocked.now // 1000]
    for step, add in story:
        clocked.now += step
        moments.append(clocked.now // 1000)
        if add is None:
            assert await server.index_revoke("ada") == model.revoke(now=clocked.now)
            continue
        handle, left, age, most, replaces = add
        created = 0 if age == 0 else moments[-min(age, len(moments))]
        if replaces == handle:
            replaces = ""
        expected = model.add(handle, now=clocked.now, left=left, created=created, most=most, replaces=replaces)
        reply = await server.index_add("ada", handle, left=left, most=most, created=created, replaces=replaces)
        assert (reply.status, [h.decode() for h in reply.due], [h.decode() for h in reply.surplus]) == expected
