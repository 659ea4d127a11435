"""Locks around handlers, over real HTTP: released when the handler ends, 409 or 423 when it is taken."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from fastapi import FastAPI, Request
from redis.asyncio import Redis
from starlette.responses import StreamingResponse

from aredis_patterns import Lease, Lock, PipelinedRedis, Semaphore
from aredis_patterns.contrib import aiohttp as aiohttp_glue
from aredis_patterns.contrib.fastapi import locked


@pytest.fixture
async def redis(redis_url: str) -> Any:
    async with PipelinedRedis.from_url(redis_url) as client:
        yield client


async def test_fastapi_holds_the_lock_while_the_handler_runs(serving: Any, redis: Redis, namespace: str) -> None:
    app = FastAPI()
    inside, go_on = asyncio.Event(), asyncio.Event()

    def order_lock(request: Request) -> Lock:
        return Lock(redis, f"order:{request.path_params['order']}", namespace=namespace)

    @app.post("/orders/{order}")
    async def pay(order: int, lease: Lease = locked(order_lock, status=423, retry_after=3)) -> int:  # noqa: B008 - how FastAPI is told
        assert lease.held
        inside.set()
        await go_on.wait()
        return lease.fencing_token

    async with serving(app) as client:
        first = asyncio.create_task(client.post("/orders/1"))
        await inside.wait()
        busy = await client.post("/orders/1")
        assert (busy.status_code, busy.headers["retry-after"]) == (423, "3")
        assert "another request" in busy.json()["detail"]
        go_on.set()
        assert (await first).status_code == 200
        assert (await client.post("/orders/1")).json() > (await first).json()
        assert not await Lock(redis, "order:1", namespace=namespace).locked()


async def test_fastapi_releases_before_the_response_is_sent(serving: Any, redis: Redis, namespace: str) -> None:
    app = FastAPI()
    lock = Lock(redis, "a", namespace=namespace)
    seen: list[bool] = []

    @app.get("/", dependencies=[locked(lambda _: lock)])
    async def stream() -> StreamingResponse:
        seen.append(await lock.locked())

        async def chunks() -> Any:
            seen.append(await lock.locked())
            yield b"chunk"

        return StreamingResponse(chunks())

    async with serving(app) as client:
        assert (await client.get("/")).content == b"chunk"
    assert seen == [True, False]


async def test_fastapi_answers_503_when_the_lock_is_lost_or_redis_is_away(
    serving: Any, redis: Redis, namespace: str
) -> None:
    app = FastAPI()
    lock = Lock(redis, "a", ttl=0.2, auto_renew=False, namespace=namespace)

    @app.get("/lost", dependencies=[locked(lambda _: lock)])
    async def lost() -> None:
        await asyncio.sleep(30)

    @app.get("/error", dependencies=[locked(lambda _: lock)])
    async def error() -> None:
        raise TimeoutError("its own")

    async with PipelinedRedis(host="127.0.0.1", port=1) as nobody:

        @app.get("/away", dependencies=[locked(lambda _: Semaphore(nobody, "s", 1))])
        async def away() -> None: ...

        async with serving(app) as client:
            for path in ("/lost", "/away"):
                answer = await client.get(path)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert (await client.get("/error")).status_code == 500
    assert not await lock.locked()


async def test_aiohttp(redis: Redis, namespace: str) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()
    lock = Lock(redis, "a", namespace=namespace)

    @aiohttp_glue.locked(lambda request: lock, timeout=0.02)
    async def pay(_: web.Request) -> web.StreamResponse:
        inside.set()
        await go_on.wait()
        return web.Response(text="paid")

    @aiohttp_glue.locked(lambda request: Lock(redis, "b", ttl=0.2, auto_renew=False, namespace=namespace))
    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/", pay), web.get("/slow", slow)])
    async with TestClient(TestServer(app)) as client:
        first = asyncio.create_task(client.get("/"))
        await inside.wait()
        busy = await client.get("/")
        assert (busy.status, busy.headers["Retry-After"]) == (409, "1")
        go_on.set()
        assert await (await first).text() == "paid"
        assert not await lock.locked()
        assert (await client.get("/slow")).status == 503


@pytest.mark.parametrize("glue", [locked, aiohttp_glue.locked])
def test_other_statuses_are_refused(glue: Any) -> None:
    with pytest.raises(ValueError, match="409"):
        glue(lambda request: None, status=500)
