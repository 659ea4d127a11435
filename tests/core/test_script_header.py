"""The header parser: reads what the convention says, and says which line is wrong."""

from __future__ import annotations

import pytest

from aredis_patterns._core.script_header import Field, parse_header
from aredis_patterns.exceptions import ScriptContractError

GOOD = """\
-- Counts something.
--
-- Prose about KEYS and why: `n..` is explained elsewhere.
--
-- KEYS[1] counter   string  <ns>:rl:{<key>}   units used
-- KEYS[2..] others  zset    <ns>:rl:{<key>}:<n>
-- ARGV[1] limit     units   most units
--                           in one window
-- RETURN[1] allowed 0|1     whether it fits
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local counter = KEYS[1]
-- ARGV[9] is not part of the header any more
"""


def test_reads_all_of_it() -> None:
    header = parse_header(GOOD, "count")
    assert header.summary == "Counts something."
    assert header.keys == (
        Field("counter", "string", "<ns>:rl:{<key>}   units used"),
        Field("others", "zset", "<ns>:rl:{<key>}:<n>", variadic=True),
    )
    assert header.args == (Field("limit", "units", "most units in one window"),)
    assert header.returns == (Field("allowed", "0|1", "whether it fits"),)
    assert (header.read_only, header.replay_safe) == (False, True)


def test_counts() -> None:
    header = parse_header(GOOD, "count")
    assert [header.takes_keys(n) for n in range(4)] == [False, True, True, True]
    assert [header.takes_args(n) for n in range(3)] == [False, True, False]


def test_a_shebang_may_come_first() -> None:
    assert parse_header("#!lua flags=no-writes\n" + GOOD, "count").summary == "Counts something."


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-- Counts something.\n--\n-- Prose", "--\n--\n-- KEYS[1] x y z\n-- Prose", "out of order"),
        ("-- RETURN[1] allowed 0|1     whether it fits\n", "", "no RETURN line"),
        ("-- READ-ONLY no\n", "", "no line `-- READ-ONLY yes`"),
        ("-- REPLAY-SAFE yes\n", "", "no line `-- REPLAY-SAFE yes`"),
        ("READ-ONLY no", "READ-ONLY maybe", r"count\.lua:10: cannot read"),
        ("READ-ONLY no\n-- REPLAY-SAFE yes", "READ-ONLY yes\n-- REPLAY-SAFE no", "READ-ONLY is REPLAY-SAFE too"),
        ("ARGV[1] limit     units", "ARGV[2] limit     units", r"count\.lua:7: ARGV\[2\] is out of order"),
        ("KEYS[2..] others", "KEYS[2..] counter", "two fields named 'counter'"),
        ("KEYS[1] counter ", "KEYS[1..] counter", r"nothing can follow KEYS\[1\.\.\]"),
        ("ARGV[1] limit     units   most units\n", "ARGV[1] limit\n", r"count\.lua:7: cannot read"),
        ("ARGV[1]", "ARGV[one]", r"count\.lua:7: cannot read"),
    ],
)
def test_names_what_is_wrong(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ScriptContractError, match=message):
        parse_header(GOOD.replace(old, new), "count")
