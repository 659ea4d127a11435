"""Activity in plain Python sets: what a tracker must answer, and a way to test reports without a server.

model = ActivityModel()
model.mark(42, date(2026, 11, 25))
assert model.retention("active", "active", [[date(2026, 11, 25)]], 1) == [[1, 1]]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

__all__ = ["ActivityModel"]


class ActivityModel:
    """Who did what on which day."""

    def __init__(self) -> None:
        self.days: dict[tuple[str, date], set[int]] = {}

    def mark(self, user_id: int, day: date, event: str = "active") -> None:
        """One mark."""
        self.days.setdefault((event, day), set()).add(user_id)

    def active(self, days: Iterable[date], event: str = "active") -> set[int]:
        """Who did this on one of these days."""
        return set().union(*(self.days.get((event, day), set()) for day in days))

    def retention(self, cohort: str, activity: str, periods: Sequence[Sequence[date]], columns: int) -> list[list[int]]:
        """One row per period: the size of its cohort, then how many were active in it and in the periods after it."""
        table: list[list[int]] = []
        for number, days in enumerate(periods):
            members = self.active(days, cohort)
            later = periods[number : number + columns]
            table.append([len(members), *(len(members & self.active(each, activity)) for each in later)])
        return table

    def funnel(self, steps: Sequence[str], days: Sequence[date]) -> list[int]:
        """How many came through each step and all before it."""
        counts: list[int] = []
        left: set[int] | None = None
        for step in steps:
            found = self.active(days, step)
            left = found if left is None else left & found
            counts.append(len(left))
        return counts
