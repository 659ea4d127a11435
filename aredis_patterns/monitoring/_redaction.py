"""What may be shown of a command that somebody sent.

Arguments carry passwords, tokens and people's data. By default the name of the command, its subcommand and its keys
stay, everything else becomes its length: `SET user:7 <42 bytes>`. A command that is not known here keeps its name only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias, get_args

__all__ = ["Redaction", "check_redaction", "keys_of", "name_of", "redact"]

Redaction: TypeAlias = Literal["values", "all", "none"]
""""values": command and keys stay. "all": only the command stays. "none": everything, byte for byte."""

_CONTAINERS: Final = frozenset(
    "ACL CLIENT CLUSTER COMMAND CONFIG DEBUG FUNCTION HOTKEYS LATENCY MEMORY MODULE OBJECT PUBSUB SCRIPT SLOWLOG XGROUP "
    "XINFO COMMANDLOG".split()
)
"""Their first argument is part of the name."""

_FIRST: Final = frozenset(
    """
    APPEND BITCOUNT BITFIELD BITFIELD_RO BITPOS DECR DECRBY DUMP EXPIRE EXPIREAT EXPIRETIME GEOADD GEODIST GEOHASH
    GEOPOS GEORADIUS GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GET GETBIT GETDEL GETEX GETRANGE
    GETSET HDEL HEXISTS HEXPIRE HEXPIREAT HEXPIRETIME HGET HGETALL HGETDEL HGETEX HINCRBY HINCRBYFLOAT HKEYS HLEN
    HMGET HMSET HPERSIST HPEXPIRE HPEXPIREAT HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSET HSETEX HSETNX HSTRLEN HTTL HVALS
    INCR INCRBY INCRBYFLOAT LINDEX LINSERT LLEN LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM MOVE PERSIST PEXPIRE
    PEXPIREAT PEXPIRETIME PFADD PSETEX PTTL RESTORE RPOP RPUSH RPUSHX SADD SCARD SET SETBIT SETEX SETNX SETRANGE
    SISMEMBER SMEMBERS SMISMEMBER SORT SORT_RO SPOP SRANDMEMBER SREM SSCAN STRLEN SUBSTR TTL TYPE XACK XACKDEL XADD
    XAUTOCLAIM XCLAIM XDEL XDELEX XLEN XPENDING XRANGE XREVRANGE XSETID XTRIM ZADD ZCARD ZCOUNT ZINCRBY ZLEXCOUNT
    ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK
    ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE SPUBLISH DELEX DIGEST INCREX
    """.split()
)
_FIRST_TWO: Final = frozenset(
    "COPY BRPOPLPUSH BLMOVE GEOSEARCHSTORE LCS LMOVE RENAME RENAMENX RPOPLPUSH SMOVE ZRANGESTORE".split()
)
_EVERY: Final = frozenset(
    "DEL EXISTS MGET PFCOUNT PFMERGE SDIFF SDIFFSTORE SINTER SINTERSTORE SUNION SUNIONSTORE TOUCH UNLINK WATCH "
    "SSUBSCRIBE SUNSUBSCRIBE".split()
)
_EVERY_BUT_LAST: Final = frozenset("BLPOP BRPOP BZPOPMAX BZPOPMIN".split())
_PAIRS: Final = frozenset("MSET MSETNX".split())
_COUNTED: Final[dict[str, int]] = {
    **dict.fromkeys(("EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO", "BLMPOP", "BZMPOP"), 2),
    **dict.fromkeys(("LMPOP", "ZMPOP", "SINTERCARD", "ZINTERCARD", "ZINTER", "ZUNION", "ZDIFF", "MSETEX"), 1),
    **dict.fromkeys(("ZINTERSTORE", "ZUNIONSTORE", "ZDIFFSTORE"), 2),
}
"""Where the number of keys stands; the keys follow it."""

_PLAIN_WORDS: Final[dict[str, frozenset[int]]] = {
    **dict.fromkeys(("EVALSHA", "EVALSHA_RO", "FCALL", "FCALL_RO"), frozenset((1, 2))),
    **dict.fromkeys(("EVAL", "EVAL_RO"), frozenset((2,))),
}
"""Arguments that say what was called and carry nothing: a hash, a name, a number of keys."""

_HARMLESS: Final = frozenset(("INFO", "SELECT", "CONFIG GET", "SLOWLOG GET", "LATENCY HISTOGRAM", "PING", "TIME"))
"""Shown as a whole."""


def check_redaction(value: str) -> Redaction:
    """Raise ValueError for another word."""
    if value not in get_args(Redaction):
        raise ValueError(f"redact is one of {', '.join(get_args(Redaction))}, got {value!r}")
    return value  # type: ignore[return-value]


def name_of(args: Sequence[bytes]) -> str:
    """The command in upper case, with its subcommand.

    >>> name_of([b"config", b"set", b"requirepass", b"x"])
    'CONFIG SET'
    """
    if not args:
        return ""
    name = _upper(args[0])
    return f"{name} {_upper(args[1])}" if name in _CONTAINERS and len(args) > 1 else name


def keys_of(args: Sequence[bytes]) -> tuple[bytes, ...]:
    """The keys of a command, as far as it is known here.

    >>> keys_of([b"MSET", b"a", b"1", b"b", b"2"])
    (b'a', b'b')
    """
    return () if _upper(args[0]) == "CONFIG" else tuple(args[at] for at in _key_places(args))


def redact(args: Sequence[bytes], how: Redaction = "values") -> tuple[bytes, ...]:
    """The arguments with what must not be seen replaced by its length.

    >>> redact([b"SET", b"user:7", b"secret"])
    (b'SET', b'user:7', b'<6 bytes>')
    """
    if how == "none" or not args:
        return tuple(args)
    name = _upper(args[0])
    if name in _HARMLESS or name_of(args) in _HARMLESS:
        return tuple(args)
    shown = {0, *_PLAIN_WORDS.get(name, ())}
    if name in _CONTAINERS:
        shown.add(1)
    if how == "values":
        shown.update(_key_places(args))
    return tuple(arg if at in shown else b"<%d bytes>" % len(arg) for at, arg in enumerate(args))


def _key_places(args: Sequence[bytes]) -> Sequence[int]:
    name, count = _upper(args[0]), len(args)
    if name in _FIRST:
        return range(1, min(2, count))
    if name in _EVERY:
        return range(1, count)
    if name in _COUNTED:
        return _counted(args, _COUNTED[name], name)
    if name in _FIRST_TWO:
        return range(1, min(3, count))
    if name in _PAIRS:
        return range(1, count, 2)
    if name in _EVERY_BUT_LAST:
        return range(1, count - 1)
    if name in ("XREAD", "XREADGROUP"):
        return _streams(args)
    if name == "BITOP":
        return range(2, count)
    if name_of(args) == "CONFIG SET":
        return range(2, count, 2)  # no keys, but the same rule: what was set, not to what
    if name in ("OBJECT", "XINFO", "XGROUP") or name_of(args) == "MEMORY USAGE":
        return range(2, min(3, count))
    return ()


def _counted(args: Sequence[bytes], at: int, name: str) -> Sequence[int]:
    try:
        number = int(args[at])
    except (IndexError, ValueError):
        return ()
    step = 2 if name == "MSETEX" else 1
    places = list(range(at + 1, min(at + 1 + step * number, len(args)), step))
    return [1, *places] if name.endswith("STORE") else places


def _streams(args: Sequence[bytes]) -> Sequence[int]:
    words = [_upper(arg) for arg in args]
    if "STREAMS" not in words:
        return ()
    first = words.index("STREAMS") + 1
    return range(first, first + (len(args) - first) // 2)


def _upper(word: bytes) -> str:
    return word.decode("latin-1").upper()
