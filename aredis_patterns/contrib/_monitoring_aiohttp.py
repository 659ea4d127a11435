"""Handlers for /metrics and /healthz in aiohttp."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

from aiohttp import web

from aredis_patterns.contrib._monitoring import HEALTH_TYPE, MetricsSource, health_answer
from aredis_patterns.types import RedisClient

__all__ = ["health_handler", "metrics_handler"]

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def metrics_handler(metrics: MetricsSource | web.AppKey[Any]) -> Handler:
    """A handler that serves a `contrib.prometheus.Metrics`, or the one under an AppKey when a scrape comes.

    app.router.add_get("/metrics", metrics_handler(metrics))
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        source = cast(MetricsSource, request.config_dict[metrics] if isinstance(metrics, web.AppKey) else metrics)
        body, content_type = await source.render(request.headers.get("accept"))
        return web.Response(body=body, headers={"content-type": content_type})

    return answer


def health_handler(client: RedisClient | web.AppKey[Any], *, deadline: float = 1.0, details: bool = False) -> Handler:
    """A handler for readiness probes: 200 when the servers can serve, 503 when not, always within `deadline`.

    `details=True` adds every check with addresses and reasons.

        app.router.add_get("/healthz", health_handler(redis))
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        found = cast(RedisClient, request.config_dict[client] if isinstance(client, web.AppKey) else client)
        status, body = await health_answer(found, deadline=deadline, details=details)
        return web.Response(body=body, status=status, content_type=HEALTH_TYPE, headers={"cache-control": "no-store"})

    return answer
