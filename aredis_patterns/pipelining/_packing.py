"""Commands to bytes, and bytes back to the name and key that an error message needs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.exceptions import DataError

from aredis_patterns.pipelining._routing import Route, route_of

pack_plain: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
"""The fast way: str (as UTF-8), bytes, int, float and memoryview; `TypeError` for anything else."""


def pack(args: Sequence[Any], route: Route | None = None) -> bytes:
    """One command as RESP. A name with a blank becomes two words, as redis-py does.

    Raises `DataError` for None, bool, lists and other things that Redis has no form for.
    """
    route = route or route_of(args[0])
    plain = tuple(args) if route.words is None else (*route.words, *args[1:])
    try:
        return pack_plain(plain)
    except TypeError:
        # bytearray is legal in redis-py; bool and None are not, and must not be written as text by accident.
        return pack_plain(tuple(_plain(arg) for arg in plain))


def _plain(arg: Any) -> Any:
    if isinstance(arg, bytearray):
        return bytes(arg)
    if isinstance(arg, (str, bytes, memoryview)):
        return arg
    if isinstance(arg, (int, float)) and not isinstance(arg, bool):
        return repr(arg)
    raise DataError(f"Invalid input of type: {type(arg).__name__!r}. Convert to a bytes, string, int or float first.")


def describe(packed: bytes, most: int = 5) -> tuple[str, str | None]:
    """Name and first key of a packed command, for an error message. Only read when something went wrong."""
    words = _words(packed, most)
    name = words[0].decode("utf-8", "backslashreplace").upper() if words else "?"
    at = _key_position(name, words)
    key = words[at].decode("utf-8", "backslashreplace") if at and at < len(words) else None
    return name, key


def key_of(args: Sequence[Any]) -> Any:
    """The first key of a command, or None."""
    at = _key_position(route_of(args[0]).name, args)
    return args[at] if at and at < len(args) else None


def _key_position(name: str, words: Sequence[Any]) -> int | None:
    if name in ("EVAL", "EVALSHA", "EVALSHA_RO", "EVAL_RO", "FCALL", "FCALL_RO"):
        return 3 if len(words) > 3 and words[2] not in (b"0", "0", 0) else None
    if name.partition(" ")[0] in KEYLESS:
        return None
    return 1


KEYLESS = frozenset(
    """
    ACL CLIENT CLUSTER COMMAND CONFIG DBSIZE ECHO FLUSHALL FLUSHDB FUNCTION INFO LASTSAVE LATENCY MEMORY PING
    PUBLISH ROLE SCAN SCRIPT SLOWLOG SPUBLISH TIME WAIT AUTH HELLO
    """.split()
)


def _words(packed: bytes, most: int) -> list[bytes]:
    lines: list[bytes] = []
    at = packed.find(b"\r\n") + 2
    while len(lines) < most and packed[at : at + 1] == b"$":
        end = packed.index(b"\r\n", at)
        size = int(packed[at + 1 : end])
        lines.append(bytes(packed[end + 2 : end + 2 + size]))
        at = end + 2 + size + 2
    return lines
