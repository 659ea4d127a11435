"""The one key of this family: the marker of an operation, in the slot of the keys that the operation is about."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Sequence
from typing import Final, Literal

from redis.crc import key_slot

from aredis_patterns._core.keys import Keyspace
from aredis_patterns.exceptions import CrossSlot
from aredis_patterns.types import Key

__all__ = ["marker_of", "require_one_slot", "to_bytes"]

Verb = Literal["cas", "increment", "optimistic", "transfer"]

LONGEST_TAG: Final = 200


def marker_of(namespace: str, verb: Verb, operation_id: str, keys: Sequence[bytes]) -> bytes:
    """`<namespace>:tx:{<tag>}:<verb>:<operation id>:<digest of keys>`, in the slot of the first key.

    The same id on other keys is another operation.
    """
    if not operation_id:
        raise ValueError("an operation_id must not be empty")
    space = Keyspace(namespace, "tx")
    digest = hashlib.sha256(b"\0".join(keys)).hexdigest()[:16]
    rest = Keyspace(verb).key(operation_id).encode().replace(b"{", b"").replace(b"}", b"")
    return b"%s:{%s}:%s:%s" % (space.prefix.encode(), _tag_of(keys[0]), rest, digest.encode())


def _tag_of(key: bytes) -> bytes:
    """What to put in braces so that the slot is that of `key`."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    tag = key[start + 1 : end] if end > start + 1 else key
    # A tag cannot contain a closing brace, and a key may be long; any other tag of the same slot serves as well.
    return _tag_for(key_slot(key)) if b"}" in tag or len(tag) > LONGEST_TAG else tag


@functools.lru_cache(maxsize=4096)
def _tag_for(slot: int) -> bytes:
    """The smallest number whose slot this is: one of some 16,000 is."""
    return next(tag for number in itertools.count() if key_slot(tag := b"%d" % number) == slot)


def require_one_slot(keys: Sequence[bytes]) -> None:
    """Raise CrossSlot, with the remedy, when a Cluster could not use these keys together."""
    if len({key_slot(key) for key in keys}) > 1:
        raise CrossSlot([key.decode("utf-8", "backslashreplace") for key in keys])


def to_bytes(key: Key) -> bytes:
    """A user's key as bytes. Raises ValueError when it is empty, TypeError when it is neither str nor bytes."""
    raw = key.encode() if isinstance(key, str) else key
    if not isinstance(raw, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a key must be str or bytes, got {key!r}")
    if not raw:
        raise ValueError("a key must not be empty")
    return raw
