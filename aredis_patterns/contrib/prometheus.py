"""Prometheus metrics: of the operations, of the shared connections, of the servers, and of the patterns' state.

    metrics = Metrics(redis, namespace="shop")         # registers itself; measures from now on
    app.router.routes.append(metrics_route(metrics))    # contrib.starlette; contrib.aiohttp has the same

prometheus_client renders synchronously, so nothing here asks the server while it does: `Metrics.render` first refreshes a
snapshot with async calls, then renders it. Labels come from fixed sets and from names that you list; no key of a user
ever becomes one.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import HistogramMetricFamily, Metric

from aredis_patterns._core.instrumentation import Kind, instrument
from aredis_patterns.contrib._prometheus_state import HasStatistics, Snapshot, state_metrics, take_snapshot
from aredis_patterns.types import RedisClient

__all__ = ["BUCKETS", "Metrics", "PrometheusInstrumentation"]

BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds. An operation takes some hundred microseconds on a good day and its deadline on a bad one."""

OTHER: Final = "(other)"


class PrometheusInstrumentation:
    """Counts operations and their durations: `aredis_patterns_operation_seconds{family, operation, outcome}`.

    A listener for `instrument(client, ...)` or `Patterns(instrumentation=...)`, and a collector for a registry. One may
    listen on many clients. Cost per operation: one lookup and two additions, no lock; it belongs to one event loop.

    Args:
        registry: where to register; None for nowhere.
        scripts: also `aredis_patterns_script_seconds{family, script, outcome}`, for each call of a script.
        buckets: upper bounds of the histograms, in seconds, ascending.
        max_series: kinds of operations above this number are counted as operation "(other)".
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        scripts: bool = False,
        buckets: Sequence[float] = BUCKETS,
        max_series: int = 1000,
    ) -> None:
        if not buckets or list(buckets) != sorted(set(buckets)):
            raise ValueError(f"buckets are upper bounds in ascending order, got {buckets!r}")
        self.scripts: Final = scripts
        self._bounds: Final = tuple(map(float, buckets))
        self._max_series: Final = max_series
        self._series: dict[Kind, _Series] = {}
        if registry is not None:
            registry.register(self)

    def recorder(self, kind: Kind, /) -> Callable[[float], None]:
        """See `Instrumentation.recorder`."""
        found = self._series.get(kind)
        if found is None:
            if len(self._series) >= self._max_series:
                kind = Kind(OTHER, OTHER, OTHER, kind.layer)
            found = self._series.setdefault(kind, _Series(self._bounds))
        return found.add

    def describe(self) -> Iterable[Metric]:
        """Names only; a registry asks for them when this is registered."""
        return self._families()

    def collect(self) -> Iterable[Metric]:
        """What was counted so far."""
        families = {"pattern": self._families()[0], "script": self._families()[1]}
        for kind, series in list(self._series.items()):
            families[kind.layer].add_metric([kind.family, kind.operation, kind.outcome], *series.cumulative())
        return [family for family in families.values() if family.samples]

    @staticmethod
    def _families() -> list[HistogramMetricFamily]:
        head = "aredis_patterns_"
        return [
            HistogramMetricFamily(
                f"{head}operation_seconds",
                "How long operations of patterns took, and how they ended.",
                labels=["family", "operation", "outcome"],
            ),
            HistogramMetricFamily(
                f"{head}script_seconds",
                "How long calls of scripts took, and how they ended.",
                labels=["family", "script", "outcome"],
            ),
        ]


class _Series:
    """One histogram, as cheap as it can be."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def cumulative(self) -> tuple[list[tuple[str, float]], float]:
        """(upper bound, count) pairs and the sum, as prometheus_client takes them."""
        total = 0
        pairs: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            pairs.append((bound, total))
        return pairs, self._sum


class Metrics:
    """Everything that Prometheus should know of one client: `await metrics.render()` is the body of /metrics.

    Operations are measured from construction on. At each scrape the servers are asked for INFO, and with `namespace` the
    patterns for their state (a scan of at most `max_keys` keys), at most once per `min_interval` seconds however often
    somebody scrapes, and within `deadline`: a silent server makes `aredis_patterns_server_up` 0, never a scrape that
    hangs.

    Args:
        client: any `redis.asyncio` client.
        registry: a registry of your own; default: a new one, so that two applications in one process never meet.
        namespace: whose patterns to look at; None to leave that out.
        queues: names of queues that get a label of their own; all others are one.
        scripts, buckets: see `PrometheusInstrumentation`.
    """

    def __init__(
        self,
        client: RedisClient,
        *,
        registry: CollectorRegistry | None = None,
        namespace: str | None = None,
        queues: Sequence[str] = (),
        scripts: bool = False,
        buckets: Sequence[float] = BUCKETS,
        max_keys: int = 20_000,
        min_interval: float = 1.0,
        deadline: float = 2.0,
    ) -> None:
        self.registry: Final = registry if registry is not None else CollectorRegistry()
        self.instrumentation: Final = PrometheusInstrumentation(self.registry, scripts=scripts, buckets=buckets)
        self._client: Final = client
        self._namespace: Final = namespace
        self._queues: Final = frozenset(queues)
        self._max_keys: Final = max_keys
        self._min_interval: Final = min_interval
        self._deadline: Final = deadline
        self._watched: dict[str, HasStatistics] = {}
        self._snapshot = Snapshot()
        self._refreshing: asyncio.Task[None] | None = None
        self._stop: Callable[[], None] | None = instrument(client, self.instrumentation)
        self.registry.register(self)

    def watch(self, name: str, thing: HasStatistics) -> None:
        """Also show the numbers of `thing.statistics()`: a cache, a limiter, as
        `aredis_patterns_statistics{object, field}`."""
        self._watched[name] = thing

    async def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """The body of /metrics and its content type, in the format that the scraper accepts."""
        await self.refresh()
        encoder, content_type = choose_encoder(accept or "")
        return encoder(self.registry), content_type

    async def refresh(self) -> None:
        """Take a new snapshot unless the last one is young. Everybody who asks meanwhile shares it. Raises nothing."""
        loop = asyncio.get_running_loop()
        task = self._refreshing
        if task is None or task.get_loop() is not loop or task.done():
            if self._snapshot.age < self._min_interval:
                return
            task = self._refreshing = loop.create_task(self._refresh(), name="aredis-patterns metrics")
        await asyncio.shield(task)

    async def _refresh(self) -> None:
        self._snapshot = await take_snapshot(
            self._client, namespace=self._namespace, max_keys=self._max_keys, deadline=self._deadline
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing: names depend on what is there."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The last snapshot; no I/O."""
        return state_metrics(self._snapshot, self._client, self._watched, self._queues)

    def close(self) -> None:
        """Stop measuring and leave the registry. Safe to call twice."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()
            self.registry.unregister(self)
            self.registry.unregister(self.instrumentation)
