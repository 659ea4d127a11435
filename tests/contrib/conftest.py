"""A real HTTP server per test, whichever framework."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn

Serve = Callable[[Any], AbstractAsyncContextManager[httpx.AsyncClient]]


@asynccontextmanager
async def serve(app: Any) -> AsyncGenerator[httpx.AsyncClient, None]:
    """An ASGI application behind uvicorn on a free port, and a client for it."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", proxy_headers=False))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.005)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            yield client
    finally:
        server.should_exit = True
        await task
        listener.close()


@pytest.fixture
def serving() -> Serve:
    return serve
