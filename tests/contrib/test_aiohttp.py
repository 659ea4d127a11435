"""The aiohttp middleware and decorator, over real HTTP."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from aredis_patterns import FixedWindowLimiter, MultiLimiter, PipelinedRedis
from aredis_patterns.contrib.aiohttp import (
    add_rate_limit_headers,
    by_header,
    by_ip,
    by_route,
    rate_limit_middleware,
    rate_limited,
)


@pytest.fixture
def limiter(redis_client: Redis, namespace: str) -> FixedWindowLimiter:
    return FixedWindowLimiter(redis_client, "2/hour", namespace=namespace, name="web", deadline=5)


async def home(_: web.Request) -> web.StreamResponse:
    return web.json_response({"hello": "world"})


async def test_the_middleware(limiter: FixedWindowLimiter) -> None:
    app = web.Application(middlewares=[rate_limit_middleware(limiter, key=by_header("x-user"))])
    app.router.add_get("/", home)
    async with TestClient(TestServer(app)) as client:
        answers = [await client.get("/", headers={"x-user": "a"}) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert "r=1" in answers[0].headers["RateLimit"]
        assert answers[2].content_type == "application/problem+json"
        assert 0 < int(answers[2].headers["Retry-After"]) <= 3600
        assert (await client.get("/", headers={"x-user": "b"})).status == 200


async def test_the_decorator(limiter: FixedWindowLimiter) -> None:
    app = web.Application()
    app.router.add_get("/", rate_limited(limiter, key=by_ip(), cost=2)(home))
    app.router.add_get("/free", home)
    async with TestClient(TestServer(app)) as client:
        assert [(await client.get("/")).status for _ in range(2)] == [200, 429]
        assert (await client.get("/free")).status == 200


async def test_redis_down_is_503() -> None:
    async with PipelinedRedis(host="127.0.0.1", port=1) as redis:
        down = FixedWindowLimiter(redis, "2/hour", deadline=0.1)
        app = web.Application(middlewares=[rate_limit_middleware(down)])
        app.router.add_get("/", home)
        async with TestClient(TestServer(app)) as client:
            answer = await client.get("/")
            assert answer.status == 503
            assert answer.content_type == "application/problem+json"


async def test_routes_headers_and_several_limits(redis_client: Redis, namespace: str) -> None:
    limits = MultiLimiter(redis_client, {"requests": "2/hour", "tokens": "9/hour"}, namespace=namespace, deadline=5)
    app = web.Application()
    limited = rate_limited(limits, key=by_route(), cost={"requests": 1, "tokens": 5}, headers="both")(home)
    app.router.add_get("/items/{item}", limited)
    async with TestClient(TestServer(app)) as client:
        allowed, refused = await client.get("/items/1"), await client.get("/items/2")
        assert (allowed.status, refused.status) == (200, 429)
        assert allowed.headers["X-RateLimit-Limit"] == "9"
        assert (await refused.json(content_type=None))["violated-policies"] == ["tokens"]


async def test_streams_get_their_headers_when_they_are_prepared(limiter: FixedWindowLimiter) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(10):
            await response.write(f"{number}".encode())
        return response

    app = web.Application(middlewares=[rate_limit_middleware(limiter)])
    app.on_response_prepare.append(add_rate_limit_headers)
    app.router.add_get("/", stream)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/")
        assert await answer.text() == "0123456789"
        assert len(answer.headers.getall("RateLimit")) == 1
