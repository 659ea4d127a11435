"""Pushing to browsers from ASGI applications: server-sent events, and a pump into a WebSocket.

Only translates: the subscription decides what is delivered, what is dropped, and what a gap is. A client that reads
slowly slows down its own subscription, whose buffer is bounded.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from aredis_patterns.contrib._http import PROBLEM_JSON, RETRY_WHEN_UNAVAILABLE, TROUBLE
from aredis_patterns.contrib._push import (
    HEARTBEAT,
    KEEP_ALIVE,
    SSE_HEADERS,
    UNAVAILABLE,
    Encode,
    OnText,
    Source,
    as_text,
    first_of,
    gone,
    position_or,
    sse_frame,
)

__all__ = ["EventStream", "last_event_id", "pump_websocket"]

GOING_AWAY: Final = 1001
TRY_AGAIN_LATER: Final = 1013


def last_event_id(connection: HTTPConnection, *, default: str = "new") -> str:
    """Where a browser that comes back wants to read on, for `topic.subscribe(last_event_id(request))`.

    What is no position (the header comes from outside) counts as `default`.
    """
    return position_or(connection.headers.get("last-event-id"), default)


class EventStream(Response):
    """A response that streams a subscription as server-sent events, until the client or the subscription ends.

        @app.get("/events")
        async def events() -> EventStream:
            return EventStream(pubsub.subscribe("orders"))

    It begins when the server has confirmed the subscription; when that fails the answer is 503. A `Gap` is an event of
    the type `gap`. Messages of a `Topic` carry their position, so that a browser that reconnects says where it was; see
    `last_event_id`.

    Args:
        source: a subscription that is not open yet.
        heartbeat: seconds of silence after which a comment is sent.
        encode: what to send for a message or gap; default: as it came from Redis. None: nothing.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        source: Source,
        *,
        heartbeat: float = HEARTBEAT,
        encode: Encode | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers={**SSE_HEADERS, **(headers or {})})
        del self.headers["content-length"]
        self._source: Final = source
        self._heartbeat: Final = heartbeat
        self._encode: Final = encode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            subscription = await self._source.__aenter__()
        except TROUBLE as error:
            gone(error)
            headers = {"Retry-After": RETRY_WHEN_UNAVAILABLE}
            await Response(UNAVAILABLE, 503, headers, PROBLEM_JSON)(scope, receive, send)
            return
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await first_of(self._stream(subscription, send), _until_disconnect(receive))
        finally:
            await self._source.__aexit__(None, None, None)

    async def _stream(self, subscription: Any, send: Send) -> None:
        body = b""
        try:
            while True:
                await send({"type": "http.response.body", "body": body, "more_body": True})
                try:
                    async with asyncio.timeout(self._heartbeat):
                        body = b"".join([sse_frame(item, self._encode) for item in await subscription.batch()])
                except TimeoutError:
                    body = KEEP_ALIVE
        except StopAsyncIteration:
            pass
        except OSError:
            return  # the client has gone
        except TROUBLE as error:
            gone(error)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def pump_websocket(
    websocket: WebSocket, source: Source, *, on_text: OnText | None = None, encode: Encode = as_text
) -> None:
    """Send a subscription to a WebSocket, until one of them ends. Returns then; the WebSocket is closed.

        @app.websocket("/rooms/{room}")
        async def room(websocket: WebSocket, room: str) -> None:
            await pump_websocket(websocket, pubsub.subscribe(room), on_text=lambda text: pubsub.publish(room, text))

    Accepts when the server has confirmed the subscription, if that has not been done; closes with 1013 when it fails.
    Each message is one text, as it came from Redis; a `Gap` is `{"gap": {"reason": ..., "missed": ...}}`. `on_text`, plain
    or async, is called for each text of the client, one after the other. What it raises ends the pump, and is raised.
    """
    try:
        subscription = await source.__aenter__()
    except TROUBLE as error:
        gone(error)
        await websocket.close(TRY_AGAIN_LATER, "the subscription failed")
        return
    try:
        if websocket.application_state is WebSocketState.CONNECTING:
            await websocket.accept()
        await first_of(_tell(websocket, subscription, encode), _hear(websocket, on_text))
        if websocket.application_state is WebSocketState.CONNECTED and (
            websocket.client_state is WebSocketState.CONNECTED
        ):
            await websocket.close(GOING_AWAY)
    finally:
        await source.__aexit__(None, None, None)


async def _hear(websocket: WebSocket, on_text: OnText | None) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        if text is not None and on_text is not None:
            answer = on_text(text)
            if inspect.isawaitable(answer):
                await answer


async def _tell(websocket: WebSocket, subscription: Any, encode: Encode) -> None:
    try:
        async for item in subscription:
            text = encode(item)
            if text is not None:
                await websocket.send_text(text)
    except WebSocketDisconnect:
        return
    except TROUBLE as error:
        gone(error)
