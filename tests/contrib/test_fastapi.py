"""The FastAPI dependency and the ASGI middleware, over real HTTP."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from redis.asyncio import Redis
from starlette.requests import HTTPConnection
from starlette.responses import StreamingResponse

from aredis_patterns import FixedWindowLimiter, MultiLimiter, PipelinedRedis
from aredis_patterns.contrib._limit_keys import with_route
from aredis_patterns.contrib.fastapi import RateLimit, RateLimitMiddleware, by_header, by_ip, by_route
from aredis_patterns.testing import FaultProxy, assert_round_trips


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


async def test_a_limit_as_text_needs_only_a_client_and_counts_per_route(
    serving: Any, redis_client: Redis, namespace: str
) -> None:
    app = FastAPI()
    app.state.redis = redis_client

    @app.get("/a/{n}", dependencies=[Depends(RateLimit("2/hour", namespace=namespace, deadline=5))])
    @app.get("/b", dependencies=[Depends(RateLimit("2/hour", namespace=namespace, deadline=5))])
    async def route() -> None: ...

    async with serving(app) as client:
        assert [(await client.get(f"/a/{n}")).status_code for n in range(3)] == [200, 200, 429]
        answer = await client.get("/b")
        assert answer.status_code == 200
        assert answer.headers["ratelimit-policy"] == '"2/hour";q=2;w=3600'


async def test_limits_of_one_name_count_together(serving: Any, redis_client: Redis, namespace: str) -> None:
    app = FastAPI()
    app.state.redis = redis_client

    def limit() -> Any:
        return Depends(RateLimit("2/hour", name="both", namespace=namespace, deadline=5))

    @app.get("/a", dependencies=[limit()])
    @app.get("/b", dependencies=[limit()])
    async def route() -> None: ...

    async with serving(app) as client:
        assert [(await client.get(path)).status_code for path in ("/a", "/b", "/a")] == [200, 200, 429]


@pytest.mark.parametrize("text", ["100 / fortnight", "many/minute", "0/minute", "", "5/minute burst 0"])
def test_nonsense_is_refused_when_the_application_is_defined(text: str) -> None:
    with pytest.raises(ValueError, match="limit"):
        RateLimit(text)


async def test_prefixes_and_mounts_never_share_a_bucket(serving: Any, redis_client: Redis, namespace: str) -> None:
    """One router, included and mounted in five places; parameters of prefixes and mounts are one place each."""
    router = APIRouter()
    seen: list[str] = []

    async def key(connection: HTTPConnection) -> str:
        found = by_route(lambda _: "me")(connection)
        text = str(await found if inspect.isawaitable(found) else found)
        seen.append(text)
        return text

    once = RateLimit("1/hour", key=key, name="once", redis=redis_client, namespace=namespace, deadline=5)

    @router.get("/items/{item}", dependencies=[Depends(once)])
    async def item(item: int) -> int:
        return item

    app, mounted = FastAPI(), FastAPI()
    for prefix in ("/v1", "/v2"):
        app.include_router(router, prefix=prefix)
    outer = APIRouter()
    outer.include_router(router, prefix="/in")
    app.include_router(outer, prefix="/out/{group}")
    mounted.include_router(router, prefix="/s")
    for place in ("/m1", "/m2", "/t/{tenant}"):
        app.mount(place, mounted)
    async with serving(app) as client:
        places = ["/v1", "/v2", "/out/a/in", "/m1/s", "/m2/s", "/t/acme/s"]
        assert [(await client.get(f"{place}/items/1")).status_code for place in places] == [200] * 6
        assert [(await client.get(f"{place}/items/2")).status_code for place in places] == [429] * 6
        assert (await client.get("/t/other/s/items/3")).status_code == 429
    assert len(set(seen)) == 6
    assert "GET /t/{tenant}/s/items/{item} me" in seen


async def test_one_round_trip_per_request(serving: Any, fault_proxy: FaultProxy, namespace: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as redis:
        app = FastAPI()
        app.state.redis = redis

        @app.get("/", dependencies=[Depends(RateLimit("3/hour", namespace=namespace, deadline=5))])
        async def home() -> None: ...

        async with serving(app) as client:
            await client.get("/")
            for status in (200, 200, 429):
                async with assert_round_trips(fault_proxy, 1, commands=1):
                    assert (await client.get("/")).status_code == status


async def test_a_mounted_application_finds_the_client_in_the_state_of_the_lifespan(
    serving: Any, redis_client: Redis, namespace: str
) -> None:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, Any], None]:
        yield {"redis": redis_client}

    app, mounted = FastAPI(lifespan=lifespan), FastAPI()

    @mounted.get("/", dependencies=[Depends(RateLimit("1/hour", namespace=namespace, deadline=5))])
    async def home() -> None: ...

    app.mount("/sub", mounted)
    async with serving(app) as client:
        assert [(await client.get("/sub/")).status_code for _ in range(2)] == [200, 429]


async def test_headers_by_choice(serving: Any, redis_client: Redis, namespace: str) -> None:
    app = FastAPI()
    app.state.redis = redis_client
    choices: list[Any] = ["draft", "legacy", "both", "none"]

    def add(choice: Any) -> None:
        limit = RateLimit("1/hour", headers=choice, namespace=namespace, deadline=5)

        @app.get(f"/{choice}", dependencies=[Depends(limit)])
        async def route() -> None: ...

    for choice in choices:
        add(choice)
    async with serving(app) as client:
        for choice in choices:
            allowed, refused = [await client.get(f"/{choice}") for _ in range(2)]
            assert ("ratelimit" in allowed.headers) is (choice in ("draft", "both"))
            assert ("x-ratelimit-limit" in allowed.headers) is (choice in ("legacy", "both"))
            assert refused.status_code == 429
            assert 0 < int(refused.headers["retry-after"]) <= 3600


async def test_several_limits_on_one_route(serving: Any, redis_client: Redis, namespace: str) -> None:
    limits = MultiLimiter(redis_client, {"requests": "3/hour", "tokens": "100/hour"}, namespace=namespace, deadline=5)

    def cost(connection: HTTPConnection) -> dict[str, int]:
        return {"requests": 1, "tokens": int(connection.query_params["tokens"])}

    app = FastAPI()

    @app.get("/", dependencies=[Depends(RateLimit(limits, key=by_ip(), cost=cost))])
    async def home() -> None: ...

    async with serving(app) as client:
        allowed = await client.get("/", params={"tokens": 60})
        assert allowed.headers["ratelimit-policy"] == '"requests";q=3;w=3600, "tokens";q=100;w=3600'
        refused = await client.get("/", params={"tokens": 60})
        assert refused.status_code == 429
        assert refused.json()["violated-policies"] == ["tokens"]
        assert (await client.get("/", params={"tokens": 40})).status_code == 200


async def test_an_empty_key_is_an_error_and_never_unlimited(serving: Any, limiter: FixedWindowLimiter) -> None:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(RateLimit(limiter, key=lambda _: ""))])
    async def home() -> None: ...

    async with serving(app) as client:
        assert (await client.get("/")).status_code == 500


async def test_trusted_proxies_are_believed_exactly_as_far(serving: Any, limiter: FixedWindowLimiter) -> None:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(RateLimit(limiter, key=by_ip(trusted_proxies=1)))])
    async def home() -> None: ...

    async with serving(app) as client:
        spoofed = [f"6.6.6.{n}, 10.0.0.1" for n in range(3)]
        codes = [(await client.get("/", headers={"x-forwarded-for": each})).status_code for each in spoofed]
        assert codes == [200, 200, 429]
        assert (await client.get("/", headers={"x-forwarded-for": "10.0.0.2"})).status_code == 200


async def asgi_websocket(app: Any) -> list[dict[str, Any]]:
    """What an application answers to a WebSocket, without a library that speaks it."""
    sent: list[dict[str, Any]] = []
    messages = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
    scope = {
        "type": "websocket",
        "path": "/ws",
        "raw_path": b"/ws",
        "root_path": "",
        "scheme": "ws",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "subprotocols": [],
        "state": {},
    }

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("way", ["dependency", "middleware"])
async def test_websockets_are_limited_before_they_are_accepted(limiter: FixedWindowLimiter, way: str) -> None:
    app = FastAPI()
    by_me = by_route(lambda _: "me") if way == "dependency" else by_ip()
    depends = [Depends(RateLimit(limiter, key=by_me))] if way == "dependency" else []

    @app.websocket("/ws", dependencies=depends)
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()

    if way == "middleware":
        app.add_middleware(RateLimitMiddleware, limiter=limiter, key=by_me)
    answers = [(await asgi_websocket(app))[0] for _ in range(3)]
    assert [answer["type"] for answer in answers] == ["websocket.accept", "websocket.accept", "websocket.close"]
    assert answers[2]["code"] == 1013


def test_a_mount_is_one_place_also_when_a_parameter_of_the_route_has_a_longer_name() -> None:
    class Route:
        path = "/items/{id2}"

    def name(tenant: str) -> Any:
        scope = {
            "type": "http",
            "method": "GET",
            "root_path": f"/t/{tenant}",
            "path_params": {"id": tenant, "id2": "7"},
            "route": Route,
        }
        return with_route(HTTPConnection(scope), "u")

    assert name("acme") == name("other") == "GET /t/{id}/items/{id2} u"
