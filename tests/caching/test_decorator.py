"""`@cache.cached`: keys that never meet, templates checked at once, methods."""

from __future__ import annotations

import asyncio
import enum
import uuid
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aredis_patterns.caching import MISSING, Cache
from aredis_patterns.caching._key_text import key_text


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


@dataclass(frozen=True)
class Point:
    x: object
    y: object = 0


class Struct(msgspec.Struct):
    x: int


class Model(pydantic.BaseModel):
    x: int


DIFFERENT: list[Any] = [
    1, "1", 1.0, True, "True", None, "", "None", "null", b"1", b"", ["a", "b"], "a:b", "a,b", "[a,b]", ("a", "b"), ("a,b",),
    ["a,b"], [], (), {}, set(), {"a": 1}, {"a", 1}, "{a=1=}", [["a"], "b"], [["a", "b"]], Color.RED, "Color.RED", Level.LOW,
    uuid.UUID(int=1), str(uuid.UUID(int=1)), date(2025, 1, 1), datetime(2025, 1, 1), "2025-01-01", Decimal(1), Point(1),
    Point("1"), Struct(1), Model(x=1), float("nan"), "nan", float("inf"), -1, "-1", 'a"b', "a", "ü", 0.1, "0.1", "a.b",
]  # fmt: skip


def test_different_values_have_different_text() -> None:
    texts = [key_text(value) for value in DIFFERENT]
    assert len(set(texts)) == len(texts), sorted(text for text in texts if texts.count(text) > 1)


def test_equal_values_have_the_same_text() -> None:
    assert key_text({"b": 1, "a": {2, 1}}) == key_text({"a": {1, 2}, "b": 1})
    assert key_text(Point(1)) == key_text(Point(1, 0))
    assert key_text("user_1") == "user_1" and key_text(42) == "42"


ATOMS = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.binary(max_size=3)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(VALUES, VALUES)
def test_text_is_injective(left: Any, right: Any) -> None:
    same = repr(left) == repr(right)
    assert (key_text(left) == key_text(right)) or not same
    if key_text(left) == key_text(right):
        assert left == right and type(left) is type(right)


def test_what_has_no_stable_text_is_refused() -> None:
    for value in (object(), lambda: None, Point(object()), [object()], int):
        with pytest.raises(TypeError, match="__cache_key__"):
            key_text(value)


async def test_templates_make_readable_keys(cache: Cache[Any]) -> None:
    calls = 0

    @cache.cached("user:{user_id}:{kind}", tags=["org:{org.x}"])
    async def get_user(user_id: int, kind: str = "full", *, org: Point = Point(7)) -> str:
        """Doc."""
        nonlocal calls
        calls += 1
        return f"{user_id} {kind}"

    assert get_user.key(42) == get_user.key(user_id=42, kind="full") == "user:42:full"
    assert get_user.key("42") == 'user:"42":full'  # type: ignore[arg-type]
    assert get_user.__name__ == "get_user" and get_user.__doc__ == "Doc."
    assert await get_user(42) == await get_user(user_id=42) == "42 full"
    assert calls == 1
    await get_user.invalidate(42)
    await get_user(42)
    assert calls == 2
    await cache.invalidate_tags("org:7")
    await get_user(42)
    assert calls == 3
    assert await get_user.refresh(42) == "42 full"
    assert calls == 4
    assert (await get_user.fetch(42)).status == "hit"
    assert await cache.get("user:42:full") == "42 full"
    assert "get_user" in repr(get_user)


@pytest.mark.parametrize(
    "template",
    ["{nobody}", "{a", "{a!r}", "{a:>5}", "{a}{b}", "{a}x{b}", "{a}_{b}", "{}", "{0}", "{a[0]}", "{a.}", "{a b}"],
)
def test_templates_are_checked_when_the_function_is_decorated(cache: Cache[Any], template: str) -> None:
    with pytest.raises(ValueError, match="cached on"):

        @cache.cached(template)
        async def function(a: int, b: int) -> int:
            return a

    with pytest.raises(ValueError, match="cached on"):

        @cache.cached(tags=[template])
        async def other(a: int, b: int) -> int:
            return a


def test_only_async_functions(cache: Cache[Any]) -> None:
    with pytest.raises(TypeError, match="async"):

        @cache.cached()
        def function(a: int) -> int:
            return a

    with pytest.raises(TypeError, match="list"):
        cache.cached(tags="abc")


async def test_functions_without_a_template_do_not_meet(cache: Cache[Any]) -> None:
    @cache.cached()
    async def f(value: Any = None, *rest: Any, **options: Any) -> str:
        return f"f {value!r} {rest} {options}"

    @cache.cached()
    async def g(value: Any = None, *rest: Any, **options: Any) -> str:
        return f"g {value!r} {rest} {options}"

    calls = [
        ((1,), {}),
        (("1",), {}),
        ((None,), {}),
        (("",), {}),
        ((["a", "b"],), {}),
        (("a:b",), {}),
        ((1, 2), {}),
        ((1,), {"a": 2}),
    ]
    for args, kwargs in calls:
        for function in (f, g):
            assert await function(*args, **kwargs) == f"{function.__name__} {args[0]!r} {args[1:]} {kwargs}"
            assert await function(*args, **kwargs) == f"{function.__name__} {args[0]!r} {args[1:]} {kwargs}"
    assert f.key(value=1, a=1, b=2) == f.key(value=1, b=2, a=1)


async def test_methods_of_two_objects_do_not_meet(cache: Cache[Any]) -> None:
    @dataclass(frozen=True)
    class Shop:
        name: str

        @cache.cached()
        async def price(self, item: int) -> str:
            return f"{self.name} {item}"

        @cache.cached("price:{item}")
        async def shared(self, item: int) -> str:
            return f"{self.name} {item}"

    class Other(Shop):
        pass

    for shop in (Shop("a"), Shop("b"), Other("a")):
        assert await shop.price(1) == f"{shop.name} 1"
    assert Shop("a").price.key(1) != Other("a").price.key(1)
    assert await Shop("a").shared(1) == await Shop("b").shared(1) == "a 1", (
        "the template says that self does not matter"
    )
    await Shop("a").shared.invalidate(1)
    assert await cache.get("price:1") is MISSING

    class Plain:
        @cache.cached()
        async def price(self, item: int) -> int:
            return item

    with pytest.raises(TypeError, match="__cache_key__"):
        await Plain().price(1)

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def __cache_key__(self) -> str:
            return self.name

        @cache.cached()
        async def price(self, item: int) -> str:
            return f"{self.name} {item}"

    assert await Named("x").price(1) == "x 1" and await Named("y").price(1) == "y 1"


async def test_a_condition_says_what_is_stored(cache: Cache[Any]) -> None:
    calls = 0

    @cache.cached("n:{number}", condition=lambda value: value is not None)
    async def find(number: int) -> int | None:
        nonlocal calls
        calls += 1
        return number or None

    for _ in range(2):
        assert await find(0) is None
        assert await find(1) == 1
    assert calls == 3


async def test_calls_of_one_function_coalesce(cache: Cache[Any]) -> None:
    calls = 0

    @cache.cached("slow:{number}")
    async def slow(number: int) -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.05)
        return number

    assert await asyncio.gather(*(slow(n % 3) for n in range(60))) == [n % 3 for n in range(60)]
    assert calls == 3
