"""The text that INFO and CLIENT LIST answer with, as fields that can be asked for.

Values stay text until a record asks for a number: a build id of zeros is no number, and a field that this server does
not have is None, not an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

__all__ = ["Fields", "pairs_of", "parse_client_list", "parse_info"]


class Fields:
    """Fields of one section. What is missing, or not what it should be, is None."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values: Final = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._values.items())

    def __len__(self) -> int:
        return len(self._values)

    def text(self, *names: str) -> str | None:
        """The first of these fields that is there and not empty: servers have renamed some."""
        return next((value for name in names if (value := self._values.get(name))), None)

    def integer(self, *names: str) -> int | None:
        """A whole number."""
        try:
            return int(self.text(*names) or "")
        except ValueError:
            return None

    def number(self, *names: str) -> float | None:
        """A number."""
        try:
            return float(self.text(*names) or "")
        except ValueError:
            return None

    def flag(self, name: str) -> bool | None:
        """Whether a field is 1, "yes", "ok" or "up"."""
        value = self.text(name)
        return None if value is None else value in ("1", "yes", "ok", "up")

    def moment(self, name: str) -> datetime | None:
        """A Unix time in seconds; 0 means never."""
        seconds = self.integer(name)
        return datetime.fromtimestamp(seconds, UTC) if seconds else None


def parse_info(reply: bytes | str) -> Fields:
    """All `name:value` lines of INFO, whatever the sections.

    >>> parse_info(b"# Server\\r\\nredis_git_sha1:00000000\\r\\nport:6379\\r\\n").text("redis_git_sha1")
    '00000000'
    """
    text = reply.decode(errors="backslashreplace") if isinstance(reply, bytes) else reply
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return Fields({name: value for name, colon, value in lines if colon})


def pairs_of(value: str) -> Fields:
    """`calls=2,usec=9` as fields.

    >>> pairs_of("calls=2,usec=9").integer("usec")
    9
    """
    parts = (part.partition("=") for part in value.split(","))
    return Fields({name: rest for name, sign, rest in parts if sign})


def parse_client_list(reply: bytes | str) -> list[Fields]:
    """One entry per connection. Values may hold `=` (a client's name), but no blanks: the server sees to that."""
    text = reply.decode(errors="backslashreplace") if isinstance(reply, bytes) else reply
    lines = (line for line in text.split("\n") if line.strip())
    return [
        Fields({name: value for name, sign, value in (word.partition("=") for word in line.split(" ")) if sign})
        for line in lines
    ]
