"""The web service of the demo: four endpoints, three ways to limit them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection

from aredis_patterns.contrib.fastapi import RateLimit
from aredis_patterns.hub import Patterns
from aredis_patterns.ratelimit import FixedWindowLimiter, Limiter, SlidingWindowLogLimiter, TokenBucketLimiter

SLOW_SECONDS = 0.25

# Windows are long and the bucket refills slowly, so that a run of seconds has one exact answer.
LIMITS = {"hello": "5/hour", "api": "10/day burst 10", "search": "8/hour", "slow": "6/hour"}


def user_of(connection: HTTPConnection) -> str:
    """Whose bucket: a real service would take the user from its session or token."""
    return connection.headers.get("x-user", "anonymous")


def cost_of(connection: HTTPConnection) -> int:
    """What a request to /api costs: ?cost=3."""
    return int(connection.query_params.get("cost", "1"))


ALGORITHMS: dict[str, type[Limiter]] = {
    "hello": FixedWindowLimiter,
    "api": TokenBucketLimiter,
    "search": SlidingWindowLogLimiter,
    "slow": FixedWindowLimiter,
}


def make_limiters(patterns: Patterns) -> dict[str, Limiter]:
    """One limiter per endpoint. The deadline is generous: a busy laptop must not make the demo lie."""
    return {
        name: algorithm(patterns.client, LIMITS[name], namespace=patterns.namespace, name=name, deadline=5)
        for name, algorithm in ALGORITHMS.items()
    }


def make_app(patterns: Patterns) -> FastAPI:
    """The service on an open hub. `app.state.slow_started` counts requests that have reached the slow endpoint,
    which answers none while `app.state.slow_released` is clear."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        for name, limiter in app.state.limiters.items():
            setattr(app.state, name, limiter)
        yield

    app = FastAPI(title="aredis-patterns demo", lifespan=lifespan)
    app.state.limiters = make_limiters(patterns)
    app.state.slow_started = asyncio.Semaphore(0)
    app.state.slow_released = asyncio.Event()
    app.state.slow_released.set()

    @app.get("/hello", dependencies=[Depends(RateLimit("hello", key=user_of))])
    async def hello() -> dict[str, Any]:
        """5 per hour, counted in windows that begin with the first request."""
        return {"hello": "world"}

    @app.get("/api", dependencies=[Depends(RateLimit("api", key=user_of, cost=cost_of))])
    async def api(cost: int = 1) -> dict[str, Any]:
        """A bucket of 10 tokens; a request takes as many as it asks for."""
        return {"paid": cost}

    @app.get("/search", dependencies=[Depends(RateLimit("search", key=user_of))])
    async def search() -> dict[str, Any]:
        """8 in any hour, exactly."""
        return {"found": []}

    @app.get("/slow", dependencies=[Depends(RateLimit("slow", key=user_of))])
    async def slow() -> dict[str, Any]:
        """6 per hour, and each takes its time: clients hang up here."""
        app.state.slow_started.release()
        await app.state.slow_released.wait()
        await asyncio.sleep(SLOW_SECONDS)
        return {"done": True}

    return app
