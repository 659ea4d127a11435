"""Which commands may share a lane, and why the others may not. Pure: no I/O, no state but a cache.

A lane is one connection with many callers, so a command has no place on it when it

- waits inside the server (everybody behind it would wait too),
- changes what the *connection* is or does (the next caller would get the change),
- runs long by its nature, or is so large that it holds up those behind it.

Such a command takes an ordinary connection of the pool for itself. To add one, add a line to `NEVER_SHARED`; commands
whose arguments decide go to `ARGUMENT_DECIDES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

LARGE_COMMAND: Final = 64 * 1024
"""Packed commands above this many bytes take a connection of their own."""

WAITS: Final = "waits inside the server"
STATEFUL: Final = "changes the state of the connection"
LONG: Final = "runs long by its nature"
LARGE: Final = "is larger than 64 KiB"

NEVER_SHARED: Final[dict[str, str]] = {
    **dict.fromkeys(("BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE", "BLMPOP"), WAITS),
    **dict.fromkeys(("BZPOPMIN", "BZPOPMAX", "BZMPOP", "WAIT", "WAITAOF"), WAITS),
    # Protocol and database belong to the handshake, which the pool does. (AUTH may share: it changes who "this client" is.)
    **dict.fromkeys(("HELLO", "RESET", "QUIT", "SELECT"), STATEFUL),
    **dict.fromkeys(("READONLY", "READWRITE", "ASKING"), STATEFUL),
    # Between MULTI and EXEC the commands of other callers would join the transaction.
    **dict.fromkeys(("WATCH", "UNWATCH", "MULTI", "EXEC", "DISCARD"), STATEFUL),
    **dict.fromkeys(("SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE"), STATEFUL),
    **dict.fromkeys(("SSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR"), STATEFUL),
    **dict.fromkeys(("SYNC", "PSYNC", "REPLCONF"), STATEFUL),
    # Replies switched off would shift every later answer to the wrong caller.
    **dict.fromkeys(("CLIENT REPLY", "CLIENT TRACKING", "CLIENT CACHING"), STATEFUL),
    **dict.fromkeys(("CLIENT MAINT_NOTIFICATIONS", "SCRIPT DEBUG", "HIMPORT"), STATEFUL),
    **dict.fromkeys(("DEBUG", "MIGRATE", "KEYS", "SAVE", "SHUTDOWN", "FAILOVER"), LONG),
    **dict.fromkeys(("FLUSHALL", "FLUSHDB"), LONG),
}


def _read_blocks(args: Sequence[Any]) -> str | None:
    """XREAD and XREADGROUP wait only with BLOCK, which must come before STREAMS."""
    for arg in args[1:]:
        word = _upper(arg)
        if word == "BLOCK":
            return WAITS
        if word == "STREAMS":
            break
    return None


def _subcommand(args: Sequence[Any]) -> str | None:
    """`("CLIENT", "REPLY", ...)` is the same command as `("CLIENT REPLY", ...)`."""
    return NEVER_SHARED.get(f"{_upper(args[0])} {_upper(args[1])}") if len(args) > 1 else None


ARGUMENT_DECIDES: Final[dict[str, Callable[[Sequence[Any]], str | None]]] = {
    "XREAD": _read_blocks,
    "XREADGROUP": _read_blocks,
    "CLIENT": _subcommand,
    "SCRIPT": _subcommand,
}

# Repeating one of these after a lost reply changes nothing on the server. (TOUCH and OBJECT are left out: they move or
# show idle times. RANDOMKEY, SCAN and the like are in: their answer is about the moment of the answer.)
READ_ONLY: Final = frozenset(
    """
    BITCOUNT BITFIELD_RO BITPOS DBSIZE DUMP ECHO EVALSHA_RO EVAL_RO EXISTS EXPIRETIME FCALL_RO GEODIST GEOHASH
    GEOPOS GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GET GETBIT GETRANGE HEXISTS HEXPIRETIME HGET HGETALL
    HKEYS HLEN HMGET HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSTRLEN HTTL HVALS INFO LCS LINDEX LLEN LPOS LRANGE
    MEMORY MGET PEXPIRETIME PFCOUNT PING PTTL RANDOMKEY SCAN SCARD SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS
    SMISMEMBER SORT_RO SRANDMEMBER SSCAN STRLEN SUBSTR SUNION TIME TTL TYPE XINFO XLEN XPENDING XRANGE
    XREVRANGE ZCARD ZCOUNT ZDIFF ZINTER ZINTERCARD ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX
    ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION XREAD
    """.split()
)


class Route(NamedTuple):
    """What is known of a command by its name alone."""

    name: str
    """Upper case, one or two words."""
    words: tuple[bytes, ...] | None
    """The name as separate arguments, when it has a blank ("SCRIPT LOAD")."""
    bypass: str | None
    """Why it never shares a lane; None: it may."""
    inspect: Callable[[Sequence[Any]], str | None] | None
    """Decides by the arguments, where the name does not."""
    read_only: bool
    callback: str | None
    """Where redis-py keeps the parser of its replies; None for a name in bytes, which has none there."""
    special: bool
    """Whether more than the name must be looked at before it is packed."""


known_routes: dict[Any, Route] = {}
_MOST_KNOWN: Final = 2048  # a program has a few dozen; a caller who sends generated names must not fill the memory


def route_of(name: Any) -> Route:
    """The route of a command name as redis-py passes it (str or bytes, any case, perhaps with a blank)."""
    route = known_routes.get(name)
    if route is None:
        route = _classify(name)
        if len(known_routes) < _MOST_KNOWN:
            known_routes[name] = route
    return route


def bypass_reason(route: Route, args: Sequence[Any]) -> str | None:
    """Why this command must not share a lane, or None."""
    return route.inspect(args) if route.inspect is not None else route.bypass


def _classify(name: Any) -> Route:
    upper = _upper(name)
    words = upper.split()
    first = words[0] if words else upper
    reason = NEVER_SHARED.get(" ".join(words)) or NEVER_SHARED.get(first)
    return Route(
        name=upper,
        words=_split(name) if len(words) > 1 else None,
        bypass=reason,
        inspect=ARGUMENT_DECIDES.get(upper),
        read_only=first in READ_ONLY,
        callback=upper if isinstance(name, str) else None,
        special=reason is not None or upper in ARGUMENT_DECIDES or len(words) > 1,
    )


def _split(name: str | bytes) -> tuple[bytes, ...]:
    return tuple((name.encode() if isinstance(name, str) else name).split())


def _upper(word: Any) -> str:
    if isinstance(word, bytes):
        return word.decode("latin-1").upper()
    return str(word).upper()


def block_seconds(name: str, args: Sequence[Any]) -> float | None:
    """How long the server may hold this command: seconds, or None for as long as it takes.

    >>> block_seconds("BLPOP", ("BLPOP", "a", "b", 2))
    2.0
    """
    try:
        if name in ("XREAD", "XREADGROUP"):
            words = [_upper(arg) for arg in args]
            held = float(args[words.index("BLOCK") + 1]) / 1000
        elif name in ("BLMPOP", "BZMPOP"):
            held = float(args[1])
        elif name in ("WAIT", "WAITAOF"):
            held = float(args[-1]) / 1000
        else:
            held = float(args[-1])
    except (ValueError, TypeError, IndexError):
        return None
    return held or None
