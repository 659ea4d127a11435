"""A FastAPI application with one route twice: as it is, and limited. `REDIS_URL=... python -m benchmarks._limited_app PORT`."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import Depends, FastAPI

from aredis_patterns import PipelinedRedis
from aredis_patterns.contrib.fastapi import RateLimit, by_header


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    async with PipelinedRedis.from_url(os.environ["REDIS_URL"]) as redis:
        app.state.redis = redis
        yield


app = FastAPI(lifespan=lifespan)


async def work(item: int = 1) -> dict[str, int]:
    """Next to nothing, so that the limiter is as large a part as it can be."""
    return {"item": item}


app.get("/plain")(work)
limit = RateLimit("1000000000/day", key=by_header("x-user"), deadline=30)
app.get("/limited", dependencies=[Depends(limit)])(work)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", timeout_keep_alive=600)
