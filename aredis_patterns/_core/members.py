"""Whom a record is about: the member as the program has it, and as bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar
from uuid import UUID

from aredis_patterns.exceptions import DecodeError

__all__ = ["M", "MemberCodec", "member_codec"]

LONGEST: Final = 1024
"""Bytes. Names are short; longer ones would make commands that do not fit into a lane."""

M = TypeVar("M", bound=str | bytes | int | UUID)


class MemberCodec:
    """Both directions for one type. `encode` refuses everything else with a ValueError that quotes it."""

    __slots__ = ("_decode", "encode", "kind")

    def __init__(self, kind: type, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]) -> None:
        self.kind: Final = kind
        self.encode: Final = encode
        self._decode: Final = decode

    def decode_all(self, stored: Iterable[bytes]) -> list[Any]:
        """The members as they were given. DecodeError for bytes that nobody has written with this type."""
        try:
            return list(map(self._decode, stored))
        except ValueError as error:
            raise DecodeError(f"a stored member is not of type {self.kind.__name__}: {error}") from error


def _bounded(member: bytes) -> bytes:
    if len(member) > LONGEST:
        raise ValueError(f"a member here has at most {LONGEST} bytes, got {len(member)}: {member[:40]!r}...")
    return member


def _encode_text(member: Any) -> bytes:
    if not isinstance(member, str) or not member:
        raise ValueError(f"a member here is a str that is not empty, got {member!r}")
    return _bounded(member.encode())


def _encode_bytes(member: Any) -> bytes:
    if not isinstance(member, bytes) or not member:
        raise ValueError(f"a member here is bytes that are not empty, got {member!r}")
    return _bounded(member)


def _encode_int(member: Any) -> bytes:
    if isinstance(member, bool) or not isinstance(member, int):
        raise ValueError(f"a member here is an int, got {member!r}")
    return _bounded(b"%d" % member)


def _encode_uuid(member: Any) -> bytes:
    if not isinstance(member, UUID):
        raise ValueError(f"a member here is a UUID, got {member!r}")
    return member.bytes


def _decode_uuid(data: bytes) -> UUID:
    return UUID(bytes=data)


_CODECS: Final[dict[type, MemberCodec]] = {
    str: MemberCodec(str, _encode_text, bytes.decode),
    bytes: MemberCodec(bytes, _encode_bytes, bytes),
    int: MemberCodec(int, _encode_int, int),
    UUID: MemberCodec(UUID, _encode_uuid, _decode_uuid),
}


def member_codec(kind: type) -> MemberCodec:
    """The codec for members of this type. ValueError for a type that boards do not know."""
    try:
        return _CODECS[kind]
    except (KeyError, TypeError):
        raise ValueError(f"members are str, bytes, int or UUID, got {kind!r}") from None
