"""Prometheus: what is counted, what is asked, what never becomes a label, and what a scrape never waits for."""

from __future__ import annotations

import asyncio
import time

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from aredis_patterns import FixedWindowLimiter, Kind, Patterns, instrument
from aredis_patterns.contrib.prometheus import BUCKETS, Metrics, PrometheusInstrumentation
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.pipelining import PipelinedRedis
from aredis_patterns.testing import FaultProxy


def samples(page: bytes) -> dict[tuple[str, ...], float]:
    """(name, sorted labels...) -> value."""
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


async def page(metrics: Metrics) -> dict[tuple[str, ...], float]:
    body, content_type = await metrics.render()
    assert content_type.startswith("text/plain")
    return samples(body)


async def test_operations_are_counted_by_outcome(redis_client: Redis, namespace: str) -> None:
    metrics = Metrics(redis_client, scripts=True)
    limiter = FixedWindowLimiter(redis_client, "2/hour", namespace=namespace, deadline=5)
    for _ in range(5):
        await limiter.hit("secret-user")
    found = await page(metrics)
    count = "aredis_patterns_operation_seconds_count"
    assert found[count, "family=ratelimit", "operation=hit", "outcome=allowed"] == 2
    assert found[count, "family=ratelimit", "operation=hit", "outcome=refused"] == 3
    inside = (
        "aredis_patterns_operation_seconds_bucket",
        "family=ratelimit",
        "le=+Inf",
        "operation=hit",
        "outcome=refused",
    )
    assert found[inside] == 3
    script = "aredis_patterns_script_seconds_count", "family=ratelimit", "outcome=ok", "script=hit"
    assert found[script] == 5
    assert found["aredis_patterns_lane_commands_total",] >= 5
    assert (
        found["aredis_patterns_server_up", next(key[1] for key in found if key[0] == "aredis_patterns_server_up")] == 1
    )
    assert not any("secret-user" in part for key in found for part in key)
    metrics.close()
    metrics.close()
    await limiter.hit("secret-user")
    assert list(metrics.registry.collect()) == []


def test_a_histogram_is_cumulative_and_exact() -> None:
    registry = CollectorRegistry()
    instrumentation = PrometheusInstrumentation(registry, buckets=(0.001, 0.01))
    tell = instrumentation.recorder(Kind("locks", "acquire", "acquired"))
    for seconds in (0.0005, 0.001, 0.002, 5.0):
        tell(seconds)
    labels = {"family": "locks", "operation": "acquire", "outcome": "acquired"}
    value = lambda suffix, **more: registry.get_sample_value(  # noqa: E731
        f"aredis_patterns_operation_seconds_{suffix}", labels | more
    )
    assert [value("bucket", le=le) for le in ("0.001", "0.01", "+Inf")] == [2, 3, 4]
    assert (value("count"), value("sum")) == (4, pytest.approx(5.0035))


def test_label_values_are_bounded() -> None:
    registry = CollectorRegistry()
    instrumentation = PrometheusInstrumentation(registry, max_series=3)
    for number in range(50):
        instrumentation.recorder(Kind("scripts", f"generated-{number}", "ok"))(0.1)
    labels = {"family": "(other)", "operation": "(other)", "outcome": "(other)"}
    assert registry.get_sample_value("aredis_patterns_operation_seconds_count", labels) == 47
    assert len(next(iter(registry.collect())).samples) == 4 * (len(BUCKETS) + 3)


@pytest.mark.parametrize("buckets", [(), (1.0, 0.5), (1.0, 1.0)])
def test_buckets_must_ascend(buckets: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        PrometheusInstrumentation(buckets=buckets)


async def test_patterns_are_aggregated_and_queues_named_only_when_listed(own_server: EmbeddedServer) -> None:
    async with Patterns.from_url(own_server.url) as patterns:
        metrics = Metrics(patterns.client, namespace="ap", queues=["emails"])
        await patterns.queue("emails").enqueue({"n": 1})
        await patterns.queue("user:7").enqueue({"n": 1})
        await patterns.queue("user:8").enqueue({"n": 1})
        await patterns.client.mset({f"ap:user-{n}:{{x}}": 1 for n in range(5)})
        async with patterns.lock("user:7"):
            found = await page(metrics)
        assert found["aredis_patterns_locks_held", "kind=lock"] == 1
        assert found["aredis_patterns_queue_messages", "queue=emails", "state=ready"] == 1
        assert found["aredis_patterns_queue_messages", "queue=(other)", "state=ready"] == 2
        assert found["aredis_patterns_queue_age_seconds", "queue=emails"] < 30
        assert found["aredis_patterns_keys", "family=(other)"] == 5
        assert not any("user" in part for key in found for part in key)


async def test_a_watched_object_shows_its_numbers(redis_client: Redis, namespace: str) -> None:
    metrics = Metrics(redis_client)
    limiter = FixedWindowLimiter(redis_client, "1/hour", namespace=namespace, deadline=5)
    metrics.watch("api", limiter)
    await limiter.hit("u")
    assert (await page(metrics))["aredis_patterns_statistics", "field=allowed", "object=api"] == 1


async def test_a_silent_server_is_down_and_the_scrape_comes_in_time(own_server: EmbeddedServer) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        metrics = Metrics(client, deadline=0.3, min_interval=0)
        assert 1.0 in {value for key, value in (await page(metrics)).items() if key[0] == "aredis_patterns_server_up"}
        own_server.pause()
        try:
            began = time.monotonic()
            found = await page(metrics)
            assert time.monotonic() - began < 5
        finally:
            own_server.resume()
        assert {value for key, value in found.items() if key[0] == "aredis_patterns_server_up"} == {0.0}


async def test_many_scrapers_are_one_question(fault_proxy: FaultProxy) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        await client.ping()
        metrics = Metrics(client, min_interval=60)
        before = fault_proxy.statistics().commands.get("INFO", 0)
        await asyncio.gather(*(metrics.render() for _ in range(20)))
        await metrics.render()
        assert fault_proxy.statistics().commands["INFO"] - before == 2


async def test_a_scraper_that_hangs_up_harms_no_other(redis_client: Redis) -> None:
    metrics = Metrics(redis_client, min_interval=0)
    first = asyncio.ensure_future(metrics.render())
    second = asyncio.ensure_future(metrics.render())
    await asyncio.sleep(0)
    first.cancel()
    assert b"server_up" in (await second)[0]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_openmetrics_when_the_scraper_asks_for_it(redis_client: Redis) -> None:
    body, content_type = await Metrics(redis_client).render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


async def test_two_applications_in_one_process_never_meet(redis_client: Redis) -> None:
    one, other = Metrics(redis_client), Metrics(redis_client)
    assert one.registry is not other.registry
    await asyncio.gather(one.render(), other.render())


async def test_one_instrumentation_on_two_clients(redis_url: str, namespace: str) -> None:
    registry = CollectorRegistry()
    shared = PrometheusInstrumentation(registry)
    async with Redis.from_url(redis_url) as one, Redis.from_url(redis_url) as other:
        for client in (one, other):
            instrument(client, shared)
            await FixedWindowLimiter(client, "9/hour", namespace=namespace, deadline=5).hit("u")
    labels = {"family": "ratelimit", "operation": "hit", "outcome": "allowed"}
    assert registry.get_sample_value("aredis_patterns_operation_seconds_count", labels) == 2
