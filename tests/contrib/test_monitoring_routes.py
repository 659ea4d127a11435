"""/metrics and /healthz on FastAPI, Starlette and aiohttp: the same answers, up and down."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web
from fastapi import FastAPI
from redis.asyncio import Redis
from starlette.applications import Starlette

from aredis_patterns.contrib import aiohttp as ours
from aredis_patterns.contrib.fastapi import health_route, metrics_route
from aredis_patterns.contrib.prometheus import Metrics
from aredis_patterns.embedded import EmbeddedServer

Get = Callable[..., Awaitable[httpx.Response]]


@asynccontextmanager
async def asgi(app: Any) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://app") as client:
        yield client


@asynccontextmanager
async def aiohttp_site(app: web.Application) -> AsyncGenerator[httpx.AsyncClient, None]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        yield client
    await runner.cleanup()


@pytest.fixture(params=["fastapi", "starlette", "starlette by name", "aiohttp", "aiohttp by key"])
async def client(request: pytest.FixtureRequest, own_client: Redis) -> AsyncGenerator[httpx.AsyncClient, None]:
    metrics = Metrics(own_client, min_interval=0, deadline=1)
    async with AsyncExitStack() as stack:
        if request.param.startswith("aiohttp"):
            app = web.Application()
            by_key = "key" in request.param
            metrics_key, client_key = web.AppKey("metrics", Metrics), web.AppKey("redis", Redis)
            app[metrics_key], app[client_key] = metrics, own_client
            app.router.add_get("/metrics", ours.metrics_handler(metrics_key if by_key else metrics))
            app.router.add_get("/healthz", ours.health_handler(client_key if by_key else own_client))
            app.router.add_get("/details", ours.health_handler(own_client, details=True))
            yield await stack.enter_async_context(aiohttp_site(app))
            return
        by_name = "name" in request.param
        routes = [
            metrics_route("metrics" if by_name else metrics),
            health_route("redis" if by_name else own_client),
            health_route(own_client, "/details", details=True),
        ]
        asgi_app = FastAPI(routes=routes) if request.param == "fastapi" else Starlette(routes=routes)
        asgi_app.state.metrics, asgi_app.state.redis = metrics, own_client
        yield await stack.enter_async_context(asgi(asgi_app))


async def test_metrics_are_served(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "aredis_patterns_server_memory_used_bytes{" in answer.text
    negotiated = await client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert negotiated.headers["content-type"].startswith("application/openmetrics-text")


async def test_health_when_it_is_well_and_when_it_is_not(client: httpx.AsyncClient, own_server: EmbeddedServer) -> None:
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["cache-control"] == "no-store"
    assert (await client.get("/details")).json()["nodes"][0]["checks"]["answers"]["ok"] is True
    await own_server.kill()
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})
    down = await client.get("/metrics")
    assert down.status_code == 200
    assert 'server_up{node="' in down.text


async def test_a_silent_server_is_answered_for_in_time(client: httpx.AsyncClient, own_server: EmbeddedServer) -> None:
    assert (await client.get("/healthz")).status_code == 200
    own_server.pause()
    try:
        assert (await client.get("/healthz", timeout=10)).status_code == 503
    finally:
        own_server.resume()


async def test_a_name_that_is_not_there_says_so() -> None:
    app = Starlette(routes=[health_route("redis")])
    async with asgi(app) as client:
        with pytest.raises(LookupError, match=r"app\.state\.redis"):
            await client.get("/healthz")
