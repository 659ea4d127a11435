"""Replies as records: what servers of different ages and makers say, without a server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aredis_patterns.monitoring import _parsing as parsing
from aredis_patterns.monitoring._groups import OTHER, BigKey, Tally, grouping, shape_of
from aredis_patterns.monitoring._hot_keys import read_hotkeys
from aredis_patterns.monitoring._info import parse_client_list, parse_info
from aredis_patterns.monitoring._monitor_line import parse_line
from aredis_patterns.monitoring._redaction import keys_of, redact

REDIS = b"# Server\r\nredis_version:8.0.2\r\nredis_git_sha1:00000000\r\nredis_mode:standalone\r\n"
VALKEY = b"# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n"


def test_valkey_is_told_from_the_redis_that_it_claims_to_be() -> None:
    assert (parsing.server_info(parse_info(VALKEY)).name, parsing.server_info(parse_info(VALKEY)).version) == (
        "Valkey",
        "9.1.2",
    )
    assert parsing.server_info(parse_info(REDIS)).name == "Redis"


def test_a_build_id_of_zeros_stays_text() -> None:
    assert parse_info(REDIS).text("redis_git_sha1") == "00000000"


def test_fields_that_an_old_server_lacks_are_none() -> None:
    empty = parse_info(b"# Clients\r\nconnected_clients:3\r\n")
    clients = parsing.clients(empty)
    assert (clients.connected, clients.subscribed, clients.watching) == (3, None, None)
    assert parsing.memory(empty).fill is None
    assert parsing.stats(empty).hit_ratio is None
    assert parsing.replication(empty).role is None


def test_a_number_that_is_none_is_none() -> None:
    odd = parse_info(b"used_memory:many\r\nmem_fragmentation_ratio:\r\n")
    assert parsing.memory(odd).used is None is parsing.memory(odd).fragmentation


def test_replication_of_both_sides() -> None:
    info = (
        b"role:master\r\nslave0:ip=::1,port=7001,state=online,offset=90,lag=1\r\n"
        b"slave_expires:5\r\nmaster_repl_offset:100\r\n"
    )
    primary = parsing.replication(parse_info(info))
    assert primary.role == "primary"
    assert [(r.address, r.state, r.behind, r.lag) for r in primary.replicas] == [("::1:7001", "online", 10, 1.0)]
    replica = parsing.replication(
        parse_info(b"role:slave\r\nmaster_host:h\r\nmaster_port:1\r\nmaster_link_status:down\r\n")
    )
    assert (replica.role, replica.primary, replica.link_up) == ("replica", "h:1", False)


def test_client_names_may_hold_signs_of_equality() -> None:
    line = b"id=7 addr=[::1]:5 name=a=b=c db=3 sub=1 psub=2 ssub=0 resp=3 flags=b cmd=blpop new-field=1 tot-mem=9\n"
    found = parsing.connection(parse_client_list(line)[0])
    assert (found.id, found.address, found.name, found.database) == (7, "[::1]:5", "a=b=c", 3)
    assert (found.subscriptions, found.protocol, found.blocked, found.memory) == (3, 3, True, 9)
    assert found.fields["new-field"] == "1"
    assert (found.user, found.library) == (None, None)


@pytest.mark.parametrize(
    ("tail", "complexity", "count"),
    [
        ([[b"GET", b"k"], b"1.2.3.4:5", b"me"], None, None),
        ([b"N:42", [b"GET", b"k"], b"1.2.3.4:5", b"me"], "N:42", None),
        ([[b"GET", b"k"], b"1.2.3.4:5", b"me", 40], None, 40),
        ([[b"GET", b"k"]], None, None),
    ],
    ids=["redis 7", "enterprise", "redis 8.10", "redis 3"],
)
def test_slow_log_entries_of_every_age(tail: list[object], complexity: str | None, count: int | None) -> None:
    entry = parsing.slow_command([7, 1_700_000_000, 1500, *tail])
    assert (entry.id, entry.duration, entry.args) == (7, 0.0015, (b"GET", b"k"))
    assert (entry.complexity, entry.argument_count) == (complexity, count)
    assert entry.at == datetime.fromtimestamp(1_700_000_000, UTC)


def test_latency_of_newer_servers_has_more_fields() -> None:
    event = parsing.latency_event([b"command", 1_700_000_000, 250, 1000, 5000, 7])
    assert (event.event, event.latest, event.worst) == ("command", 0.25, 1.0)


def test_histograms_are_the_same_in_both_protocols() -> None:
    flat = [b"set", [b"calls", 3, b"histogram_usec", [1, 1, 16, 3]]]
    maps = {b"set": {b"calls": 3, b"histogram_usec": {1: 1, 16: 3}}}
    assert parsing.latency_histograms(flat) == parsing.latency_histograms(maps)


def test_command_statistics_are_ordered_by_cost() -> None:
    info = (
        b"cmdstat_get:calls=4,usec=8,usec_per_call=2.00,rejected_calls=0,failed_calls=1\r\n"
        b"cmdstat_config|set:calls=1,usec=90,usec_per_call=90.00,rejected_calls=0,failed_calls=0\r\n"
        b"latency_percentiles_usec_get:p50=1.003,p99.9=4.015\r\n"
    )
    first, second = parsing.command_statistics(parse_info(info))
    assert (first.command, second.command, second.mean, second.failed) == ("config|set", "get", 2e-6, 1)
    assert second.percentiles == {50.0: pytest.approx(1.003e-6), 99.9: pytest.approx(4.015e-6)}


@pytest.mark.parametrize("wrap", [True, False])
def test_hotkeys_of_the_server_in_both_protocols(wrap: bool) -> None:
    flat = [b"tracking-active", 0, b"all-commands-all-slots-us", 220, b"by-cpu-time-us", [b"x", 104, b"y", 98]]
    maps = {b"all-commands-all-slots-us": 220, b"by-cpu-time-us": {b"x": 104, b"y": 98}}
    for reply in (flat, maps):
        keys, total = read_hotkeys([reply] if wrap else reply, "n")
        assert ([(key.key, key.weight) for key in keys], total) == ([(b"x", 104), (b"y", 98)], 220)
    assert read_hotkeys(None) == ([], 0)


# MONITOR ---------------------------------------------------------------------------------------------------------------


def as_the_server_writes(argument: bytes) -> bytes:
    """sdscatrepr of the server, as it is documented."""
    named = {0x5C: b"\\\\", 0x22: b'\\"', 0x0A: b"\\n", 0x0D: b"\\r", 0x09: b"\\t", 0x07: b"\\a", 0x08: b"\\b"}
    out = b"".join(
        named.get(byte) or (bytes((byte,)) if 0x20 <= byte < 0x7F else b"\\x%02x" % byte) for byte in argument
    )
    return b'"' + out + b'"'


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
def test_a_line_of_monitor_is_read_byte_for_byte(args: list[bytes]) -> None:
    line = b"1339518083.107412 [3 [::1]:60866] " + b" ".join(map(as_the_server_writes, args))
    command = parse_line(line)
    assert command is not None
    assert command.args == tuple(args)
    assert (command.database, command.client, command.at.microsecond) == (3, "[::1]:60866", 107412)


@pytest.mark.parametrize(
    ("line", "client", "from_script"),
    [
        (b'1.000001 [0 lua] "get" "x"', "lua", True),
        (b'1.000001 [0 unix:/tmp/a b.sock] "get" "x"', "unix:/tmp/a b.sock", False),
        (b'1.000001 [0 1.2.3.4:5] "get" "x"', "1.2.3.4:5", False),
    ],
)
def test_who_sent_it(line: bytes, client: str, from_script: bool) -> None:
    command = parse_line(line)
    assert command is not None
    assert (command.client, command.from_script, command.args) == (client, from_script, (b"get", b"x"))


def test_lines_of_valkey_8_1_which_forgets_to_escape_quotes() -> None:
    line = b'1.000001 [0 1.2.3.4:5] "RPUSH" "say "hi"" "back\\slash" "line\\nbreak" "\\"first"" "" "x"'
    command = parse_line(line)
    assert command is not None
    assert command.args == (b"RPUSH", b'say "hi"', b"back\\slash", b"line\nbreak", b'"first"', b"", b"x")


@pytest.mark.parametrize("line", [b"OK", b"", b"1.2 [0 x]", b"garbage \xff"])
def test_what_is_no_line_is_none(line: bytes) -> None:
    assert parse_line(line) is None


# redaction -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("SET user:7 secret EX 10", "SET user:7 <6 bytes> <2 bytes> <2 bytes>"),
        ("mset a 1 b 22", "mset a <1 bytes> b <2 bytes>"),
        ("AUTH me hunter-7", "AUTH <2 bytes> <8 bytes>"),
        ("HELLO 3 AUTH me hunter-7", "HELLO <1 bytes> <4 bytes> <2 bytes> <8 bytes>"),
        ("CONFIG SET requirepass hunter-7", "CONFIG SET requirepass <8 bytes>"),
        ("ACL SETUSER bob >pw", "ACL SETUSER <3 bytes> <3 bytes>"),
        ("EVALSHA abc 2 k1 k2 token", "EVALSHA abc 2 k1 k2 <5 bytes>"),
        ("ZUNIONSTORE out 2 a b WEIGHTS 1 2", "ZUNIONSTORE out <1 bytes> a b <7 bytes> <1 bytes> <1 bytes>"),
        (
            "XREADGROUP GROUP g c STREAMS s t > >",
            "XREADGROUP <5 bytes> <1 bytes> <1 bytes> <7 bytes> s t <1 bytes> <1 bytes>",
        ),
        ("BLPOP a b 5", "BLPOP a b <1 bytes>"),
        ("INFO server memory", "INFO server memory"),
        ("NOSUCHCOMMAND a b", "NOSUCHCOMMAND <1 bytes> <1 bytes>"),
        ("EVALSHA abc many k1", "EVALSHA abc many <2 bytes>"),
        ("SET", "SET"),
    ],
)
def test_what_is_shown_of_a_command(command: str, shown: str) -> None:
    assert b" ".join(redact(command.encode().split())).decode() == shown


def test_all_hides_keys_too_and_none_hides_nothing() -> None:
    args = (b"SET", b"mail:me@example.com", b"x")
    assert redact(args, "all") == (b"SET", b"<19 bytes>", b"<1 bytes>")
    assert redact(args, "none") == args
    assert redact((), "values") == ()


@given(st.lists(st.binary(max_size=12), max_size=8), st.sampled_from("SET EVAL MSET XREAD BITOP CONFIG ZDIFF".split()))
def test_no_arguments_can_break_it(args: list[bytes], name: str) -> None:
    command = [name.encode(), *args]
    assert len(redact(command)) == len(command)
    assert set(keys_of(command)) <= set(args)


# groups ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("user:42:cart", "user:*:cart"),
        ("ap:rl:fixed:default:{user%3A42}:log", "ap:rl:fixed:default:{*}:log"),
        ("session:6f1c1c6e-9d1b-4f0e-8f1a-3a1f3f0b2c4d", "session:*"),
        ("blob:deadbeef01", "blob:*"),
        ("plain", "plain"),
        ("v2:decade", "v2:decade"),
    ],
)
def test_the_shape_of_a_key(key: str, shape: str) -> None:
    assert shape_of(key) == shape


def test_groups_are_capped_and_nothing_is_lost() -> None:
    tally = Tally(grouping(r"^(\w+):"), max_groups=2, top=3)
    for at, name in enumerate(["a:1", "b:1", "c:1", "d:1", "a:2", "nothing"]):
        tally.add(BigKey(name.encode(), "string", 10 + at, None if at % 2 else 5.0))
    assert {name: group.keys for name, group in tally.groups.items()} == {"a": 2, "b": 1, OTHER: 3}
    assert (tally.keys, tally.without_ttl) == (6, 3)
    assert [key.bytes for key in tally.largest()] == [15, 14, 13]
