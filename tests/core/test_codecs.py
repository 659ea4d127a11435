"""Codecs: what goes in comes out, with msgspec and without; nonsense is refused on the way in."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import json
import pickle
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aredis_patterns._core import codecs
from aredis_patterns._core.codecs import Codec, JSONCodec, PickleCodec, RawCodec
from aredis_patterns.exceptions import DecodeError, EncodeError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


@dataclasses.dataclass
class Order:
    id: uuid.UUID
    at: datetime
    price: Decimal
    points: list[Point]
    colour: Colour = Colour.RED
    note: str | None = None
    tags: frozenset[str] = frozenset()
    raw: bytes = b""
    by_day: dict[date, int] = dataclasses.field(default_factory=dict)
    pair: tuple[int, str] | None = None
    kind: Literal["a", 1] = "a"
    size: Annotated[int, "cm"] = 1


class Row(TypedDict):
    name: str
    age: NotRequired[int]


class PydanticUser(pydantic.BaseModel):
    name: str
    score: float | None = None
    shown_as: str = pydantic.Field("x", alias="shownAs")


class StructUser(msgspec.Struct):
    name: str
    score: float = 0.0


ORDER = Order(
    id=uuid.UUID(int=7),
    at=datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
    price=Decimal("1.10"),
    points=[Point(1), Point(-2, 1e22)],
    note="naïve",
    tags=frozenset({"t"}),
    raw=b"\xff\x00",
    by_day={date(2024, 1, 2): 3},
    pair=(1, "one"),
)


@pytest.fixture(params=["msgspec", "plain"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways in turn: as if msgspec were installed or not."""
    if request.param == "plain":
        monkeypatch.setattr(codecs, "_msgspec", lambda: None)
    yield request.param


def both(model: Any = None) -> tuple[JSONCodec[Any], JSONCodec[Any]]:
    fast = JSONCodec(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codecs, "_msgspec", lambda: None)
        return fast, JSONCodec(model)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(values)
def test_without_a_model_values_come_back_equal_whoever_wrote_them(value: Any) -> None:
    fast, plain = both()
    for writer in (fast, plain):
        for reader in (fast, plain):
            assert reader.decode(writer.encode(value)) == value


@given(st.binary(max_size=20) | st.text(alphabet='[]{}",:0123456789.eE+-tfn\\ud8 ', max_size=20).map(str.encode))
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_both_refuse_the_same_bytes(data: bytes) -> None:
    def read(codec: JSONCodec[Any]) -> Any:
        try:
            return codec.decode(data)
        except DecodeError:
            return DecodeError

    fast, plain = both()
    assert read(fast) == read(plain)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    ("model", "value"),
    [
        (Point, Point(3, 1.5)),
        (Order, ORDER),
        (Row, {"name": "Ada"}),
        (Row, {"name": "Ada", "age": 36}),
        (PydanticUser, PydanticUser(name="Ada", shownAs="A")),
        (list[int], [1, 2]),
        (dict[int, Point], {1: Point(1)}),
        (set[str], {"a"}),
        (Colour, Colour.BLUE),
        (int | None, None),
    ],
)
def test_models_come_back_as_they_went(model: Any, value: Any) -> None:
    codec: Codec[Any] = JSONCodec(model)
    data = codec.encode(value)
    assert codec.decode(data) == value
    json.loads(data.decode("utf-8"))


def test_struct() -> None:
    codec = JSONCodec(StructUser)
    assert codec.decode(codec.encode(StructUser("Ada"))) == StructUser("Ada")
    assert repr(codec) == "JSONCodec(StructUser)"


def test_both_write_the_same_bytes() -> None:
    fast, plain = both(Order)
    assert fast.decode(plain.encode(ORDER)) == plain.decode(fast.encode(ORDER)) == ORDER
    without_exponent = dataclasses.replace(ORDER, points=[])  # 1e22 and 1e+22 are the same number
    assert fast.encode(without_exponent) == plain.encode(without_exponent)


