"""Routes for /metrics and /healthz in Starlette and FastAPI."""

from __future__ import annotations

from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aredis_patterns.contrib._monitoring import HEALTH_TYPE, MetricsSource, health_answer
from aredis_patterns.types import RedisClient

__all__ = ["health_route", "metrics_route"]


def metrics_route(metrics: MetricsSource | str, path: str = "/metrics") -> Route:
    """A route that serves a `contrib.prometheus.Metrics`, or the one of that name in `app.state` when a scrape comes.

    Text or OpenMetrics, as the scraper asks. The loop is never blocked by the server: see `Metrics.render`.

        app = FastAPI(routes=[metrics_route("metrics"), health_route("redis")])
    """

    async def answer(request: Request) -> Response:
        source = cast(MetricsSource, _found(request, metrics))
        body, content_type = await source.render(request.headers.get("accept"))
        return Response(body, headers={"content-type": content_type})

    return Route(path, answer, include_in_schema=False)


def health_route(
    client: RedisClient | str, path: str = "/healthz", *, deadline: float = 1.0, details: bool = False
) -> Route:
    """A route for readiness probes: 200 when the servers of `client` can serve, 503 when not, always within `deadline`.

    `client`: a client, or the name of one in `app.state`. The body is {"status": "ok"}; `details=True` adds every check
    with addresses and reasons, for networks where everybody may know them.
    """

    async def answer(request: Request) -> Response:
        found = cast(RedisClient, _found(request, client))
        status, body = await health_answer(found, deadline=deadline, details=details)
        return Response(body, status, media_type=HEALTH_TYPE, headers={"cache-control": "no-store"})

    return Route(path, answer, include_in_schema=False)


def _found(request: Request, thing: object) -> object:
    if not isinstance(thing, str):
        return thing
    found: Any = getattr(request.app.state, thing, None)
    if found is None:
        raise LookupError(f"app.state.{thing} should be there when a request comes")
    return found
