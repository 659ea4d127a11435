"""An aiohttp service with limits per client, per user and per cost, with sessions, news as server-sent events, and chat rooms.

REDIS_URL=redis://localhost python -m examples.aiohttp_app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from aredis_patterns import (
    FixedWindowLimiter,
    Limiter,
    PipelinedRedis,
    PubSub,
    SessionStore,
    SlidingWindowLogLimiter,
    TokenBucketLimiter,
    Topic,
)
from aredis_patterns.contrib.aiohttp import (
    by_header,
    by_ip,
    csrf_protected,
    current_session,
    event_stream,
    last_event_id,
    pump_websocket,
    rate_limit_middleware,
    rate_limited,
    setup_sessions,
)

VISITORS = web.AppKey("visitors", Limiter)
TOKENS = web.AppKey("tokens", Limiter)
LOGINS = web.AppKey("logins", Limiter)
SESSIONS = web.AppKey("sessions", SessionStore)
NEWS = web.AppKey("news", Topic[Any])
ROOMS = web.AppKey("rooms", PubSub[Any])


async def patterns(app: web.Application) -> AsyncIterator[None]:
    """One client for the process; it is closed when the service ends."""
    async with PipelinedRedis.from_url(os.environ.get("REDIS_URL", "redis://localhost")) as redis:
        app[VISITORS] = FixedWindowLimiter(redis, "60/minute", name="visitors", on_error="open")
        app[TOKENS] = TokenBucketLimiter(redis, "1000/hour burst 100", name="tokens")
        app[LOGINS] = SlidingWindowLogLimiter(redis, "5/minute", name="logins", on_error="closed")
        app[SESSIONS] = SessionStore(redis, idle_timeout=1800, absolute_timeout=8 * 3600, max_per_user=5)
        app[NEWS] = Topic(redis, "news", maxlen=1000)
        async with PubSub(redis) as app[ROOMS]:
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
async def login(request: web.Request) -> web.StreamResponse:
    """5 in any minute, exactly; when Redis is down, nobody may try. Yours asks for a password here.

    The token changes, so nobody can plant one; what was in the cart before stays there.
    """
    name: str = (await request.json())["name"] if request.can_read_body else "guest"
    session = current_session(request)
    await session.login(name, meta={"agent": request.headers.get("User-Agent", "")})
    return web.json_response({"user": name, "csrf_token": await session.csrf_token()})


async def put(request: web.Request) -> web.Response:
    """A visitor's first item begins a session; before that, there is neither a key nor a cookie."""
    cart: list[str] = current_session(request).data.setdefault("cart", [])
    cart.append(request.match_info["item"])
    return web.json_response(cart)


async def account(request: web.Request) -> web.Response:
    """401 for a visitor. `devices` is what this user can see, and log out, anywhere."""
    session = current_session(request)
    if session.user_id is None:
        raise web.HTTPUnauthorized(text="not logged in")
    listed = await session.store.list(session.user_id)
    devices = [{**info.meta, "last_seen": info.last_seen_at.isoformat()} for info in listed]
    return web.json_response({"user": session.user_id, "cart": session.data.get("cart", []), "devices": devices})


@csrf_protected
async def logout(request: web.Request) -> web.StreamResponse:
    """Needs the CSRF token that login gave, so no other site can do it. A slow request cannot bring the session back."""
    session = current_session(request)
    await (session.logout_everywhere() if "everywhere" in request.query else session.logout())
    return web.json_response({"status": "logged out"})


async def publish(request: web.Request) -> web.StreamResponse:
    """To everybody who listens now, and to those who come back later."""
    return web.json_response({"number": (await request.app[NEWS].publish({"text": request.query["text"]})).number})


async def news(request: web.Request) -> web.StreamResponse:
    """Server-sent events. A browser whose connection was cut reads on where it was; what is gone by then is a gap."""
    return await event_stream(request, request.app[NEWS].subscribe(last_event_id(request)))


async def chat(request: web.Request) -> web.StreamResponse:
    """Everybody in the room hears what is said in it, in whichever process. One Redis connection for all of them."""
    rooms, room = request.app[ROOMS], request.match_info["room"]
    return await pump_websocket(request, rooms.subscribe(room), on_text=lambda text: rooms.publish(room, text))


def make_app() -> web.Application:
    app = web.Application(middlewares=[rate_limit_middleware(VISITORS, key=by_ip())])
    app.cleanup_ctx.append(patterns)
    setup_sessions(app, SESSIONS)
    app.add_routes([web.get("/", home), web.get("/ask", ask), web.post("/login", login)])
    app.add_routes([web.post("/cart/{item}", put), web.get("/account", account), web.post("/logout", logout)])
    app.add_routes([web.post("/news", publish), web.get("/news", news), web.get("/rooms/{room}", chat)])
    return app


if __name__ == "__main__":
    web.run_app(make_app())
