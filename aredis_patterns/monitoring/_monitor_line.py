"""One line of MONITOR, byte for byte.

    1339518083.107412 [0 127.0.0.1:60866] "set" "a b" "\\x00"

The server quotes every argument and escapes what is not printable, so blanks, quotes, newlines, NUL and bytes that are
not UTF-8 can be told apart again. (redis-py joins arguments with blanks and loses that.)

Valkey 8.1 forgets to escape quotes and backslashes that stand behind a printable character. Its lines are read as well as
they can be: a quote ends an argument only where a blank and a quote, or nothing, follows. `" "` inside an argument, and a
backslash before a letter that could be an escape, are ambiguous there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

__all__ = ["MonitoredCommand", "parse_line"]

_LINE: Final = re.compile(rb"(\d+)\.(\d+) \[(\d+) (.*?)\] (\".*)", re.DOTALL)
_ONE: Final = rb'"((?:[^"\\]|\\(?:x[0-9a-fA-F]{2}|[\\"nrtab]))*)"'
_ARGUMENT: Final = re.compile(_ONE)
_ARGUMENTS: Final = re.compile(rb"(?:%b)(?: %b)*" % (_ONE, _ONE))
_LOOSE: Final = re.compile(rb'"(.*?)"(?= "|$)', re.DOTALL)
_ESCAPE: Final = re.compile(rb'\\(x[0-9a-fA-F]{2}|[\\"nrtab])')
_LETTERS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


@dataclass(frozen=True, slots=True)
class MonitoredCommand:
    """One command that a server has executed."""

    at: datetime
    database: int
    client: str
    """Its address; "lua" for a command inside a script."""
    args: tuple[bytes, ...]
    """Exactly what was sent, unless redacted."""
    node: str = ""

    @property
    def from_script(self) -> bool:
        """Whether a script ran it."""
        return self.client == "lua"


def parse_line(line: bytes, node: str = "") -> MonitoredCommand | None:
    """The command of one line; None for a line that is none."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    seconds, micros, database, client, rest = found.groups()
    argument = _ARGUMENT if _ARGUMENTS.fullmatch(rest) else _LOOSE
    return MonitoredCommand(
        at=datetime.fromtimestamp(int(seconds), UTC).replace(microsecond=int(micros)),
        database=int(database),
        client=client.decode(errors="backslashreplace"),
        args=tuple(_ESCAPE.sub(_unescape, each) for each in argument.findall(rest)),
        node=node,
    )


def _unescape(found: re.Match[bytes]) -> bytes:
    code: bytes = found[1]
    return bytes((int(code[1:], 16),)) if len(code) == 3 else _LETTERS.get(code, code)
