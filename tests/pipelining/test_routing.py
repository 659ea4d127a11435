"""Which commands share a lane is decided by name and arguments alone."""

import pytest
from redis.exceptions import DataError

from aredis_patterns.pipelining._packing import describe, key_of, pack
from aredis_patterns.pipelining._routing import (
    LONG,
    STATEFUL,
    WAITS,
    block_seconds,
    bypass_reason,
    route_of,
)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("GET", "a"), None),
        (("get", "a"), None),
        ((b"GET", "a"), None),
        (("BLPOP", "a", 0), WAITS),
        (("blpop", "a", 0), WAITS),
        (("XREAD", "COUNT", 1, "STREAMS", "s", "0"), None),
        (("XREAD", "BLOCK", 10, "STREAMS", "s", "0"), WAITS),
        (("XREADGROUP", "GROUP", "g", "c", "block", 10, "STREAMS", "s", ">"), WAITS),
        (("XREAD", "STREAMS", "BLOCK", "0"), None),
        (("CLIENT REPLY", "OFF"), STATEFUL),
        (("CLIENT", "reply", "OFF"), STATEFUL),
        (("CLIENT ID",), None),
        (("CLIENT", "ID"), None),
        (("SCRIPT LOAD", "return 1"), None),
        (("SCRIPT", "DEBUG", "YES"), STATEFUL),
        (("MULTI",), STATEFUL),
        (("SUBSCRIBE", "c"), STATEFUL),
        (("KEYS", "*"), LONG),
        (("DEBUG SLEEP", 1), LONG),
    ],
)
def test_reason(args: tuple[object, ...], reason: str | None) -> None:
    assert bypass_reason(route_of(args[0]), args) == reason


def test_generated_names_do_not_fill_the_memory() -> None:
    from aredis_patterns.pipelining import _routing

    for number in range(5000):
        route_of(f"NAME{number}")
    assert len(_routing.known_routes) <= _routing._MOST_KNOWN


@pytest.mark.parametrize(
    ("args", "seconds"),
    [
        (("BLPOP", "a", "b", 2), 2.0),
        (("BLPOP", "a", 0), None),
        (("BLMPOP", 1.5, 1, "a", "LEFT"), 1.5),
        (("XREAD", "BLOCK", 250, "STREAMS", "s", "0"), 0.25),
        (("WAIT", 1, 500), 0.5),
        (("BLPOP", "a", "nonsense"), None),
    ],
)
def test_block_seconds(args: tuple[object, ...], seconds: float | None) -> None:
    assert block_seconds(str(args[0]), args) == seconds


def test_pack_is_resp() -> None:
    assert pack(("SET", "k", b"v")) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"
    assert pack(("CONFIG GET", "a")) == b"*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$1\r\na\r\n"
    assert pack(("SET", "k", bytearray(b"v"))) == pack(("SET", "k", b"v"))
    assert pack(("INCRBYFLOAT", "k", 0.1)) == pack(("INCRBYFLOAT", "k", "0.1"))


@pytest.mark.parametrize("value", [None, True, ["a"], {"a": 1}, object()])
def test_pack_refuses_what_redis_has_no_form_for(value: object) -> None:
    with pytest.raises(DataError, match="Invalid input of type"):
        pack(("SET", "k", value))


@pytest.mark.parametrize(
    ("args", "name", "key"),
    [
        (("GET", "user:1"), "GET", "user:1"),
        (("EVALSHA", "0" * 40, 1, "k", 5), "EVALSHA", "k"),
        (("EVALSHA", "0" * 40, 0, "not a key"), "EVALSHA", None),
        (("PING",), "PING", None),
        (("PUBLISH", "channel", "x"), "PUBLISH", None),
        (("SET", b"\xff", 1), "SET", "\\xff"),
    ],
)
def test_describe_finds_name_and_key(args: tuple[object, ...], name: str, key: str | None) -> None:
    assert describe(pack(args)) == (name, key)
    if key is not None and isinstance(args[1], str):
        assert key_of(args) == key
