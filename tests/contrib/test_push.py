"""Server-sent events and WebSockets over real HTTP: what arrives, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import ClientSession, WSMsgType, web
from aiohttp.test_utils import TestServer
from fastapi import FastAPI, Request, WebSocket
from redis.asyncio import Redis

from aredis_patterns import Event, Gap, PubSub, Topic
from aredis_patterns.contrib import aiohttp as for_aiohttp
from aredis_patterns.contrib._push import sse_frame
from aredis_patterns.contrib.fastapi import EventStream, last_event_id, pump_websocket
from aredis_patterns.pipelining import lane_of


def parse(text: str) -> list[dict[str, str]]:
    """The events of a stream, as a browser reads them."""
    events: list[dict[str, str]] = []
    for block in text.split("\n\n"):
        event: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            if name:
                event[name] = f"{event[name]}\n{value}" if name in event else value
        if event:
            events.append(event)
    return events


@asynccontextmanager
async def asgi_app(serving: Any, pubsub: PubSub[Any], topic: Topic[Any]) -> AsyncIterator[str]:
    app = FastAPI()

    @app.get("/events")
    async def events() -> EventStream:
        return EventStream(pubsub.subscribe("news", buffer=2), heartbeat=0.05)

    @app.get("/topic")
    async def history(request: Request) -> EventStream:
        return EventStream(topic.subscribe(last_event_id(request, default="all")), headers={"X-More": "yes"})

    async with serving(app) as client:
        yield str(client.base_url).rstrip("/")


@asynccontextmanager
async def aiohttp_app(pubsub: PubSub[Any], topic: Topic[Any]) -> AsyncIterator[str]:
    async def events(request: web.Request) -> web.StreamResponse:
        return await for_aiohttp.event_stream(request, pubsub.subscribe("news", buffer=2), heartbeat=0.05)

    async def history(request: web.Request) -> web.StreamResponse:
        start = for_aiohttp.last_event_id(request, default="all")
        return await for_aiohttp.event_stream(request, topic.subscribe(start))

    async def room(request: web.Request) -> web.StreamResponse:
        return await for_aiohttp.pump_websocket(
            request, pubsub.subscribe("room"), on_text=lambda text: pubsub.publish("room", text)
        )

    app = web.Application()
    app.add_routes([web.get("/events", events), web.get("/topic", history), web.get("/room", room)])
    async with TestServer(app) as server:
        yield str(server.make_url("/")).rstrip("/")


@pytest.fixture
async def pubsub(redis_client: Redis, namespace: str) -> AsyncGenerator[PubSub[Any], None]:
    async with PubSub(redis_client, namespace=namespace, linger=0) as pubsub:
        yield pubsub
    await lane_of(redis_client).aclose()


@pytest.fixture
def topic(redis_client: Redis, namespace: str) -> Topic[Any]:
    return Topic(redis_client, "t", namespace=namespace, maxlen=5)


@pytest.fixture(params=["asgi", "aiohttp"])
async def address(
    request: pytest.FixtureRequest, serving: Any, pubsub: PubSub[Any], topic: Topic[Any]
) -> AsyncGenerator[str, None]:
    manager = asgi_app(serving, pubsub, topic) if request.param == "asgi" else aiohttp_app(pubsub, topic)
    async with manager as found:
        yield found


async def nobody_listens(pubsub: PubSub[Any]) -> None:
    async with asyncio.timeout(10):
        while pubsub.statistics().subscriptions:
            await asyncio.sleep(0.01)


async def test_events_arrive_and_a_client_that_leaves_is_forgotten(address: str, pubsub: PubSub[Any]) -> None:
    async with httpx.AsyncClient(base_url=address) as client, client.stream("GET", "/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert "no-store" in response.headers["cache-control"]
        chunks = response.aiter_text()
        assert await pubsub.publish("news", {"n": 1}) == 1
        text = ""
        while "data" not in text or "keep-alive" not in text:  # what is published, and what keeps the line open
            text += await anext(chunks)
        assert {"data": '{"n":1}'} in parse(text)
    await nobody_listens(pubsub)


async def test_closing_pubsub_ends_the_stream(address: str, pubsub: PubSub[Any]) -> None:
    async with httpx.AsyncClient(base_url=address) as client, client.stream("GET", "/events") as response:
        await pubsub.aclose()
        async with asyncio.timeout(10):
            async for _ in response.aiter_text():
                pass


async def test_a_browser_that_comes_back_reads_on_where_it_was(address: str, topic: Topic[Any]) -> None:
    await topic.publish_many(["a", "line 1\nline 2\r\nline 3\u2028same line"])

    async def read(count: int, headers: dict[str, str]) -> list[dict[str, str]]:
        async with (
            httpx.AsyncClient(base_url=address) as client,
            client.stream("GET", "/topic", headers=headers) as response,
        ):
            text = ""
            async for chunk in response.aiter_text():
                text += chunk
                if text.count("\n\n") >= count:
                    break
            return parse(text)

    first, second = await read(2, {"Last-Event-ID": "nonsense"})
    assert [json.loads(first["data"]), json.loads(second["data"])] == ["a", "line 1\nline 2\r\nline 3\u2028same line"]
    await topic.publish("b")
    assert [event["data"] for event in await read(1, {"Last-Event-ID": second["id"]})] == ['"b"']
    await topic.publish_many(range(9))
    gap, *rest = await read(6, {"Last-Event-ID": second["id"]})
    assert gap == {"event": "gap", "data": '{"reason": "trimmed", "missed": 5, "channel": "t"}'}
    assert [event["data"] for event in rest] == ["4", "5", "6", "7", "8"]


@pytest.mark.parametrize("path", ["/events", "/topic"])
@pytest.mark.parametrize("kind", ["asgi", "aiohttp"])
async def test_a_subscription_that_fails_is_503(serving: Any, kind: str, path: str) -> None:
    async with Redis(port=1) as nobody:
        parts = PubSub(nobody), Topic(nobody, "t")
        manager = asgi_app(serving, *parts) if kind == "asgi" else aiohttp_app(*parts)
        async with manager as address, httpx.AsyncClient(base_url=address) as client:
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["status"]) == (503, 503)
            assert answer.headers["retry-after"] == "1"


async def test_a_websocket_of_aiohttp(pubsub: PubSub[Any], topic: Topic[Any]) -> None:
    async with aiohttp_app(pubsub, topic) as address, ClientSession() as session:
        async with session.ws_connect(f"{address}/room") as one, session.ws_connect(f"{address}/room") as two:
            await one.send_str("hello")
            assert [await one.receive_str(timeout=10), await two.receive_str(timeout=10)] == ['"hello"'] * 2
            await two.close()
            await pubsub.publish("room", [1])
            assert await one.receive_str(timeout=10) == "[1]"
            await pubsub.aclose()
            assert (await one.receive(timeout=10)).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
        await nobody_listens(pubsub)


class Socket:
    """The other end of an ASGI WebSocket."""

    def __init__(self, app: FastAPI, path: str) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.to_app.put_nowait({"type": "websocket.connect"})
        scope = {"type": "websocket", "path": path, "headers": [], "query_string": b"", "subprotocols": []}
        self.task = asyncio.ensure_future(app(scope, self.to_app.get, self.sent.put))  # type: ignore[arg-type]

    def say(self, text: str) -> None:
        self.to_app.put_nowait({"type": "websocket.receive", "text": text})

    def leave(self) -> None:
        self.to_app.put_nowait({"type": "websocket.disconnect", "code": 1000})

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            return await self.sent.get()


@pytest.fixture
def rooms(pubsub: PubSub[Any]) -> FastAPI:
    app = FastAPI()

    @app.websocket("/room")
    async def room(websocket: WebSocket) -> None:
        async def say(text: str) -> None:
            if text == "wrong":
                raise ValueError(text)
            await pubsub.publish("room", text)

        await pump_websocket(websocket, pubsub.subscribe("room"), on_text=say)

    @app.websocket("/down")
    async def down(websocket: WebSocket) -> None:
        async with Redis(port=1) as redis:
            await pump_websocket(websocket, PubSub(redis).subscribe("room"))

    return app


async def test_a_websocket_of_fastapi(rooms: FastAPI, pubsub: PubSub[Any]) -> None:
    one, two, three = (Socket(rooms, "/room") for _ in range(3))
    for each in (one, two, three):
        assert (await each.hear())["type"] == "websocket.accept"
    one.say("hello")
    for each in (one, two, three):
        assert (await each.hear())["text"] == '"hello"'
    two.leave()
    await two.task
    three.say("wrong")
    with pytest.raises(ValueError, match="wrong"):
        await three.task
    assert pubsub.statistics().subscriptions == 1
    await pubsub.aclose()
    closed = await one.hear()
    assert (closed["type"], closed["code"]) == ("websocket.close", 1001)
    await one.task
    refused = Socket(rooms, "/down")
    assert (await refused.hear())["code"] == 1013


async def test_a_websocket_whose_task_is_cancelled_leaves_nothing(rooms: FastAPI, pubsub: PubSub[Any]) -> None:
    socket = Socket(rooms, "/room")
    await socket.hear()
    socket.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await socket.task
    assert pubsub.statistics().subscriptions == 0


def test_frames() -> None:
    event = Event("x", b"", b"\xff a", None, None, 0.0)
    assert sse_frame(event, None) == "data: \ufffd a\n\n".encode()
    assert sse_frame(event, lambda item: None) == b""
    assert sse_frame(Gap("slow", 2), lambda item: "gone") == b"event: gap\ndata: gone\n\n"


async def test_what_encode_raises_does_not_leave_a_websocket_of_aiohttp_waiting(pubsub: PubSub[Any]) -> None:
    def encode(item: Any) -> str:
        raise ValueError("no text for this")

    async def room(request: web.Request) -> web.StreamResponse:
        return await for_aiohttp.pump_websocket(request, pubsub.subscribe("room"), encode=encode)

    app = web.Application()
    app.add_routes([web.get("/room", room)])
    async with (
        TestServer(app) as server,
        ClientSession() as session,
        session.ws_connect(server.make_url("/room")) as websocket,
    ):
        await pubsub.publish("room", 1)
        assert (await websocket.receive(timeout=10)).type is WSMsgType.CLOSE
        assert websocket.close_code == 1011
    await nobody_listens(pubsub)
