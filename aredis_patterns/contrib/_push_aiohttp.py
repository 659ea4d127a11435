"""Pushing to browsers from aiohttp's server: server-sent events, and a pump into a WebSocket. Only translates."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import Any, Final

from aiohttp import WSMsgType, web

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
    gone,
    position_or,
    sse_frame,
)

__all__ = ["event_stream", "last_event_id", "pump_websocket"]

GOING_AWAY: Final = 1001
INTERNAL_ERROR: Final = 1011

LOOK: Final = 1.0
"""Seconds after which a stream without messages looks whether its client is still there: aiohttp tells nobody."""


def last_event_id(request: web.Request, *, default: str = "new") -> str:
    """Where a browser that comes back wants to read on, for `topic.subscribe(last_event_id(request))`.

    What is no position (the header comes from outside) counts as `default`.
    """
    return position_or(request.headers.get("Last-Event-ID"), default)


async def event_stream(
    request: web.Request, source: Source, *, heartbeat: float = HEARTBEAT, encode: Encode | None = None
) -> web.StreamResponse:
    """Stream a subscription as server-sent events, until the client or the subscription ends.

        async def events(request: web.Request) -> web.StreamResponse:
            return await event_stream(request, pubsub.subscribe("orders"))

    Begins when the server has confirmed the subscription; when that fails the answer is 503. See
    `aredis_patterns.contrib.starlette.EventStream` for what is sent. A client that has gone is noticed
    within a second.
    """
    try:
        subscription = await source.__aenter__()
    except TROUBLE as error:
        gone(error)
        headers = {"Retry-After": RETRY_WHEN_UNAVAILABLE}
        return web.Response(status=503, body=UNAVAILABLE, headers=headers, content_type=PROBLEM_JSON)
    try:
        response = web.StreamResponse(headers={**SSE_HEADERS, "Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):  # the client has gone
            await _stream(request, response, subscription, heartbeat, encode)
        return response
    finally:
        await source.__aexit__(None, None, None)


async def _stream(
    request: web.Request, response: web.StreamResponse, subscription: Any, heartbeat: float, encode: Encode | None
) -> None:
    loop = asyncio.get_running_loop()
    silent_until = loop.time() + heartbeat
    try:
        while request.transport is not None and not request.transport.is_closing():
            try:
                async with asyncio.timeout(min(LOOK, max(0.0, silent_until - loop.time()))):
                    frame = b"".join([sse_frame(item, encode) for item in await subscription.batch()])
            except TimeoutError:
                if loop.time() < silent_until:
                    continue
                frame = KEEP_ALIVE
            if frame:
                await response.write(frame)
            silent_until = loop.time() + heartbeat
    except StopAsyncIteration:
        return
    except ConnectionResetError:
        raise
    except TROUBLE as error:
        gone(error)


async def pump_websocket(
    request: web.Request, source: Source, *, on_text: OnText | None = None, encode: Encode = as_text
) -> web.WebSocketResponse | web.Response:
    """Answer a request with a WebSocket that is sent a subscription, until one of them ends.

        async def room(request: web.Request) -> web.StreamResponse:
            return await pump_websocket(request, pubsub.subscribe(request.match_info["room"]))

    The WebSocket begins when the server has confirmed the subscription; when that fails the answer is 503. See
    `aredis_patterns.contrib.starlette.pump_websocket` for what is sent and for `on_text`.
    """
    try:
        subscription = await source.__aenter__()
    except TROUBLE as error:
        gone(error)
        headers = {"Retry-After": RETRY_WHEN_UNAVAILABLE}
        return web.Response(status=503, body=UNAVAILABLE, headers=headers, content_type=PROBLEM_JSON)
    try:
        websocket = web.WebSocketResponse(heartbeat=HEARTBEAT)
        await websocket.prepare(request)
        telling = asyncio.create_task(_tell(websocket, subscription, encode))
        try:
            async for message in websocket:
                if message.type is WSMsgType.TEXT and on_text is not None:
                    answer = on_text(message.data)
                    if inspect.isawaitable(answer):
                        await answer
        finally:
            telling.cancel()
            await asyncio.wait([telling])
        if not telling.cancelled():
            telling.result()
        return websocket
    finally:
        await source.__aexit__(None, None, None)


async def _tell(websocket: web.WebSocketResponse, subscription: Any, encode: Encode) -> None:
    try:
        async for item in subscription:
            text = encode(item)
            if text is not None:
                await websocket.send_str(text)
    except ConnectionResetError:
        return  # the client has gone
    except TROUBLE as error:
        gone(error)
    except Exception:  # of `encode`: the client must not wait for what never comes
        await websocket.close(code=INTERNAL_ERROR)
        raise
    await websocket.close(code=GOING_AWAY)
