r"""What is stored: one line of ours, then the bytes of the codec.

    #<version> <px> <stale> <token> <flags>[ <tag>...]\n<payload>

`px` is the life given to the entry and `stale` its last part, in which it is expired but usable; both in ms. A JSON
payload stays readable in redis-cli, below that line. Something else's SET has no such line and is taken as it is.
Pure: bytes in, record out.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from aredis_patterns._core.codecs import Codec
from aredis_patterns.exceptions import DecodeError

__all__ = ["Entry", "Payloads", "parse_entry"]

T = TypeVar("T")

PLAIN: Final = b"-"
NOTHING: Final = b"n"
"""The value is None, which no codec need know."""
DEFLATED: Final = b"z"

LARGEST: Final = 1 << 30
"""Bytes that a compressed payload may become. More is not a value but an attack, or a mistake."""


class Entry(NamedTuple):
    """One stored value, not yet decoded."""

    version: int
    """-1 when something else has written it."""
    px: int
    stale: int
    flags: bytes
    tags: bytes
    payload: bytes


def parse_entry(stored: bytes) -> Entry:
    """Read what is stored. Bytes without our line are a payload."""
    if stored[:1] != b"#":
        return Entry(-1, 0, 0, PLAIN, b"", stored)
    line, _, payload = stored.partition(b"\n")
    words = line.split(b" ", 5)
    try:
        version, px, stale = int(words[0][1:]), int(words[1]), int(words[2])
        return Entry(version, px, stale, words[4], words[5] if len(words) > 5 else b"", payload)
    except (ValueError, IndexError):
        return Entry(-1, 0, 0, PLAIN, b"", stored)


def entry_text(px: int, stale: int, token: str, flags: bytes, tags: Sequence[str], payload: bytes) -> bytes:
    """What a script stores, but for the version, which the server knows."""
    words = " ".join([f"{px} {stale} {token} {flags.decode()}", *tags])
    return b"%b\n%b" % (words.encode(), payload)


class Payloads(Generic[T]):
    """Values as flags and bytes, and back."""

    __slots__ = ("_decode", "_encode", "compress_above")

    def __init__(self, codec: Codec[T], compress_above: int | None) -> None:
        self._encode = codec.encode
        self._decode = codec.decode
        self.compress_above: Final = compress_above

    def encode(self, value: T | None) -> tuple[bytes, bytes]:
        """Flags and payload. EncodeError when the codec cannot write it."""
        if value is None:
            return NOTHING, b"null"
        data = self._encode(value)
        if self.compress_above is not None and len(data) > self.compress_above:
            packed = zlib.compress(data, 1)
            if len(packed) < len(data):
                return DEFLATED, packed
        return PLAIN, data

    def decode(self, flags: bytes, payload: bytes) -> Any:
        """The value. DecodeError when it cannot be read."""
        if flags == PLAIN:
            return self._decode(payload)
        if flags == NOTHING:
            return None
        return self._decode(self.plain(flags, payload))

    def plain(self, flags: bytes, payload: bytes) -> bytes:
        """The bytes of the codec."""
        if flags in (PLAIN, NOTHING):
            return payload
        if flags != DEFLATED:
            raise DecodeError(f"the stored value has the unknown flags {flags!r}")
        inflater = zlib.decompressobj()
        try:
            data = inflater.decompress(payload, LARGEST)
        except zlib.error as error:
            raise DecodeError(f"{len(payload)} stored bytes cannot be decompressed: {error}") from error
        if not inflater.eof:
            raise DecodeError(f"{len(payload)} stored bytes are no whole compressed value")
        return data
