"""Makes the pictures of this folder from a real run: python docs/make_screenshots.py

A private server, an application with limits, locks, queues and its own /metrics, some traffic, and the live view that
watches them, drawn by Textual itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

from aiohttp import web

from aredis_patterns import Patterns, TokenBucketLimiter
from aredis_patterns.cli._frame import Watcher
from aredis_patterns.cli._top import TopApp
from aredis_patterns.contrib.aiohttp import metrics_handler
from aredis_patterns.contrib.prometheus import Metrics
from aredis_patterns.embedded import EmbeddedServer

IMAGES = Path(__file__).parent / "images"
FRAMES = 25


async def main() -> None:
    """One run, one picture."""
    config = {"maxmemory": "256mb", "maxmemory-policy": "volatile-lru", "slowlog-log-slower-than": "400"}
    async with (
        EmbeddedServer(port=0, config=config) as server,
        Patterns.from_url(server.url) as app,
        Patterns.from_url(server.url) as worker,
    ):
        metrics = Metrics(app.client, namespace="ap", queues=["emails"])
        runner, address = await serve(metrics)
        tasks = [asyncio.create_task(work) for work in (requests(app, metrics), orders(app, worker), mail(app, worker))]
        try:
            watcher = Watcher(app.client, "ap", [f"{address}/metrics"])
            view = TopApp(watcher.look, interval=0.2, where=f"redis://127.0.0.1:{server.port}")
            async with view.run_test(size=(132, 58)) as pilot:
                while view.frames < FRAMES:
                    await pilot.pause(0.1)
                IMAGES.mkdir(exist_ok=True)
                (IMAGES / "top.svg").write_text(view.export_screenshot(title="aredis-patterns top"))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await runner.cleanup()
            metrics.close()


async def serve(metrics: Metrics) -> tuple[web.AppRunner, str]:
    """The application's /metrics, on a free port."""
    site = web.Application()
    site.router.add_get("/metrics", metrics_handler(metrics))
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    return runner, f"http://{host}:{port}"


async def requests(app: Patterns, metrics: Metrics) -> None:
    """A web service that limits its users."""
    cache = app.cache("pages", ttl=600)
    metrics.watch("pages", cache)
    limiter = TokenBucketLimiter(app.client, "120/minute burst 30", name="api", deadline=5)
    while True:
        await asyncio.gather(*(limiter.hit(f"user:{random.randint(1, 40)}") for _ in range(20)))
        await cache.get_or_load(f"page:{random.randint(1, 300)}", render)
        await asyncio.sleep(0.02)


async def render() -> str:
    """A page that takes a moment to make."""
    await asyncio.sleep(0.001)
    return "x" * random.randint(10, 4000)


async def orders(app: Patterns, worker: Patterns) -> None:
    """Two processes that want the same lock."""

    async def take(patterns: Patterns, name: str) -> None:
        while True:
            async with patterns.lock(name, ttl=10):
                await asyncio.sleep(0.5)

    await asyncio.gather(
        *(take(each, f"order:{n}") for each in (app, worker) for n in (1811, 1812)), take(app, "report")
    )


async def mail(app: Patterns, worker: Patterns) -> None:
    """A producer that is faster than its consumer."""
    await app.simple_queue("thumbnails").enqueue_many([f"image-{n}.png" for n in range(42)])
    for number in range(30):
        await app.queue("emails").enqueue({"to": number}, delay=60 if number % 10 == 0 else None)
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await app.queue("emails").enqueue({"to": "you"})
            message = await worker.queue("emails").dequeue()
            if message is not None:
                await asyncio.sleep(0.3)
                await message.ack()


if __name__ == "__main__":
    asyncio.run(main())
