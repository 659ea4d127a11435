"""The provider takes the first source that works, says which, and never replaces one that was asked for."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import embedded, servers
from aredis_patterns.exceptions import ServerUnavailable, UnsupportedPlatform
from aredis_patterns.servers import ProvidedServer, aprovide, provide

NOTHING: dict[str, str] = {}


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(servers, "_default_engine", lambda: None)


@pytest.fixture
def no_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_binary() -> Path:
        raise UnsupportedPlatform("no binary here")

    monkeypatch.setattr(servers, "find_binary", find_binary)


@pytest.fixture
def embedded_on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "valkey-server").symlink_to(embedded.find_binary())
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


async def ping(server: ProvidedServer) -> bool:
    async with Redis.from_url(server.url) as client:
        return bool(await client.ping())


def socket_exists(url: str) -> bool:
    return Path(url.removeprefix("unix://")).exists()


# the order ------------------------------------------------------------------------------------------------------------


async def test_an_address_goes_first_and_is_not_ours(redis_url: str) -> None:
    for arguments in ({"url": redis_url}, {"environ": {"AREDIS_PATTERNS_URL": redis_url}}):
        async with aprovide(**arguments) as server:  # type: ignore[arg-type]
            assert (server.url, server.source, server.ours, server.skipped) == (redis_url, "url", False, ())
            assert await ping(server)
    with provide(redis_url, environ={"AREDIS_PATTERNS_SERVER": "container"}) as server:
        assert server.source == "url"


@pytest.mark.usefixtures("no_engine")
async def test_without_an_engine_the_embedded_server_is_taken() -> None:
    async with aprovide(environ=NOTHING) as server:
        assert (server.source, server.ours) == ("embedded", True)
        assert server.description.startswith("the embedded Valkey (pid ")
        assert [reason.partition(":")[0] for reason in server.skipped] == ["url", "container"]
        assert await ping(server)
        assert socket_exists(server.url)
        url = server.url
    assert not socket_exists(url)


@pytest.mark.usefixtures("no_engine", "no_embedded", "embedded_on_path")
async def test_the_last_one_is_a_server_on_the_path() -> None:
    async with aprovide(environ=NOTHING) as server:
        assert (server.source, server.ours) == ("path", True)
        assert "valkey-server (pid" in server.description
        assert server.skipped[-1] == "embedded: no binary here"
        assert await ping(server)


@pytest.mark.usefixtures("no_engine", "no_embedded")
def test_without_any_every_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ServerUnavailable) as failure, provide(environ=NOTHING):
        pass
    for part in ("AREDIS_PATTERNS_URL is not set", "no container engine", "no binary here", "on PATH", "pip install"):
        assert part in str(failure.value)


# what was asked for ---------------------------------------------------------------------------------------------------


def test_an_address_that_does_not_answer_is_an_error_at_once_and_shows_no_password() -> None:
    start = time.monotonic()
    url = f"redis://user:secret@127.0.0.1:{embedded._free_port()}/0"
    shown = r"url: redis://user:\*\*\*@127.0.0.1:\d+/0 does not answer"
    given = {"AREDIS_PATTERNS_URL": url}
    with pytest.raises(ServerUnavailable, match=shown) as failure, provide(environ=given):
        pass
    assert "secret" not in str(failure.value)
    assert "embedded:" not in str(failure.value)
    assert time.monotonic() - start < 0.5
    with pytest.raises(ServerUnavailable, match="does not answer"), provide("unix:///nowhere/s.sock"):
        pass


@pytest.mark.usefixtures("no_engine")
def test_a_source_that_was_forced_is_never_replaced() -> None:
    for source, reason in (("container", "no container engine"), ("url", "AREDIS_PATTERNS_URL is not set")):
        with pytest.raises(ServerUnavailable, match=reason), provide(environ={"AREDIS_PATTERNS_SERVER": source}):
            pass
    both = {"AREDIS_PATTERNS_SERVER": "embedded", "AREDIS_PATTERNS_URL": "redis://127.0.0.1:1"}
    with provide(environ=both) as server:
        assert (server.source, server.skipped) == ("embedded", ())
    with pytest.raises(ValueError, match="'docker'; it can be url, container, embedded, path"):
        provide(environ={"AREDIS_PATTERNS_SERVER": "docker"})


def test_embedded_may_be_asked_for_by_url() -> None:
    with provide("embedded://") as server:
        assert (server.source, server.ours) == ("embedded", True)


# containers -----------------------------------------------------------------------------------------------------------


@contextmanager
def fake_engine(path: Path, *, status: int = 200) -> Generator[None, None, None]:
    """Answers /_ping on a unix socket, as engines do."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

        def address_string(self) -> str:
            return "unix"

    class UnixServer(HTTPServer):
        address_family = socket.AF_UNIX

        def server_bind(self) -> None:
            self.socket.bind(self.server_address)

    with UnixServer(str(path), Handler) as server:  # type: ignore[arg-type]
        worker = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        worker.start()
        yield
        server.shutdown()
        worker.join()


