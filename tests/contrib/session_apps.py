"""The same small application twice: FastAPI behind uvicorn, and aiohttp's server. And a browser that visits them."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from aiohttp import ClientSession, ClientWebSocketResponse, web
from fastapi import Depends, FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import RedirectResponse, StreamingResponse

from aredis_patterns import SessionStore
from aredis_patterns.contrib import aiohttp as for_aiohttp
from aredis_patterns.contrib.fastapi import (
    CurrentSession,
    CurrentUser,
    RequestSession,
    SessionCookie,
    SessionMiddleware,
    csrf_protected,
)


@dataclass
class Gate:
    """Where a slow request waits."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def pass_through(self) -> None:
        self.reached.set()
        await self.open.wait()


async def act(action: str, session: RequestSession[Any], query: Any, gate: Gate) -> Any:
    """What a request does; the same for both frameworks."""
    if action == "home":
        return {"user": session.user_id, "cart": session.data.get("cart", [])}
    if action == "put":
        session.data.setdefault("cart", []).append(query["item"])
    elif action == "slow":
        session.data.setdefault("cart", [])
        await gate.pass_through()
        session.data["cart"].append(query["item"])
    elif action in ("slow-logout", "slow-rotate"):
        await gate.pass_through()
        if action == "slow-logout":
            await session.logout()
        else:
            await session.rotate(grace=30)
            session.data["cart"] = ["late"]
    elif action == "note":
        session.data[query["name"]] = query["value"]
    elif action == "show":
        return dict(session.data)
    elif action == "login":
        await session.login(query["user"], meta={"agent": query.get("agent", "?")})
    elif action == "logout":
        await session.logout()
    elif action == "logout-everywhere":
        return await session.logout_everywhere(keep_this="keep" in query)
    elif action == "rotate":
        await session.rotate(grace=float(query.get("grace", 0)))
    elif action == "devices":
        user = session.user_id
        return [info.meta for info in await session.store.list(user)] if user else []
    elif action == "csrf":
        return await session.csrf_token()
    elif action == "fail":
        session.data["cart"] = ["never"]
        raise RuntimeError("a bug")
    elif action == "unwritable":
        session.data["cart"] = object()
    return "done"


def fastapi_app(store: SessionStore[Any], gate: Gate, cookie: SessionCookie | None) -> FastAPI:
    app = FastAPI()
    app.state.sessions = store
    app.add_middleware(SessionMiddleware, store="sessions", cookie=cookie)

    @app.api_route("/do/{action}", methods=["GET", "POST"])
    async def do(action: str, request: Request, session: CurrentSession) -> Any:
        return await act(action, session, request.query_params, gate)

    @app.get("/static")
    async def static() -> str:
        return "the same for everybody"

    @app.get("/account")
    async def account(user_id: CurrentUser) -> str:
        return user_id

    @app.post("/transfer", dependencies=[Depends(csrf_protected)])
    async def transfer() -> str:
        return "done"

    @app.post("/redirect")
    async def redirect(request: Request, session: CurrentSession) -> RedirectResponse:
        await session.login(request.query_params["user"])
        return RedirectResponse("/do/home", 303)

    @app.get("/stream")
    async def stream(session: CurrentSession, slow: bool = False) -> StreamingResponse:
        session.data["cart"] = ["streamed"]

        async def body() -> AsyncGenerator[str, None]:
            for number in range(3):
                yield f"{number}\n"
            if slow:
                await gate.pass_through()
                session.data["cart"] = ["never"]
                await session.save()

        return StreamingResponse(body())

    @app.websocket("/ws")
    async def ws(websocket: WebSocket, session: CurrentSession) -> None:
        await websocket.accept()
        await websocket.send_text(f"hello {session.user_id}")
        try:
            while (text := await websocket.receive_text()) != "save":
                await websocket.send_text(text)
            session.data["cart"] = ["saved"]
            await session.save()
        except WebSocketDisconnect:
            app.state.disconnected = True

    @app.get("/disconnected")
    async def disconnected() -> bool:
        return bool(getattr(app.state, "disconnected", False))

    return app


