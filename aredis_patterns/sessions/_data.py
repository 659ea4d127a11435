"""What an application keeps in a session, and how it becomes fields of a hash: one field per attribute, each JSON.

What has changed is found by comparing bytes, so a list that was appended to is seen without a flag.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from aredis_patterns._core.codecs import JSONCodec
from aredis_patterns.exceptions import DecodeError, EncodeError

__all__ = [
    "Changes",
    "Layout",
    "MappingLayout",
    "ModelLayout",
    "decode_meta",
    "encode_meta",
    "fields_of",
    "size_of",
]

M = TypeVar("M")

MOST_ATTRIBUTES: Final = 1000
"""What one call of a script takes, with room to spare."""

_JSON: Final[JSONCodec[Any]] = JSONCodec()


class Changes(NamedTuple):
    """What a save has to send."""

    written: dict[str, bytes]
    removed: list[str]


class Layout(Protocol[M]):
    """Turns what the application sees into attributes, and back."""

    eager: bool
    """Whether a session is decoded when it is read, or when its data is first looked at."""

    def load(self, stored: Mapping[str, bytes]) -> M:
        """DecodeError when it does not fit."""
        ...

    def dump(self, data: M) -> dict[str, bytes]:
        """EncodeError when it cannot be written."""
        ...

    def changes(self, data: M, stored: Mapping[str, bytes]) -> Changes:
        """What differs from `stored`, which `data` was loaded from. EncodeError as above."""
        ...

    def empty(self) -> M:
        """What a visitor without a session has. TypeError when a model cannot be made from nothing."""
        ...


class MappingLayout:
    """A dict of JSON values. Names are str; tuples come back as lists."""

    eager = False

    def load(self, stored: Mapping[str, bytes]) -> dict[str, Any]:
        """See `Layout.load`. One call of the decoder for all values, as one array."""
        try:
            return dict(zip(stored, _JSON.decode(b"[%b]" % b",".join(stored.values())), strict=True))
        except ValueError:
            return {name: _decoded(name, value) for name, value in stored.items()}

    def dump(self, data: Mapping[str, Any]) -> dict[str, bytes]:
        """See `Layout.dump`."""
        if not isinstance(data, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise EncodeError(f"the data of a session is a dict, got {type(data).__name__}")
        return _encoded(data)

    def changes(self, data: Mapping[str, Any], stored: Mapping[str, bytes]) -> Changes:
        """See `Layout.changes`."""
        now = self.dump(data)
        written = {name: value for name, value in now.items() if stored.get(name) != value}
        if written:
            written = {name: value for name, value in written.items() if not _same(stored.get(name), value)}
        return Changes(written, [name for name in stored if name not in now])

    def empty(self) -> dict[str, Any]:
        """See `Layout.empty`."""
        return {}


class ModelLayout(Generic[M]):
    """A dataclass, `msgspec.Struct`, pydantic model or TypedDict: one attribute per member.

    Attributes that the model does not know stay as they are, so old and new processes can run side by side.
    """

    eager = True

    def __init__(self, model: type[M]) -> None:
        self._model: Final = model
        self._codec: Final[JSONCodec[M]] = JSONCodec(model)

    def load(self, stored: Mapping[str, bytes]) -> M:
        """See `Layout.load`."""
        members = [_JSON.encode(name) + b":" + value for name, value in stored.items()]
        return self._codec.decode(b"{" + b",".join(members) + b"}")

    def dump(self, data: M) -> dict[str, bytes]:
        """See `Layout.dump`."""
        members = _JSON.decode(self._codec.encode(data))
        if not isinstance(members, dict):
            raise EncodeError(f"the data of a session becomes a JSON object, {type(data).__name__} does not")
        return _encoded(members)

    def changes(self, data: M, stored: Mapping[str, bytes]) -> Changes:
        """See `Layout.changes`."""
        now = self.dump(data)
        if now == stored:
            return Changes({}, [])
        # A member that is new in the model, or was written by another encoder, is no change by the application.
        before = self.dump(self.load(stored))
        written = {name: value for name, value in now.items() if before.get(name) != value}
        return Changes(written, [name for name in before if name not in now and name in stored])

    def empty(self) -> M:
        """See `Layout.empty`."""
        return self._model()


def fields_of(attributes: Mapping[str, bytes]) -> list[str | bytes]:
    """Name and value in turn, as the scripts take them."""
    return [part for name, value in attributes.items() for part in (f".{name}", value)]


def encode_meta(meta: Mapping[str, Any] | None) -> bytes:
    """What was said of the device; nothing for nothing."""
    return _JSON.encode(dict(meta)) if meta else b""


def decode_meta(stored: bytes) -> Mapping[str, Any]:
    """The opposite. What cannot be read must not keep a user from seeing, and ending, that session."""
    try:
        meta = _JSON.decode(stored) if stored else {}
    except DecodeError:
        return {}
    return meta if isinstance(meta, dict) else {}


def size_of(attributes: Mapping[str, bytes]) -> int:
    """Bytes of all names and values, as the scripts count them (a name is stored with a point before it)."""
    return sum(len(name.encode()) + 1 + len(value) for name, value in attributes.items())


def _encoded(values: Mapping[str, Any]) -> dict[str, bytes]:
    if len(values) > MOST_ATTRIBUTES:
        raise EncodeError(f"a session has at most {MOST_ATTRIBUTES} attributes, got {len(values)}")
    encoded: dict[str, bytes] = {}
    for name, value in values.items():
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise EncodeError(f"the name of an attribute is text, got {name!r}")
        try:
            name.encode()
            encoded[name] = _JSON.encode(value)
        except (EncodeError, UnicodeEncodeError) as error:
            raise EncodeError(f"the attribute {name!r}: {error}") from error
    return encoded


def _decoded(name: str, value: bytes) -> Any:
    try:
        return _JSON.decode(value)
    except DecodeError as error:
        raise DecodeError(f"the attribute {name!r}: {error}") from error


def _same(before: bytes | None, now: bytes) -> bool:
    """Whether both say the same: written by another encoder, the same value may be other bytes."""
    if before is None or before == now:
        return before == now
    try:
        return _JSON.encode(_JSON.decode(before)) == now
    except DecodeError:
        return False
