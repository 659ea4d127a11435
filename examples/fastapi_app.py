"""A FastAPI service with limits per client, per user and per cost.

REDIS_URL=redis://localhost uvicorn examples.fastapi_app:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection

from aredis_patterns import (
    FixedWindowLimiter,
    PipelinedRedis,
    RateLimitResult,
    SlidingWindowLogLimiter,
    TokenBucketLimiter,
)
from aredis_patterns.contrib.fastapi import RateLimit, by_header, by_ip


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    async with PipelinedRedis.from_url(os.environ.get("REDIS_URL", "redis://localhost")) as redis:
        app.state.visitors = FixedWindowLimiter(redis, "60/minute", name="visitors", on_error="open")
        app.state.tokens = TokenBucketLimiter(redis, "1000/hour burst 100", name="tokens")
        app.state.logins = SlidingWindowLogLimiter(redis, "5/minute", name="logins", on_error="closed")
        yield


app = FastAPI(lifespan=lifespan)


def cost_of_question(request: HTTPConnection) -> int:
    """Long questions cost more."""
    return 1 + len(request.query_params.get("text", "")) // 100


@app.get("/", dependencies=[Depends(RateLimit("visitors", key=by_ip()))])
async def home() -> dict[str, str]:
    """60 a minute from one address; when Redis is down, everybody may come in."""
    return {"hello": "world"}


@app.get("/ask")
async def ask(
    limit: Annotated[RateLimitResult, Depends(RateLimit("tokens", key=by_header("x-api-key"), cost=cost_of_question))],
) -> dict[str, int]:
    """A bucket of 100 tokens per API key; the response says what is left."""
    return {"paid": limit.cost, "left": limit.remaining}


@app.post("/login", dependencies=[Depends(RateLimit("logins", key=by_ip()))])
async def login() -> dict[str, str]:
    """5 in any minute, exactly; when Redis is down, nobody may try."""
    return {"status": "checked"}
