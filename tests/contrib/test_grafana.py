"""The dashboard asks for metrics that exist, with labels that they have."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

from redis.asyncio import Redis

from aredis_patterns import Kind, Patterns
from aredis_patterns.contrib.prometheus import Metrics

DASHBOARD: dict[str, Any] = json.loads(resources.files("aredis_patterns.contrib").joinpath("grafana.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


async def test_every_metric_and_label_of_the_dashboard_exists(own_client: Redis) -> None:
    patterns = Patterns(own_client)
    metrics = Metrics(own_client, namespace="ap")
    metrics.instrumentation.recorder(Kind("locks", "acquire", "acquired"))(0.1)
    await own_client.config_set("maxmemory", 100_000_000)
    await patterns.queue("emails").enqueue(1)
    async with patterns.lock("x"):
        await metrics.refresh()
    labels: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    for expression in EXPRESSIONS:
        names = re.findall(r"aredis_patterns_\w+", expression)
        assert names
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expression))))
        for name in names:
            assert name in labels, f"{name} in {expression}"
            # `instance` is what Prometheus adds.
            assert grouped <= labels[name], f"{grouped - labels[name]} in {expression}"
    await patterns.aclose()


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
