"""Numbers and tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

__all__ = ["bytes_of", "command_text", "count_of", "printable", "seconds_of", "table_of"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def bytes_of(number: float | None) -> str:
    """`1536` as "1.5 KiB"."""
    if number is None:
        return "-"
    size, unit = float(number), 0
    while abs(size) >= 1024 and unit < len(_UNITS) - 1:
        size /= 1024
        unit += 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 or size >= 100 else f"{size:.1f} {_UNITS[unit]}"


def count_of(number: float | None) -> str:
    """`12345` as "12,345"."""
    return "-" if number is None else f"{number:,.0f}"


def seconds_of(seconds: float | None) -> str:
    """A duration in the unit that reads best: "85 us", "1.2 ms", "3.4 s", "2 h 5 min"."""
    if seconds is None:
        return "-"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if days < 2 else f"{days} d {hours % 24} h"


def command_text(args: Sequence[bytes], width: int = 120) -> str:
    """A command on one line, with what cannot be printed escaped; never more than `width` characters."""
    words: list[str] = []
    for arg in args:
        text = arg.decode(errors="backslashreplace")
        plain = text.isprintable() and text and not any(letter in text for letter in " \"'\\")
        words.append(text if plain or (text.startswith("<") and text.endswith(" bytes>")) else repr(text))
    line = " ".join(words)
    return line if len(line) <= width else line[: width - 1] + "\u2026"


def printable(text: str) -> str:
    """Text of others for a terminal: a key may hold an escape sequence, which must be read and not obeyed.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def table_of(
    title: str, columns: Iterable[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()
) -> Table:
    """A plain table; `right` are the columns of numbers. Cells are text, never markup: a key may hold brackets."""
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for at, column in enumerate(columns):
        table.add_column(column, justify="right" if at in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(str(cell))) for cell in row))
    return table
