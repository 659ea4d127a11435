"""What an application says of itself on /metrics: limiter refusals, cache hits, lanes.

These live in the memory of a process, so the server cannot tell them; the application's own exporter
(`contrib.prometheus.Metrics`) can. Reads just enough of the text format for that.
"""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

__all__ = ["OperationCount", "ProcessView", "parse_metrics", "scrape"]

TIMEOUT: Final = 2.0
MOST: Final = 4 * 1024 * 1024
"""Bytes of one answer; more is cut off."""

_SAMPLE: Final = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class OperationCount:
    """How often an operation ended in one way."""

    family: str
    operation: str
    outcome: str
    count: int


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One process, as its /metrics shows it."""

    where: str
    operations: tuple[OperationCount, ...] = ()
    lanes: dict[str, float] = field(default_factory=dict[str, float])
    """"in_flight", "waiting", "commands", "flushes", "reconnects", ..."""
    objects: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    """Watched objects and their numbers: a cache's hits."""
    problem: str | None = None


async def scrape(url: str) -> ProcessView:
    """Fetch and read; what goes wrong is in `problem`."""
    where = urlsplit(url).netloc.rpartition("@")[2] or url
    try:
        text = await asyncio.to_thread(_fetch, url)
        return parse_metrics(text, where)
    except (OSError, ValueError) as error:
        return ProcessView(where, problem=f"{where}: {error}")


def parse_metrics(text: str, where: str) -> ProcessView:
    """The part of a page that is about us."""
    operations: list[OperationCount] = []
    lanes: dict[str, float] = {}
    objects: dict[str, dict[str, float]] = {}
    for name, labels, value in _samples(text):
        if name == "aredis_patterns_operation_seconds_count":
            kind = (labels.get("family", ""), labels.get("operation", ""), labels.get("outcome", ""))
            operations.append(OperationCount(*kind, int(value)))
        elif name == "aredis_patterns_statistics":
            objects.setdefault(labels.get("object", ""), {})[labels.get("field", "")] = value
        elif name.startswith("aredis_patterns_lane_") and not labels:
            lanes[name.removeprefix("aredis_patterns_lane_").removesuffix("_total")] = value
    operations.sort(key=lambda each: (each.family, each.operation, -each.count))
    return ProcessView(where, tuple(operations), lanes, objects)


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        found = None if line.startswith("#") else _SAMPLE.match(line)
        if found is not None:
            try:
                yield found["name"], dict(_LABEL.findall(found["labels"] or "")), float(found["value"])
            except ValueError:
                continue


def _fetch(url: str) -> str:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("metrics are read from an http:// or https:// URL")
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        text: bytes = answer.read(MOST)
    return text.decode(errors="replace")
