"""A web service in a process of its own, and the cheapest HTTP client there can be, so that the service is what counts."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import AsyncExitStack

from benchmarks._load import Call


async def service(module: str, redis_url: str, stack: AsyncExitStack) -> int:
    """Start `python -m module PORT`; the port, when it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    environment = {**os.environ, "REDIS_URL": redis_url}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, str(port), env=environment)

    async def stop() -> None:
        process.terminate()
        await process.wait()

    stack.push_async_callback(stop)
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return port
    raise RuntimeError(f"{module} did not start")


async def getter(port: int, path: str, callers: int, stack: AsyncExitStack) -> Call:
    """GET on one kept connection per caller; anything but 200 is an error."""
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(callers)]
    for _, writer in streams:
        stack.callback(writer.close)
    requests = [f"GET {path} HTTP/1.1\r\nhost: localhost\r\nx-user: {n}\r\n\r\n".encode() for n in range(callers)]

    async def get(number: int) -> None:
        reader, writer = streams[number]
        writer.write(requests[number])
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())

    return get
