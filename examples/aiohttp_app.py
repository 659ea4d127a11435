"""An aiohttp service with limits per client, per user and per cost.

REDIS_URL=redis://localhost python -m examples.aiohttp_app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from aiohttp import web

from aredis_patterns import FixedWindowLimiter, Limiter, PipelinedRedis, SlidingWindowLogLimiter, TokenBucketLimiter
from aredis_patterns.contrib.aiohttp import by_header, by_ip, rate_limit_middleware, rate_limited

VISITORS = web.AppKey("visitors", Limiter)
TOKENS = web.AppKey("tokens", Limiter)
LOGINS = web.AppKey("logins", Limiter)


async def limiters(app: web.Application) -> AsyncIterator[None]:
    """One client for the process; it is closed when the service ends."""
    async with PipelinedRedis.from_url(os.environ.get("REDIS_URL", "redis://localhost")) as redis:
        app[VISITORS] = FixedWindowLimiter(redis, "60/minute", name="visitors", on_error="open")
        app[TOKENS] = TokenBucketLimiter(redis, "1000/hour burst 100", name="tokens")
        app[LOGINS] = SlidingWindowLogLimiter(redis, "5/minute", name="logins", on_error="closed")
        yield


async def home(_: web.Request) -> web.Response:
    """60 a minute from one address, for everything here; when Redis is down, everybody may come in."""
    return web.json_response({"hello": "world"})


def cost_of_question(request: web.Request) -> int:
    """Long questions cost more."""
    return 1 + len(request.query.get("text", "")) // 100


@rate_limited(TOKENS, key=by_header("x-api-key"), cost=cost_of_question)
async def ask(request: web.Request) -> web.StreamResponse:
    """A bucket of 100 tokens per API key; the headers say what is left."""
    return web.json_response({"paid": cost_of_question(request)})


@rate_limited(LOGINS, key=by_ip())
async def login(_: web.Request) -> web.StreamResponse:
    """5 in any minute, exactly; when Redis is down, nobody may try."""
    return web.json_response({"status": "checked"})


def make_app() -> web.Application:
    app = web.Application(middlewares=[rate_limit_middleware(VISITORS, key=by_ip())])
    app.cleanup_ctx.append(limiters)
    app.add_routes([web.get("/", home), web.get("/ask", ask), web.post("/login", login)])
    return app


if __name__ == "__main__":
    web.run_app(make_app())
