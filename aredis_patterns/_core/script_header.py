"""The header of a Lua file: what a script takes and returns, read by machine.

    -- One sentence: what it does.
    --
    -- Optional prose: why it is right, sources.
    --
    -- KEYS[1] counter    string   <ns>:rl:fixed:{<key>}   units used in the current window
    -- ARGV[1] limit      units    most units in one window
    -- ARGV[2..] costs    units    one per request; `n..` takes any number, none included
    -- RETURN[1] allowed  0|1      whether it fits
    -- READ-ONLY no
    -- REPLAY-SAFE no

Columns are separated by blanks: name, then unit (for a key: its Redis type), then text to the end of the line (for a
key: the shape of the key, then text). Four blanks or more after `--` continue the text of the line above.

REPLAY-SAFE yes promises that a second execution changes nothing and answers the same. READ-ONLY yes implies it.

Pure: text in, record out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from aredis_patterns.exceptions import ScriptContractError

__all__ = ["Field", "Header", "parse_header"]

_FIELD: Final = re.compile(r"(KEYS|ARGV|RETURN)\[(\d+)(\.\.)?\]\s+(\S+)\s+(\S+)(?:\s+(\S.*))?")
_FLAG: Final = re.compile(r"(READ-ONLY|REPLAY-SAFE)\s+(yes|no)")
_MEANT_AS_ENTRY: Final = re.compile(r"(KEYS|ARGV|RETURN)\[|READ-ONLY\b|REPLAY-SAFE\b")


@dataclass(frozen=True, slots=True)
class Field:
    """One KEYS, ARGV or RETURN line."""

    name: str
    unit: str
    text: str
    variadic: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """What a script promises. The position of a field in its tuple is its index in Lua, less one."""

    summary: str
    keys: tuple[Field, ...]
    args: tuple[Field, ...]
    returns: tuple[Field, ...]
    read_only: bool
    replay_safe: bool

    def takes_keys(self, count: int) -> bool:
        """Whether a call with this many keys keeps the contract."""
        return _fits(self.keys, count)

    def takes_args(self, count: int) -> bool:
        """Whether a call with this many arguments keeps the contract."""
        return _fits(self.args, count)


def parse_header(text: str, name: str) -> Header:
    """The header of the script `text`; `name` is for messages. ScriptContractError says which line is wrong."""
    fields: dict[str, list[Field]] = {"KEYS": [], "ARGV": [], "RETURN": []}
    flags: dict[str, bool] = {}
    summary = ""
    last: list[Field] | None = None
    for number, line in _comment_lines(text):
        content = line.strip()
        summary = summary or content
        if found := _FIELD.fullmatch(content):
            last = fields[found[1]]
            _append(last, found, f"{name}.lua:{number}")
        elif found := _FLAG.fullmatch(content):
            last = None
            flags[found[1]] = found[2] == "yes"
        elif _MEANT_AS_ENTRY.match(content):
            raise ScriptContractError(f"{name}.lua:{number}: cannot read this header line: {content!r}")
        elif last is not None and line.startswith("    ") and content:
            last[-1] = replace(last[-1], text=f"{last[-1].text} {content}".strip())
        else:
            last = None
    return _checked(summary, fields, flags, name)


def _checked(summary: str, fields: dict[str, list[Field]], flags: dict[str, bool], name: str) -> Header:
    if not summary or _MEANT_AS_ENTRY.match(summary):
        raise ScriptContractError(f"{name}.lua: the header must begin with one sentence")
    if not fields["RETURN"]:
        raise ScriptContractError(f"{name}.lua: the header has no RETURN line")
    for flag in ("READ-ONLY", "REPLAY-SAFE"):
        if flag not in flags:
            raise ScriptContractError(f"{name}.lua: the header has no line `-- {flag} yes` or `-- {flag} no`")
    if flags["READ-ONLY"] and not flags["REPLAY-SAFE"]:
        raise ScriptContractError(f"{name}.lua: a script that is READ-ONLY is REPLAY-SAFE too")
    return Header(
        summary=summary,
        keys=tuple(fields["KEYS"]),
        args=tuple(fields["ARGV"]),
        returns=tuple(fields["RETURN"]),
        read_only=flags["READ-ONLY"],
        replay_safe=flags["REPLAY-SAFE"],
    )


def _comment_lines(text: str) -> Iterator[tuple[int, str]]:
    """The comment lines at the top, without their `--`, each with its line number."""
    for number, line in enumerate(text.splitlines(), 1):
        if number == 1 and line.startswith("#!"):
            continue
        if not line.startswith("--"):
            return
        yield number, line[2:]


def _append(fields: list[Field], found: re.Match[str], place: str) -> None:
    if fields and fields[-1].variadic:
        raise ScriptContractError(f"{place}: nothing can follow {found[1]}[{len(fields)}..]")
    if int(found[2]) != len(fields) + 1:
        raise ScriptContractError(f"{place}: {found[1]}[{found[2]}] is out of order")
    if any(field.name == found[4] for field in fields):
        raise ScriptContractError(f"{place}: {found[1]} has two fields named {found[4]!r}")
    fields.append(Field(name=found[4], unit=found[5], text=found[6] or "", variadic=bool(found[3])))


def _fits(fields: tuple[Field, ...], count: int) -> bool:
    if fields and fields[-1].variadic:
        return count >= len(fields) - 1
    return count == len(fields)
