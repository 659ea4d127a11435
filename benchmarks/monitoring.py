"""What it costs to be watched: python -m benchmarks.monitoring

One operation, `limiter.hit` on a token bucket, one round trip: without the hook at all, with the hook and nobody
listening, and with each listener. All of them share one server; every round asks each of them.
"""

from __future__ import annotations

import sys
import timeit
from contextlib import AsyncExitStack
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from aredis_patterns import Instrumentation, PipelinedRedis, TokenBucketLimiter, instrument
from aredis_patterns._core.instrumentation import hook_of
from aredis_patterns.contrib.opentelemetry import OpenTelemetryInstrumentation
from aredis_patterns.contrib.prometheus import PrometheusInstrumentation
from benchmarks._report import Contest, Outcome, Target, main

CALLERS = (1, 100)
LIMIT = "1000000000/hour"


def listeners() -> dict[str, Instrumentation | None]:
    """Each as an application would set it up, without an exporter: that runs elsewhere."""
    meters = MeterProvider()
    some = TracerProvider(sampler=TraceIdRatioBased(0.01))
    every = TracerProvider()
    return {
        "off": None,
        "prometheus": PrometheusInstrumentation(),
        "prometheus, scripts": PrometheusInstrumentation(scripts=True),
        "otel metrics": OpenTelemetryInstrumentation(meter_provider=meters, spans=False, scripts=False),
        "otel metrics, 1% of spans": OpenTelemetryInstrumentation(meter_provider=meters, tracer_provider=some),
        "otel, all spans": OpenTelemetryInstrumentation(meter_provider=meters, tracer_provider=every),
    }


async def run(url: str, stack: AsyncExitStack, contest: Contest) -> Outcome:
    contest.baseline = "no hook"
    bare: Any = None
    for name, listener in listeners().items():
        client = await stack.enter_async_context(PipelinedRedis.from_url(url))
        limiter = TokenBucketLimiter(client, LIMIT, name=name.replace(",", ""), deadline=5)
        if bare is None:
            # What `hit` does when nobody listens, without asking whether somebody does. On the client of "off".
            bare = limiter
            contest.add(
                "hit", "no hook", lambda n, bare=limiter: bare._hit(f"user:{n}", 1, None, None), callers=CALLERS
            )
        if listener is not None:
            instrument(client, listener)
        contest.add("hit", name, lambda n, limiter=limiter: limiter.hit(f"user:{n}"), callers=CALLERS)
    await contest.measure()
    return Outcome(
        [
            Target("off / no hook, calls/s, 100 callers", contest.ratio("hit", 100, "off", "no hook"), least=0.98),
            Target("off / no hook, calls/s, 1 caller", contest.ratio("hit", 1, "off", "no hook"), least=0.98),
            Target(
                "off / no hook, CPU per call, 100 callers",
                contest.ratio("hit", 100, "off", "no hook", "cpu"),
                most=1.02,
            ),
            Target("prometheus / off, calls/s, 100 callers", contest.ratio("hit", 100, "prometheus", "off"), least=0.9),
            Target("prometheus / off, calls/s, 1 caller", contest.ratio("hit", 1, "prometheus", "off"), least=0.9),
            Target(
                "otel metrics / off, calls/s, 100 callers", contest.ratio("hit", 100, "otel metrics", "off"), least=0.9
            ),
        ],
        {"ns_of_the_check_when_off": round(cost_of_the_check(bare), 1)},
    )


def cost_of_the_check(limiter: TokenBucketLimiter) -> float:
    """Nanoseconds of the one question that every operation asks: does anybody listen?"""
    hook = hook_of(limiter, "ratelimit")
    times = timeit.repeat("hook.silent", globals={"hook": hook}, number=200_000, repeat=5)
    nothing = timeit.repeat("hook", globals={"hook": hook}, number=200_000, repeat=5)
    return (min(times) - min(nothing)) / 200_000 * 1e9


if __name__ == "__main__":
    sys.exit(main("monitoring", __doc__, run, libraries=("redis", "prometheus-client", "opentelemetry-sdk")))
