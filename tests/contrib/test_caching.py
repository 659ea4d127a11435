"""Cached values over real HTTP: dependencies, stored bytes, validators."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Request, Response
from redis.asyncio import Redis

from aredis_patterns import Cache, RawResult
from aredis_patterns.contrib._http_caching import cache_headers, etag_of, is_not_modified
from aredis_patterns.contrib.fastapi import Cached, stored_response


@dataclass(frozen=True)
class User:
    name: str
    age: int


loads: list[Any] = []


async def load_user(user_id: int, verbose: bool = False) -> User:
    loads.append(user_id)
    return User(f"user {user_id} {verbose}", 36)


@pytest.fixture(autouse=True)
def no_loads() -> None:
    loads.clear()


def application(redis: Redis, namespace: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        async with Cache(redis, "users", ttl=100, jitter=0, model=User, namespace=namespace) as app.state.users:
            yield

    app = FastAPI(lifespan=lifespan)
    cached = Cached("users", load_user, key="user:{user_id}:{verbose}", tags=["users"])

    @app.get("/users/{user_id}")
    async def show(user: User = Depends(cached)) -> User:  # noqa: B008 - as FastAPI wants it
        return user

    @app.get("/raw/{user_id}")
    async def raw(request: Request, user_id: int) -> Response:
        return await stored_response(request, app.state.users, f"raw:{user_id}", lambda: load_user(user_id))

    return app


async def test_a_cached_dependency(serving: Any, redis_client: Redis, namespace: str) -> None:
    app = application(redis_client, namespace)
    async with serving(app) as client:
        for _ in range(3):
            answer = await client.get("/users/7?verbose=1")
            assert answer.json() == {"name": "user 7 True", "age": 36}
        assert (await client.get("/users/7")).json()["name"] == "user 7 False"
        assert (await client.get("/users/seven")).status_code == 422
        assert loads == [7, 7]
        await app.state.users.invalidate_tags("users")
        await client.get("/users/7")
        assert len(loads) == 3


async def test_a_cached_function_is_a_dependency(serving: Any, redis_client: Redis, namespace: str) -> None:
    users = Cache(redis_client, "users", ttl=100, model=User, namespace=namespace)
    get_user = users.cached("user:{user_id}")(load_user)
    app = FastAPI()

    @app.get("/users/{user_id}")
    async def show(user: User = Depends(get_user)) -> User:  # noqa: B008
        return user

    async with serving(app) as client:
        for _ in range(2):
            assert (await client.get("/users/7")).json() == {"name": "user 7 False", "age": 36}
        assert loads == [7]
        await users.aclose()


def test_templates_of_dependencies_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="nobody"):
        Cached("users", load_user, key="user:{nobody}")


async def test_stored_bytes_are_sent_as_they_are(serving: Any, redis_client: Redis, namespace: str) -> None:
    async with serving(application(redis_client, namespace)) as client:
        first = await client.get("/raw/7")
        again = await client.get("/raw/7")
        assert first.content == again.content == b'{"name":"user 7 False","age":36}'
        assert again.headers["content-type"] == "application/json"
        etag = again.headers["etag"]
        assert first.headers["etag"] == etag == etag_of(again.content)
        assert loads == [7]
        control = again.headers["cache-control"]
        assert control.startswith("private, max-age=") and 80 < int(control.partition("=")[2]) <= 100
        for claim in (etag, f'"other", W/{etag}', "*"):
            known = await client.get("/raw/7", headers={"if-none-match": claim})
            assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
        assert (await client.get("/raw/7", headers={"if-none-match": '"other"'})).status_code == 200


@pytest.mark.parametrize(
    ("status", "ttl", "shared", "expected"),
    [
        ("hit", 9.9, True, "public, max-age=9"),
        ("hit", 9.9, False, "private, max-age=9"),
        ("stale", -3.0, False, "private, no-cache"),
        ("uncached", 60.0, False, "private, no-cache"),
        ("hit", None, False, "private, no-cache"),
        ("hit", 0.5, False, "private, no-cache"),
    ],
)
def test_freshness(status: Any, ttl: float | None, shared: bool, expected: str) -> None:
    assert cache_headers(RawResult(b"{}", status, None, ttl), shared=shared)["Cache-Control"] == expected


def test_validators() -> None:
    assert etag_of(b"a") == etag_of(b"a") != etag_of(b"b")
    assert not is_not_modified(None, '"a"')
    assert not is_not_modified("a", '"a"')