def aiohttp_app(store: SessionStore[Any], gate: Gate, cookie: SessionCookie | None) -> web.Application:
    app = web.Application()
    key = web.AppKey("sessions", SessionStore)
    app[key] = store
    for_aiohttp.setup_sessions(app, key, cookie=cookie)
    seen: dict[str, bool] = {}

    async def do(request: web.Request) -> web.Response:
        session = for_aiohttp.current_session(request)
        return web.json_response(await act(request.match_info["action"], session, request.query, gate))

    async def static(_: web.Request) -> web.Response:
        return web.json_response("the same for everybody")

    async def account(request: web.Request) -> web.Response:
        user = for_aiohttp.current_session(request).user_id
        if user is None:
            raise web.HTTPUnauthorized
        return web.json_response(user)

    @for_aiohttp.csrf_protected
    async def transfer(_: web.Request) -> web.StreamResponse:
        return web.json_response("done")

    async def redirect(request: web.Request) -> web.Response:
        await for_aiohttp.current_session(request).login(request.query["user"])
        raise web.HTTPSeeOther("/do/home")

    async def stream(request: web.Request) -> web.StreamResponse:
        for_aiohttp.current_session(request).data["cart"] = ["streamed"]
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(3):
            await response.write(f"{number}\n".encode())
        if "slow" in request.query:
            await gate.pass_through()
            for_aiohttp.current_session(request).data["cart"] = ["never"]
            await for_aiohttp.current_session(request).save()
        return response

    async def prepared(request: web.Request) -> web.StreamResponse:
        for_aiohttp.current_session(request).data["cart"] = ["prepared"]
        response = web.Response(text="done")
        await response.prepare(request)
        return response

    async def ws(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(f"hello {for_aiohttp.current_session(request).user_id}")
        async for message in socket:
            if message.data == "save":
                for_aiohttp.current_session(request).data["cart"] = ["saved"]
                await for_aiohttp.current_session(request).save()
            else:
                await socket.send_str(message.data)
        seen["disconnected"] = True
        return socket

    async def disconnected(_: web.Request) -> web.Response:
        return web.json_response(seen.get("disconnected", False))

    app.router.add_route("*", "/do/{action}", do)
    app.add_routes([web.get("/static", static), web.get("/account", account), web.post("/transfer", transfer)])
    app.add_routes([web.post("/redirect", redirect), web.get("/stream", stream), web.get("/ws", ws)])
    app.add_routes([web.get("/disconnected", disconnected), web.get("/prepared", prepared)])
    return app


@dataclass
class Site:
    """A running application."""

    url: str
    gate: Gate
    store: SessionStore[Any]

    @asynccontextmanager
    async def browser(self) -> AsyncGenerator[Browser, None]:
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as client:
            yield Browser(client)


class Browser:
    """Keeps cookies as a browser does on localhost, where it sends Secure ones."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.cookies: dict[str, str] = {}
        self.last_set: list[str] = []

    @property
    def token(self) -> str | None:
        return next(iter(self.cookies.values()), None)

    @property
    def cookie_header(self) -> dict[str, str]:
        return {"cookie": "; ".join(f"{n}={v}" for n, v in self.cookies.items())} if self.cookies else {}

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        options["headers"] = self.cookie_header | options.get("headers", {})
        response = await self.client.request(method, path, **options)
        self.last_set = response.headers.get_list("set-cookie")
        for line in self.last_set:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies.pop(name, None)
            if "Max-Age=0" not in line:
                self.cookies[name] = value
        return response

    async def do(self, action: str, method: str = "POST", **query: str) -> Any:
        """An action that works."""
        response = await self.request(method, f"/do/{action}", params=query)
        assert response.status_code == 200, response.text
        return response.json()

    async def home(self) -> Any:
        return await self.do("home", "GET")

    @asynccontextmanager
    async def websocket(self) -> AsyncGenerator[ClientWebSocketResponse, None]:
        async with (
            ClientSession() as http,
            http.ws_connect(str(self.client.base_url.join("/ws")), headers=self.cookie_header) as connected,
        ):
            yield connected


@asynccontextmanager
async def serve(framework: str, store: SessionStore[Any], cookie: SessionCookie | None) -> AsyncGenerator[Site, None]:
    """The application of that framework on a free port."""
    gate = Gate()
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    if framework == "aiohttp":
        runner = web.AppRunner(aiohttp_app(store, gate, cookie), shutdown_timeout=1)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        try:
            yield Site(url, gate, store)
        finally:
            await runner.cleanup()
        return
    ws = "websockets-sansio" if importlib.util.find_spec("websockets") else "none"
    server = uvicorn.Server(uvicorn.Config(fastapi_app(store, gate, cookie), log_level="critical", ws=ws))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.005)
    try:
        yield Site(url, gate, store)
    finally:
        server.should_exit = True
        await task
        listener.close()
