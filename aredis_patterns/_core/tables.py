"""Results as tables: text for a terminal, CSV for a spreadsheet, dicts for everything else. Pure."""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TypeAlias

__all__ = ["Cell", "Table", "text_of"]

Cell: TypeAlias = str | int | float | None


class Table(ABC):
    """A record that prints as a table. Subclasses say what is in it."""

    __slots__ = ()

    @abstractmethod
    def columns(self) -> Sequence[str]:
        """The heads of the columns."""

    @abstractmethod
    def cells(self) -> Iterable[Sequence[Cell]]:
        """The rows, each as long as `columns()`."""

    def to_dicts(self) -> list[dict[str, Cell]]:
        """One plain dict per row: for JSON, pandas, a template."""
        heads = self.columns()
        return [dict(zip(heads, row, strict=True)) for row in self.cells()]

    def to_csv(self) -> str:
        """RFC 4180 text with a head line. Text that a spreadsheet would take for a formula gets a leading quote."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(self.columns())
        writer.writerows([_harmless(cell) for cell in row] for row in self.cells())
        return out.getvalue()

    def __str__(self) -> str:
        return _render(self.columns(), [list(row) for row in self.cells()])


def text_of(cell: Cell) -> str:
    """A cell as people read it: whole numbers without a fraction, nothing for None."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.0f}" if cell.is_integer() else f"{cell:.6g}"
    return str(cell)


def _harmless(cell: Cell) -> Cell:
    if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + cell
    return cell


def _render(heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    texts = [[text_of(cell) for cell in row] for row in rows]
    widths = [max(len(head), *(len(row[at]) for row in texts), 0) for at, head in enumerate(heads)]
    # Numbers stand right, so that their digits are below each other; a column of both is text.
    right = [bool(rows) and not any(isinstance(row[at], str) for row in rows) for at in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        parts = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
        return "  ".join(parts).rstrip()

    return "\n".join([line(heads), line(["-" * width for width in widths]), *(line(row) for row in texts)])