def fake_testcontainers(monkeypatch: pytest.MonkeyPatch, url: str, *, broken: bool = False) -> list[str]:
    """Stands in for testcontainers, with `url` as the server in its container. Returns what was done."""
    events: list[str] = []
    host, port = url.removeprefix("redis://").partition("/")[0].split(":")

    class RedisContainer:
        def __init__(self, image: str) -> None:
            self.image = image

        def waiting_for(self, strategy: object) -> RedisContainer:
            return self

        def __enter__(self) -> RedisContainer:
            if broken:
                raise RuntimeError(f"pull access denied for {self.image}")
            events.append(f"start {self.image}")
            return self

        def get_container_host_ip(self) -> str:
            return host

        def get_exposed_port(self, _: int) -> int:
            return int(port)

        def stop(self) -> None:
            events.append("stop")

    class PingWaitStrategy:
        def with_poll_interval(self, _: float) -> PingWaitStrategy:
            return self

        with_startup_timeout = with_poll_interval

    module: Any = ModuleType("testcontainers.community.redis")
    module.RedisContainer, module.PingWaitStrategy = RedisContainer, PingWaitStrategy
    monkeypatch.setitem(sys.modules, "testcontainers.community.redis", module)
    return events


@pytest.fixture
def tcp_server() -> Generator[str, None, None]:
    server = embedded.start_server(unix_socket=False)
    yield server.url
    server.stop()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[None, None, None]:
    monkeypatch.delenv("DOCKER_TLS_VERIFY", raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/e.sock")
    with fake_engine(tmp_path / "e.sock"):
        yield


@pytest.mark.usefixtures("engine")
async def test_with_an_engine_a_container_is_taken(monkeypatch: pytest.MonkeyPatch, tcp_server: str) -> None:
    events = fake_testcontainers(monkeypatch, tcp_server)
    async with aprovide(environ={"AREDIS_PATTERNS_IMAGE": "redis:7.0"}) as server:
        assert (server.source, server.ours) == ("container", True)
        assert "a container of redis:7.0 at 127.0.0.1:" in server.description
        assert await ping(server)
        assert events == ["start redis:7.0"]
    assert events == ["start redis:7.0", "stop"]
    with pytest.raises(ZeroDivisionError), provide(environ=NOTHING):
        _ = 1 / 0
    assert events[2:] == [f"start {servers.DEFAULT_IMAGE}", "stop"]


@pytest.mark.usefixtures("engine")
def test_an_image_that_cannot_be_had_falls_through_with_its_reason_unless_forced(
    monkeypatch: pytest.MonkeyPatch, tcp_server: str
) -> None:
    fake_testcontainers(monkeypatch, tcp_server, broken=True)
    with provide(environ=NOTHING) as server:
        assert server.source == "embedded"
        assert "pull access denied" in server.skipped[-1]
    with pytest.raises(ServerUnavailable, match="pull access denied"), provide(source="container"):
        pass


def test_an_engine_that_does_not_answer_is_given_up_within_a_second(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/e.sock")
    ill = fake_engine(tmp_path / "e.sock", status=500)
    with ill, pytest.raises(ServerUnavailable, match="/_ping says 500"), provide(source="container"):
        pass
    (tmp_path / "e.sock").unlink()
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(f"{tmp_path}/e.sock")
    silent.listen()
    start = time.monotonic()
    with silent, pytest.raises(ServerUnavailable, match="timed out"), provide(source="container"):
        pass
    assert time.monotonic() - start < 1.5
    with pytest.raises(ServerUnavailable, match="refused"), provide(source="container"):
        pass


async def test_a_real_container() -> None:
    """Skipped where no engine answers, unless containers were asked for: then that is a failure."""
    try:
        servers._engine()
    except servers._Skip as reason:
        if os.environ.get("AREDIS_PATTERNS_SERVER") == "container":
            raise
        pytest.skip(str(reason))
    try:
        async with aprovide(source="container") as server:
            assert await ping(server)
    except ServerUnavailable as error:
        if os.environ.get("AREDIS_PATTERNS_SERVER") == "container":
            raise
        pytest.skip(str(error))


# cancellation ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_engine")
async def test_cancelled_while_it_starts_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, stopped = threading.Event(), threading.Event(), threading.Event()
    start = embedded.start_server

    def slow_start(**arguments: Any) -> embedded.RunningServer:
        server = start(**arguments)
        stop = server.stop

        def notice() -> None:
            stop()
            stopped.set()

        monkeypatch.setattr(server, "stop", notice)
        begun.set()
        go_on.wait(5)
        return server

    monkeypatch.setattr(servers, "start_server", slow_start)

    async def use() -> None:
        async with aprovide(environ=NOTHING):
            pytest.fail("it was cancelled")

    using = asyncio.ensure_future(use())
    await asyncio.to_thread(begun.wait, 5)
    using.cancel()
    await asyncio.wait((using,))
    assert using.cancelled()
    go_on.set()
    assert await asyncio.to_thread(stopped.wait, 5)
