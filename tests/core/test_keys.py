"""Keys: two names never share one, and all keys of one object share a slot."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from aredis_patterns._core.keys import LONGEST_PART, Keyspace

KEYS = Keyspace("ap", "rl", "fixed")

# Mostly characters that mean something in a key, so that collisions would be found.
tricky = st.text(alphabet=st.sampled_from("ab%:{}~37AD\x00\n/ é\ud800\udcff"), min_size=1, max_size=8)
name = st.one_of(tricky, st.text(min_size=1, max_size=200), st.binary(min_size=1, max_size=200))
suffixes = st.lists(st.one_of(tricky, st.text(min_size=1)), max_size=3)


def content(part: str | bytes) -> bytes:
    return part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("user:1", "ap:rl:fixed:{user%3A1}"),
        (b"user:1", "ap:rl:fixed:{user%3A1}"),
        ("{x}", "ap:rl:fixed:{%7Bx%7D}"),
        ("100%", "ap:rl:fixed:{100%25}"),
        ("a b/c", "ap:rl:fixed:{a b/c}"),
        ("naïve☃", "ap:rl:fixed:{naïve☃}"),
        ("a\r\nb\x00\x7f\x85", "ap:rl:fixed:{a%0D%0Ab%00%7F%C2%85}"),
        (b"\xff\xfe", "ap:rl:fixed:{%FF%FE}"),
    ],
)
def test_shape(given_name: str | bytes, expected: str) -> None:
    assert KEYS.key(given_name) == expected
    assert KEYS.key(given_name, "log", "a:b") == f"{expected}:log:a%3Ab"


def test_namespace_keeps_its_colons_and_nothing_else() -> None:
    assert Keyspace("shop:prod", "cache", "a:b").prefix == "shop:prod:cache:a%3Ab"
    assert Keyspace("{tag}%", "x").key("k") == "%7Btag%7D%25:x:{k}"
    assert repr(Keyspace("ap", "rl")) == "Keyspace('ap:rl')"


def test_long_parts_are_hashed() -> None:
    assert KEYS.key("x" * LONGEST_PART) == "ap:rl:fixed:{" + "x" * LONGEST_PART + "}"
    hashed = KEYS.key("x" * (LONGEST_PART + 1))
    assert hashed.startswith("ap:rl:fixed:{%~")
    assert len(hashed) == len("ap:rl:fixed:{%~}") + 64
    assert hashed == KEYS.key(b"x" * (LONGEST_PART + 1))
    assert KEYS.key("é" * 61).startswith("ap:rl:fixed:{%~"), "bytes count, not characters"


@pytest.mark.parametrize(
    "make", [lambda e: Keyspace(e), lambda e: Keyspace("ap", e), KEYS.key, lambda e: KEYS.key("a", e)]
)
@pytest.mark.parametrize("empty", ["", b""])
def test_empty_parts_are_refused(make: Any, empty: str | bytes) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        make(empty)


@pytest.mark.parametrize("value", [1, None, 1.5, ["a"]])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="a key must be str or bytes, got"):
        KEYS.key(value)


@given(name, name, suffixes, suffixes)
@example("\udcff", b"\xff", [], [])
@example("a:b", "a%3Ab", [], [])
@example("a", "a", ["b", "c"], ["b:c"])
def test_distinct_names_have_distinct_keys(a: str | bytes, b: str | bytes, more: list[str], others: list[str]) -> None:
    same = (content(a), [content(s) for s in more]) == (content(b), [content(s) for s in others])
    assert (KEYS.key(a, *more) == KEYS.key(b, *others)) is same


@given(name, suffixes, st.text(min_size=1, max_size=20))
def test_all_keys_of_an_object_share_its_slot(a: str | bytes, more: list[str], namespace: str) -> None:
    space = Keyspace(namespace, "q")
    own = space.key(a)
    assert own.count("{") == own.count("}") == 1
    assert key_slot(own.encode()) == key_slot(space.key(a, *more).encode())
    assert all(ord(char) >= 32 for char in own)
    own.encode()  # valid text, whatever went in


@given(name, tricky, tricky)
def test_distinct_families_have_distinct_keys(a: str | bytes, one: str, other: str) -> None:
    assume(one != other)
    assert Keyspace("ap", one).key(a) != Keyspace("ap", other).key(a)


def test_objects_spread_over_the_slots() -> None:
    slots = {key_slot(KEYS.key(f"user:{n}").encode()) for n in range(1000)}
    # 1000 balls into 16384 bins hit about 970 of them.
    assert len(slots) > 900
