"""Values as bytes: what is stored, and how it is read back.

JSON is the default because an operator can read it in redis-cli and any other program can too. It means the same with
and without msgspec; msgspec is only faster and knows more types. Pickle is never a default anywhere: whoever can write
to the server could run code in every process that reads.
"""

from __future__ import annotations

import importlib
import math
import pickle
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, Final, Generic, Protocol, TypeVar, overload

from aredis_patterns._core import json_plain
from aredis_patterns.exceptions import DecodeError, EncodeError

__all__ = ["Codec", "JSONCodec", "PickleCodec", "RawCodec"]

T = TypeVar("T")


class Codec(Protocol[T]):
    """Turns values into bytes and back. Stateless, so one may serve any number of tasks."""

    def encode(self, value: T, /) -> bytes:
        """The bytes to store. EncodeError when the value does not fit; nothing has been sent then."""
        ...

    def decode(self, data: bytes, /) -> T:
        """The value that was stored. DecodeError when the bytes cannot be read; they stay as they are."""
        ...


class JSONCodec(Generic[T]):
    """UTF-8 JSON, compact, keys in the order in which they were given.

    Without a model it takes and gives what JSON knows (tuples come back as lists, dict keys as str). With one (a
    dataclass, `msgspec.Struct`, pydantic `BaseModel`, TypedDict, or a type such as `list[int]`) the bytes are checked
    against it on reading; unknown fields are ignored, so a field can be added while old processes still run.

    Numbers: NaN and infinities are refused, they are not JSON. Integers of any size are exact.

        codec = JSONCodec(User)
        codec.decode(codec.encode(User(name="Ada")))

    Raises EncodeError, DecodeError, and TypeError at once for a model that it cannot read.
    """

    __slots__ = ("_dump", "_parse", "model")

    @overload
    def __init__(self: JSONCodec[Any], model: None = None) -> None: ...
    @overload
    def __init__(self, model: type[T]) -> None: ...
    def __init__(self, model: Any = None) -> None:
        self.model: Final[Any] = model
        self._dump, self._parse = _backend(model)

    def encode(self, value: T, /) -> bytes:
        """See `Codec.encode`. O(size of the value)."""
        try:
            return self._dump(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EncodeError(f"a {type(value).__name__} cannot be written as JSON: {error}") from error

    def decode(self, data: bytes, /) -> T:
        """See `Codec.decode`. O(size of the data)."""
        try:
            value: T = self._parse(data)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            wanted = "JSON" if self.model is None else getattr(self.model, "__name__", repr(self.model))
            raise DecodeError(f"{len(data)} stored bytes cannot be read as {wanted}: {error}") from error
        return value

    def __repr__(self) -> str:
        return f"JSONCodec({'' if self.model is None else getattr(self.model, '__name__', repr(self.model))})"


class RawCodec:
    """Bytes as they are. EncodeError for anything else."""

    __slots__ = ()

    def encode(self, value: bytes, /) -> bytes:
        """`value` itself."""
        if not isinstance(value, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise EncodeError(f"RawCodec takes bytes, got {type(value).__name__}")
        return value

    def decode(self, data: bytes, /) -> bytes:
        """`data` itself."""
        return data

    def __repr__(self) -> str:
        return "RawCodec()"


class PickleCodec:
    """Python's pickle. **Dangerous**: reading a pickle can run any code that its writer chose.

    Use it only where every client of the server is trusted as much as this process, and no user can influence stored
    bytes. Pickles also tie stored data to the names of your classes. JSONCodec with a model is nearly always better.
    """

    __slots__ = ()

    def encode(self, value: Any, /) -> bytes:
        """See `Codec.encode`."""
        try:
            return pickle.dumps(value, protocol=5)
        except Exception as error:  # the value's own __reduce__ may raise anything
            raise EncodeError(f"a {type(value).__name__} cannot be pickled: {error}") from error

    def decode(self, data: bytes, /) -> Any:
        """See `Codec.decode`. Runs code that the data names."""
        try:
            return pickle.loads(data)
        except Exception as error:
            raise DecodeError(f"{len(data)} stored bytes cannot be unpickled: {error}") from error

    def __repr__(self) -> str:
        return "PickleCodec()"


_Dump = Callable[[Any], bytes]
_Parse = Callable[[bytes], Any]


def _backend(model: Any) -> tuple[_Dump, _Parse]:
    if hasattr(model, "model_validate_json"):
        return _pydantic(model)
    msgspec = _msgspec()
    if msgspec is None:
        return json_plain.dump, json_plain.parser(Any if model is None else model)
    return _with_msgspec(msgspec, model)


def _msgspec() -> Any:
    try:
        return importlib.import_module("msgspec")
    except ImportError:
        return None


def _with_msgspec(msgspec: Any, model: Any) -> tuple[_Dump, _Parse]:
    encode = msgspec.json.Encoder().encode
    decode = msgspec.json.Decoder(Any if model is None else model).decode

    def dump(value: Any) -> bytes:
        data: bytes = encode(value)
        # msgspec writes NaN and infinities as null. Only output with a null in it can hide one.
        if b"null" in data:
            _refuse_non_finite(msgspec.to_builtins(value))
        return data

    return dump, decode


def _pydantic(model: Any) -> tuple[_Dump, _Parse]:
    def dump(value: Any) -> bytes:
        if not isinstance(value, model):
            raise TypeError(f"expected {model.__name__}")
        data: bytes = value.model_dump_json(by_alias=True, round_trip=True).encode()
        if any(word in data for word in (b"null", b"NaN", b"Infinity")):
            _refuse_non_finite(value.model_dump())
        return data

    def parse(data: bytes) -> Any:
        value = model.model_validate_json(data)
        if b"NaN" in data or b"Infinity" in data:
            _refuse_non_finite(value.model_dump())
        return value

    return dump, parse


def _refuse_non_finite(value: Any) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a JSON number")
    elif isinstance(value, dict):
        for item in value.values():
            _refuse_non_finite(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            _refuse_non_finite(item)
    elif is_dataclass(value):
        for field in fields(value):
            _refuse_non_finite(getattr(value, field.name))
