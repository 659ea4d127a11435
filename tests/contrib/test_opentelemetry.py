"""OpenTelemetry: names of the current semantic conventions, parents, errors, and no keys."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv.attributes import db_attributes, error_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode
from redis.asyncio import Redis

from aredis_patterns import FixedWindowLimiter, Lock, increment, instrument
from aredis_patterns.contrib.opentelemetry import OpenTelemetryInstrumentation
from aredis_patterns.embedded import EmbeddedServer


class Backend:
    """Where spans and metrics end up."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self.reader])

    def instrumentation(self, client: Redis | None = None, **options: Any) -> OpenTelemetryInstrumentation:
        return OpenTelemetryInstrumentation(client, tracer_provider=self.tracers, meter_provider=self.meters, **options)

    def finished(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.spans.get_finished_spans()}

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


async def test_a_span_for_the_operation_and_one_for_its_script(
    redis_url: str, redis_client: Redis, namespace: str
) -> None:
    backend = Backend()
    instrument(redis_client, backend.instrumentation(redis_client))
    limiter = FixedWindowLimiter(redis_client, "1/hour", namespace=namespace, deadline=5)
    with backend.tracers.get_tracer("app").start_as_current_span("GET /"):
        await limiter.hit("secret-user")
    spans = backend.finished()
    request, hit, script = spans["GET /"], spans["ratelimit.hit"], spans["EVALSHA hit"]
    assert hit.parent is not None
    assert script.parent is not None
    assert hit.parent.span_id == request.context.span_id
    assert script.parent.span_id == hit.context.span_id
    assert (hit.kind, script.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT)
    assert hit.attributes is not None
    assert hit.attributes["aredis_patterns.outcome"] == "allowed"
    attributes = dict(script.attributes or {})
    assert attributes[db_attributes.DB_SYSTEM_NAME] == "redis"
    assert attributes[db_attributes.DB_OPERATION_NAME] == "EVALSHA"
    assert attributes[db_attributes.DB_STORED_PROCEDURE_NAME] == "hit"
    assert attributes[db_attributes.DB_NAMESPACE] == "0"
    assert attributes[server_attributes.SERVER_ADDRESS]
    assert "db.system" not in attributes
    everything = repr([(span.name, dict(span.attributes or {}), span.events) for span in spans.values()])
    assert "secret-user" not in everything


async def test_metrics_have_the_names_and_units_of_the_conventions(redis_client: Redis, namespace: str) -> None:
    backend = Backend()
    instrument(redis_client, backend.instrumentation(redis_client, spans=False))
    limiter = FixedWindowLimiter(redis_client, "1/hour", namespace=namespace, deadline=5)
    for _ in range(3):
        await limiter.hit("u")
    points = backend.points()
    (calls,) = points["db.client.operation.duration"]
    assert calls.count == 3
    assert calls.explicit_bounds[:2] == (0.001, 0.005)
    by_outcome = {
        point.attributes["aredis_patterns.outcome"]: point.count
        for point in points["aredis_patterns.operation.duration"]
    }
    assert by_outcome == {"allowed": 1, "refused": 2}
    assert backend.finished() == {}


async def test_an_error_has_a_type_and_a_status(own_server: EmbeddedServer, own_client: Redis) -> None:
    backend = Backend()
    instrument(own_client, backend.instrumentation())
    await own_client.replicaof("127.0.0.1", 1)
    limiter = FixedWindowLimiter(own_client, "1/hour", deadline=5)
    with pytest.raises(Exception, match="replica"):
        await limiter.hit("u")
    hit = backend.finished()["ratelimit.hit"]
    assert hit.status.status_code is StatusCode.ERROR
    assert dict(hit.attributes or {})[error_attributes.ERROR_TYPE] == "denied"


async def test_an_error_does_not_carry_keys_into_the_trace(redis_client: Redis, namespace: str) -> None:
    backend = Backend()
    instrument(redis_client, backend.instrumentation())
    await redis_client.set(f"{namespace}:secret-user", "not a number")
    with pytest.raises(Exception, match="integer"):
        await increment(redis_client, f"{namespace}:secret-user", namespace=namespace)
    async with Lock(redis_client, "secret-user", namespace=namespace):
        with pytest.raises(Exception, match="secret-user"):
            async with Lock(redis_client, "secret-user", namespace=namespace).using(timeout=0):
                pass
    spans = backend.finished()
    assert "EVALSHA increment" in spans
    assert spans["EVALSHA increment"].status.status_code is StatusCode.ERROR
    assert not [span.name for span in spans.values() if "secret-user" in span.to_json() or span.events]


async def test_without_spans_the_span_of_the_application_is_left_alone(redis_client: Redis, namespace: str) -> None:
    backend = Backend()
    instrument(redis_client, backend.instrumentation(spans=False))
    with backend.tracers.get_tracer("app").start_as_current_span("mine"):
        await FixedWindowLimiter(redis_client, "1/hour", namespace=namespace, deadline=5).hit("u")
    assert dict(backend.finished()["mine"].attributes or {}) == {}


async def test_without_an_sdk_nothing_happens(redis_client: Redis, namespace: str) -> None:
    instrument(redis_client, OpenTelemetryInstrumentation(redis_client))
    assert await FixedWindowLimiter(redis_client, "1/hour", namespace=namespace, deadline=5).hit("u")
