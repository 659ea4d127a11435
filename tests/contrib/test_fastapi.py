"""The FastAPI dependency and the ASGI middleware, over real HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from redis.asyncio import Redis
from starlette.responses import StreamingResponse

from aredis_patterns import FixedWindowLimiter, PipelinedRedis
from aredis_patterns.contrib.fastapi import RateLimit, RateLimitMiddleware, by_header, by_ip, by_route


@pytest.fixture
def limiter(redis_client: Redis, namespace: str) -> FixedWindowLimiter:
    return FixedWindowLimiter(redis_client, "2/hour", namespace=namespace, name="web", deadline=5)


async def test_allowed_and_refused(serving: Any, limiter: FixedWindowLimiter) -> None:
    app = FastAPI()
    app.state.web = limiter

    @app.get("/", dependencies=[Depends(RateLimit("web", key=by_header("x-user")))])
    async def home() -> dict[str, str]:
        return {"hello": "world"}

    async with serving(app) as client:
        answers = [await client.get("/", headers={"x-user": "a"}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert "r=1" in answers[0].headers["ratelimit"]
        assert '"web"' in answers[0].headers["ratelimit-policy"]
        refused = answers[2]
        assert 0 < int(refused.headers["retry-after"]) <= 3600
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["status"] == 429
        assert (await client.get("/", headers={"x-user": "b"})).status_code == 200


async def test_redis_down_is_503_and_not_a_traceback(serving: Any) -> None:
    app = FastAPI()
    async with PipelinedRedis(host="127.0.0.1", port=1) as redis:
        down = FixedWindowLimiter(redis, "2/hour", deadline=0.1)

        @app.get("/", dependencies=[Depends(RateLimit(down))])
        async def home() -> dict[str, str]:
            return {"hello": "world"}

        async with serving(app) as client:
            answer = await client.get("/")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"] == "application/problem+json"


async def test_routes_with_parameters_share_a_bucket(serving: Any, limiter: FixedWindowLimiter) -> None:
    app = FastAPI()

    @app.get("/items/{item}", dependencies=[Depends(RateLimit(limiter, key=by_route()))])
    async def item(item: int) -> int:
        return item

    async with serving(app) as client:
        assert [(await client.get(f"/items/{n}")).status_code for n in range(3)] == [200, 200, 429]


async def test_forwarded_for_is_ignored_unless_proxies_are_trusted(serving: Any, limiter: FixedWindowLimiter) -> None:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(RateLimit(limiter, key=by_ip()))])
    async def home() -> None: ...

    async with serving(app) as client:
        codes = [(await client.get("/", headers={"x-forwarded-for": f"10.0.0.{n}"})).status_code for n in range(3)]
    assert codes == [200, 200, 429]


async def test_the_middleware_leaves_streams_alone(serving: Any, limiter: FixedWindowLimiter) -> None:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, limiter=limiter, key=by_ip())

    @app.get("/")
    async def stream() -> StreamingResponse:
        async def chunks():
            for number in range(10):
                yield f"{number}\n"

        return StreamingResponse(chunks())

    async with serving(app) as client:
        answer = await client.get("/")
        assert answer.text == "".join(f"{number}\n" for number in range(10))
        assert len(answer.headers.get_list("ratelimit")) == 1
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/")).status_code == 429


def test_a_websocket_route_accepts_the_dependency(limiter: FixedWindowLimiter) -> None:
    app = FastAPI()

    @app.websocket("/ws", dependencies=[Depends(RateLimit(limiter))])
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()

    assert app.routes


async def test_a_key_function_that_fails_is_not_an_outage(serving: Any, limiter: FixedWindowLimiter) -> None:
    def broken(_: object) -> str:
        raise FileNotFoundError("users.db")

    app = FastAPI()

    @app.get("/", dependencies=[Depends(RateLimit(limiter, key=broken))])
    async def home() -> None: ...

    async with serving(app) as client:
        assert (await client.get("/")).status_code == 500
