"""What reports answer: records that print as tables and export to CSV and dicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from aredis_patterns._core.tables import Cell, Table
from aredis_patterns.analytics._heatmap import to_html, to_svg

__all__ = ["CohortRow", "Funnel", "FunnelStep", "RetentionTable", "Stickiness"]


class CohortRow(NamedTuple):
    """One cohort: its period, how many are in it, and how many of them were active in each period since."""

    period: str
    size: int
    counts: tuple[int | None, ...]
    """None for a period that has not begun."""

    def percent(self) -> tuple[float | None, ...]:
        """The counts as shares of the cohort, 0 to 100; None where there is no count, or nobody in the cohort."""
        return tuple(None if n is None or not self.size else 100.0 * n / self.size for n in self.counts)


@dataclass(frozen=True, slots=True)
class RetentionTable(Table):
    """Cohorts and who came back. `str()` is a table, `to_svg()` and `to_html()` a heat map."""

    by: str
    cohort: str
    activity: str
    rows: tuple[CohortRow, ...]

    def columns(self) -> list[str]:
        """The period of the cohort, its size, then one column per period since."""
        periods = max((len(row.counts) for row in self.rows), default=0)
        return [self.by, "size", *(f"+{number}" for number in range(periods))]

    def cells(self) -> Iterator[list[Cell]]:
        """Counts."""
        for row in self.rows:
            yield [row.period, row.size, *row.counts]

    def percent(self) -> list[tuple[float | None, ...]]:
        """One tuple per cohort, each share from 0 to 100."""
        return [row.percent() for row in self.rows]

    def to_svg(self) -> str:
        """A heat map as a picture of its own: no script, no external file."""
        return to_svg(self.columns(), [(row.period, row.size, row.percent()) for row in self.rows])

    def to_html(self) -> str:
        """A heat map as one HTML table with its colours inline, for a page or a mail."""
        return to_html(self.columns(), [(row.period, row.size, row.percent()) for row in self.rows])

    def __str__(self) -> str:
        return Table.__str__(self)


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """One step: how many came through it, and how many there were before it and at the beginning."""

    name: str
    count: int
    before: int
    first: int

    @property
    def of_previous(self) -> float | None:
        """Percent of those who came through the step before; None when that was nobody."""
        return 100.0 * self.count / self.before if self.before else None

    @property
    def of_first(self) -> float | None:
        """Percent of those who came through the first step; None when that was nobody."""
        return 100.0 * self.count / self.first if self.first else None


@dataclass(frozen=True, slots=True)
class Funnel(Table):
    """Steps and how many came through."""

    steps: tuple[FunnelStep, ...]

    def columns(self) -> list[str]:
        """step, count, and the two shares in percent."""
        return ["step", "count", "% of previous", "% of first"]

    def cells(self) -> Iterator[list[Cell]]:
        """One row per step."""
        for step in self.steps:
            shares = (step.of_previous, step.of_first)
            yield [step.name, step.count, *(None if share is None else round(share, 1) for share in shares)]

    def __str__(self) -> str:
        return Table.__str__(self)


@dataclass(frozen=True, slots=True)
class Stickiness(Table):
    """Actives of one day, and of the 7 and 30 days that end with it."""

    day: date
    dau: int
    wau: int
    mau: int

    @property
    def dau_wau(self) -> float | None:
        """Daily by weekly actives, 0 to 1; None when there were none."""
        return self.dau / self.wau if self.wau else None

    @property
    def dau_mau(self) -> float | None:
        """Daily by monthly actives, 0 to 1: the usual stickiness. None when there were none."""
        return self.dau / self.mau if self.mau else None

    @property
    def wau_mau(self) -> float | None:
        """Weekly by monthly actives, 0 to 1; None when there were none."""
        return self.wau / self.mau if self.mau else None

    def columns(self) -> list[str]:
        """day, the three counts, and the three ratios."""
        return ["day", "dau", "wau", "mau", "dau/wau", "dau/mau", "wau/mau"]

    def cells(self) -> Iterator[list[Cell]]:
        """One row."""
        ratios = (self.dau_wau, self.dau_mau, self.wau_mau)
        yield [
            self.day.isoformat(),
            self.dau,
            self.wau,
            self.mau,
            *(None if r is None else round(r, 4) for r in ratios),
        ]

    def __str__(self) -> str:
        return Table.__str__(self)
