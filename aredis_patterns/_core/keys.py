"""How keys are named, for every family.

    <namespace>:<part>:<part>:{<object>}:<suffix>

All keys of one object share one hash tag, so they live in one slot of a Cluster and one script may use them together.
Whatever a user puts into a name stays inside its part: the characters that mean something here (`%`, `:`, `{`, `}`),
control characters and bytes that are not UTF-8 are percent-escaped, and a long part is replaced by its hash. Escaping
is injective, so two names never share a key.

This module knows no family. A family's `_keys.py` says which keys it has.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from aredis_patterns.types import Key

__all__ = ["LONGEST_PART", "Keyspace"]

LONGEST_PART: Final = 120
"""Bytes of one part after escaping. Longer ones become `%~` and the SHA-256 of what was given."""

# Bytes that are not UTF-8 arrive here as lone surrogates (PEP 383).
_UNSAFE: Final = re.compile("[%:{}\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNSAFE_IN_NAMESPACE: Final = re.compile("[%{}\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Keyspace:
    """Builds the keys of one family.

    `Keyspace("ap", "rl", "fixed").key("user:1", "log")` is `"ap:rl:fixed:{user%3A1}:log"`.

    The namespace keeps its colons (`"shop:prod"` stays readable, and `~shop:prod:*` is its ACL rule); everything else
    is escaped. A namespace owns all keys below it, so give two applications names of which neither begins the other.

    A str and its UTF-8 bytes give the same key. Raises ValueError for an empty part and TypeError for anything that is
    neither str nor bytes. No I/O.
    """

    __slots__ = ("prefix",)

    def __init__(self, namespace: Key, *parts: Key) -> None:
        head = _escape(namespace, "namespace", _UNSAFE_IN_NAMESPACE)
        self.prefix: Final = ":".join([head, *(_escape(part, "part of a key") for part in parts)])

    def key(self, name: Key, *suffixes: Key) -> str:
        """The key of the object `name`, or of the part of it that `suffixes` say. All of them share one slot."""
        base = f"{self.prefix}:{{{_escape(name, 'key')}}}"
        if not suffixes:
            return base
        return ":".join([base, *(_escape(suffix, "suffix of a key") for suffix in suffixes)])

    def __repr__(self) -> str:
        return f"Keyspace({self.prefix!r})"


def _escape(part: Key, what: str, unsafe: re.Pattern[str] = _UNSAFE) -> str:
    if isinstance(part, str):
        if part.isascii() and 0 < len(part) <= LONGEST_PART and unsafe.search(part) is None:
            return part  # nearly always
        # A lone surrogate is legal in a str; passed through, it becomes bytes that are not UTF-8 and escapes like them.
        raw = part.encode("utf-8", "surrogatepass")
    elif isinstance(part, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raw = part
    else:
        raise TypeError(f"a {what} must be str or bytes, got {part!r}")
    if not raw:
        raise ValueError(f"a {what} must not be empty")
    text = unsafe.sub(_percent, raw.decode("utf-8", "surrogateescape"))
    if len(text.encode()) > LONGEST_PART:
        return "%~" + hashlib.sha256(raw).hexdigest()
    return text


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))
