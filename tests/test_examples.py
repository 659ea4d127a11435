"""The example services run as they are, on a real server."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parent.parent

PROGRAMS = {
    "fastapi": "import uvicorn; from examples.fastapi_app import app; uvicorn.run(app, port=0)",
    "aiohttp": "from aiohttp import web; from examples.aiohttp_app import make_app; web.run_app(make_app(), port={port})",
}


@contextmanager
def running(program: str, redis_url: str) -> Iterator[str]:
    """The service in a process of its own; its address as it prints it."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program.replace("{port}", str(port))],
        cwd=ROOT,
        env={**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"http://[\d.]+:(\d+)", line):
                yield f"http://127.0.0.1:{found[1]}"
                return
        raise AssertionError("the service did not start")
    finally:
        process.terminate()
        process.stdout.close()
        process.wait(10)


@pytest.mark.parametrize("name", PROGRAMS)
async def test_example(name: str, own_server: object) -> None:
    url: str = own_server.url  # type: ignore[attr-defined]
    with running(PROGRAMS[name], url) as address:
        async with httpx.AsyncClient(base_url=address) as client:
            home = await client.get("/")
            assert home.json() == {"hello": "world"}
            assert "ratelimit" in home.headers
            ask = await client.get("/ask", params={"text": "x" * 250}, headers={"x-api-key": "k"})
            assert ask.json()["paid"] == 3
            logins = await asyncio.gather(*(client.post("/login") for _ in range(8)))
            assert sorted(answer.status_code for answer in logins) == [200] * 5 + [429] * 3


@pytest.mark.parametrize("name", PROGRAMS)
async def test_login_and_logout(name: str, own_server: object) -> None:
    url: str = own_server.url  # type: ignore[attr-defined]
    with running(PROGRAMS[name], url) as address:
        async with httpx.AsyncClient(base_url=address) as client:

            async def ask(method: str, path: str, **options: object) -> httpx.Response:
                # As a browser does on localhost, where it sends Secure cookies.
                given = {"cookie": f"__Host-session={cookie}"} if (cookie := jar.get("session")) else {}
                response = await client.request(method, path, headers={**given, **headers}, **options)  # type: ignore[arg-type]
                if line := response.headers.get("set-cookie"):
                    jar["session"] = line.partition(";")[0].partition("=")[2]
                return response

            jar: dict[str, str] = {}
            headers: dict[str, str] = {}
            assert (await ask("GET", "/account")).status_code == 401
            assert (await ask("POST", "/cart/book")).json() == ["book"]
            before = jar["session"]
            login = (await ask("POST", "/login", json={"name": "ada"})).json()
            assert login["user"] == "ada"
            assert jar["session"] != before
            account = (await ask("GET", "/account")).json()
            assert (account["user"], account["cart"], len(account["devices"])) == ("ada", ["book"], 1)
            assert (await ask("POST", "/logout")).status_code == 403
            headers["x-csrf-token"] = login["csrf_token"]
            assert (await ask("POST", "/logout")).status_code == 200
            assert (await ask("GET", "/account")).status_code == 401


@pytest.mark.parametrize("name", PROGRAMS)
async def test_news(name: str, own_server: object) -> None:
    url: str = own_server.url  # type: ignore[attr-defined]
    with running(PROGRAMS[name], url) as address:
        async with httpx.AsyncClient(base_url=address) as client:
            assert (await client.post("/news", params={"text": "one"})).json() == {"number": 1}
            async with client.stream("GET", "/news", headers={"Last-Event-ID": "0-0"}) as stream:
                assert (await client.post("/news", params={"text": "two"})).json() == {"number": 2}
                text = ""
                async for chunk in stream.aiter_text():
                    text += chunk
                    if "two" in text:
                        break
                assert 'data: {"text":"one"}' in text
