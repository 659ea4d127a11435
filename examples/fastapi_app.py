"""A FastAPI service with limits per client, per user and per cost, with sessions, news as server-sent events, and chat rooms.

REDIS_URL=redis://localhost uvicorn examples.fastapi_app:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Body, Depends, FastAPI, Request, WebSocket
from starlette.requests import HTTPConnection

from aredis_patterns import (
    FixedWindowLimiter,
    PipelinedRedis,
    PubSub,
    RateLimitResult,
    SessionStore,
    SlidingWindowLogLimiter,
    TokenBucketLimiter,
    Topic,
)
from aredis_patterns.contrib.fastapi import (
    CurrentSession,
    CurrentUser,
    EventStream,
    RateLimit,
    SessionMiddleware,
    by_header,
    by_ip,
    csrf_protected,
    last_event_id,
    pump_websocket,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    async with PipelinedRedis.from_url(os.environ.get("REDIS_URL", "redis://localhost")) as redis:
        app.state.visitors = FixedWindowLimiter(redis, "60/minute", name="visitors", on_error="open")
        app.state.tokens = TokenBucketLimiter(redis, "1000/hour burst 100", name="tokens")
        app.state.logins = SlidingWindowLogLimiter(redis, "5/minute", name="logins", on_error="closed")
        app.state.sessions = SessionStore(redis, idle_timeout=1800, absolute_timeout=8 * 3600, max_per_user=5)
        app.state.news = Topic(redis, "news", maxlen=1000)
        async with PubSub(redis) as app.state.rooms:
            yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(SessionMiddleware, store="sessions")


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
async def login(
    request: Request, session: CurrentSession, name: Annotated[str, Body(embed=True)] = "guest"
) -> dict[str, str]:
    """5 in any minute, exactly; when Redis is down, nobody may try. Yours asks for a password here.

    The token changes, so nobody can plant one; what was in the cart before stays there.
    """
    await session.login(name, meta={"agent": request.headers.get("user-agent", "")})
    return {"user": name, "csrf_token": await session.csrf_token()}


@app.post("/cart/{item}")
async def put(item: str, session: CurrentSession) -> list[str]:
    """A visitor's first item begins a session; before that, there is neither a key nor a cookie."""
    cart: list[str] = session.data.setdefault("cart", [])
    cart.append(item)
    return cart


@app.get("/account")
async def account(user: CurrentUser, session: CurrentSession) -> dict[str, object]:
    """401 for a visitor. `devices` is what this user can see, and log out, anywhere."""
    devices = [{**info.meta, "last_seen": info.last_seen_at.isoformat()} for info in await session.store.list(user)]
    return {"user": user, "cart": session.data.get("cart", []), "devices": devices}


@app.post("/logout", dependencies=[Depends(csrf_protected)])
async def logout(session: CurrentSession, everywhere: bool = False) -> dict[str, str]:
    """Needs the CSRF token that login gave, so no other site can do it. A slow request cannot bring the session back."""
    await (session.logout_everywhere() if everywhere else session.logout())
    return {"status": "logged out"}


@app.post("/news")
async def publish(request: Request, text: str) -> dict[str, int]:
    """To everybody who listens now, and to those who come back later."""
    return {"number": (await request.app.state.news.publish({"text": text})).number}


@app.get("/news")
async def news(request: Request) -> EventStream:
    """Server-sent events. A browser whose connection was cut reads on where it was; what is gone by then is a gap."""
    return EventStream(request.app.state.news.subscribe(last_event_id(request)))


@app.websocket("/rooms/{room}")
async def chat(websocket: WebSocket, room: str) -> None:
    """Everybody in the room hears what is said in it, in whichever process. One Redis connection for all of them."""
    rooms: PubSub[str] = websocket.app.state.rooms
    await pump_websocket(websocket, rooms.subscribe(room), on_text=lambda text: rooms.publish(room, text))