def test_bytes_are_readable_in_a_terminal() -> None:
    for codec in both():
        assert codec.encode({"name": "Zoë", "tags": ("a", "b")}) == '{"name":"Zoë","tags":["a","b"]}'.encode()


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_json_are_refused(number: float) -> None:
    for value in (number, {"a": [None, number]}, Point(1, number), (number,)):
        with pytest.raises(EncodeError, match="JSON"):
            JSONCodec().encode(value)
    with pytest.raises(EncodeError, match="not a JSON number"):
        JSONCodec(PydanticUser).encode(PydanticUser(name="x", score=number, shownAs=""))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("value", [object(), {None: 1}, {True: 1}, "\ud800", int, {"a": {1j}}])
def test_values_without_a_json_form_are_refused(value: Any) -> None:
    with pytest.raises(EncodeError, match="cannot be written as JSON"):
        JSONCodec().encode(value)


@pytest.mark.usefixtures("backend")
def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(EncodeError):
        JSONCodec().encode(loop)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    ("model", "data"),
    [
        (None, b""),
        (None, b"NaN"),
        (None, b"[Infinity]"),
        (None, b"1e999"),
        (None, b"\xff"),
        (None, b'"\\ud800"'),
        (None, b"1 2"),
        (None, b"[" * 100_000),
        (Point, b'{"y":1}'),
        (Point, b'{"x":"1"}'),
        (Point, b'{"x":1.0}'),
        (Point, b'{"x":true}'),
        (Point, b"[1]"),
        (Row, b'{"age":1}'),
        (list[int], b"[1,null]"),
        (tuple[int, int], b"[1]"),
        (Colour, b'"green"'),
        (Literal["a", 1], b'"b"'),
        (bytes, b'"not base64"'),
        (uuid.UUID, b'"x"'),
        (PydanticUser, b"{}"),
        (PydanticUser, b'{"name":"x","score":NaN}'),
    ],
)
def test_what_cannot_be_read_is_reported(model: Any, data: bytes) -> None:
    with pytest.raises(DecodeError, match=f"^{len(data)} stored bytes cannot be read as"):
        JSONCodec(model).decode(data)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    ("model", "data", "value"),
    [
        (Point, b'{"x":1,"new":2}', Point(1)),
        (Point, b'{"x":1,"y":2}', Point(1, 2.0)),
        (int | str | None, b'"1"', "1"),
        (float | int, b"1", 1),
        (Row, b'{"name":"a","later":1}', {"name": "a"}),
    ],
)
def test_reading_is_strict_but_open_to_new_fields(model: Any, data: bytes, value: Any) -> None:
    assert JSONCodec(model).decode(data) == value


def test_plain_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "_msgspec", lambda: None)
    with pytest.raises(DecodeError, match="install msgspec"):
        JSONCodec(complex).decode(b"1")
    with pytest.raises(EncodeError, match="install msgspec"):
        JSONCodec().encode(1j)


def test_msgspec_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert JSONCodec(Point).decode(b'{"x":1}') == Point(1)


def test_raw() -> None:
    codec = RawCodec()
    assert codec.decode(codec.encode(b"\x00\xff")) == b"\x00\xff"
    wrong: Any = "text"
    with pytest.raises(EncodeError, match="takes bytes, got str"):
        codec.encode(wrong)


def test_pickle_only_by_name() -> None:
    codec = PickleCodec()
    assert codec.decode(codec.encode(ORDER)) == ORDER
    assert "Dangerous" in (PickleCodec.__doc__ or "")
    with pytest.raises(EncodeError, match="cannot be pickled"):
        codec.encode(lambda: None)
    with pytest.raises(DecodeError, match="3 stored bytes cannot be unpickled"):
        codec.decode(b"abc")
    with pytest.raises(DecodeError):
        JSONCodec().decode(pickle.dumps([1]))
