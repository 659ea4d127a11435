"""One server for the CLI, the tests and the benchmarks, wherever they run.

    with provide() as server:
        print(server.description, server.url)

Tried in this order:

1. `url`: the address given as an argument or in AREDIS_PATTERNS_URL;
2. `container`: a container through testcontainers, if a container engine answers (image: AREDIS_PATTERNS_IMAGE);
3. `embedded`: the bundled Valkey;
4. `path`: valkey-server or redis-server on PATH.

AREDIS_PATTERNS_SERVER names one of them; then nothing else will do. An address that was given is never replaced by
something else either. Otherwise each source that could not be used leaves its reason in `ProvidedServer.skipped`.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import warnings
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args
from urllib.parse import unquote, urlsplit

from anyio import CancelScope, to_thread

from aredis_patterns.embedded import WHAT_TO_DO, find_binary, make_in_thread, start_server
from aredis_patterns.exceptions import EmbeddedServerError, ServerUnavailable

__all__ = ["DEFAULT_IMAGE", "ProvidedServer", "Source", "aprovide", "provide"]

Source: TypeAlias = Literal["url", "container", "embedded", "path"]

SOURCES: Final[tuple[Source, ...]] = get_args(Source)
DEFAULT_IMAGE: Final = "valkey/valkey:9.0"
ENGINE_TIMEOUT: Final = 0.8
URL_TIMEOUT: Final = 2.0
CONTAINER_TIMEOUT: Final = 60


@dataclass(frozen=True, slots=True)
class ProvidedServer:
    """A server that answers."""

    url: str
    source: Source
    description: str
    """One line for people: which server, and from where."""
    skipped: tuple[str, ...] = ()
    """Why each earlier source was not taken."""

    @property
    def ours(self) -> bool:
        """Whether it was started for this caller, who may therefore empty, stop or reconfigure it."""
        return self.source != "url"


@dataclass(frozen=True, slots=True)
class _Request:
    url: str | None
    image: str


class _Skip(Exception):
    """This source cannot be used here; the message says why."""


def provide(
    url: str | None = None,
    *,
    source: Source | None = None,
    image: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> AbstractContextManager[ProvidedServer]:
    """Provide a server for the length of a `with` block; what was started for it is gone afterwards.

    - `url`: use this server. `embedded://` asks for the embedded one.
    - `source`: only this one of url, container, embedded, path.
    - `image`: of the container.

    What is not given is taken from AREDIS_PATTERNS_URL, AREDIS_PATTERNS_SERVER and AREDIS_PATTERNS_IMAGE in `environ`.
    A `url` argument goes before AREDIS_PATTERNS_SERVER, which goes before AREDIS_PATTERNS_URL.

    Raises `ServerUnavailable` with the reason for every source that was tried, and ValueError for an unknown source.
    Blocks: some 30 ms for the embedded server, a second or more for a container.
    """
    forced = source or (None if url else _forced(environ.get("AREDIS_PATTERNS_SERVER")))
    request = _Request(
        url=url or environ.get("AREDIS_PATTERNS_URL") or None,
        image=image or environ.get("AREDIS_PATTERNS_IMAGE") or DEFAULT_IMAGE,
    )
    if forced is None and request.url is not None:
        forced = "embedded" if request.url.startswith("embedded:") else "url"
    return _provide(request, (forced,) if forced else SOURCES)


@asynccontextmanager
async def aprovide(
    url: str | None = None,
    *,
    source: Source | None = None,
    image: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> AsyncGenerator[ProvidedServer, None]:
    """`provide` for `async with`; the loop runs on while the server starts. Cancellation leaves no server behind."""
    manager = provide(url, source=source, image=image, environ=environ)

    def leave(_: ProvidedServer) -> None:
        manager.__exit__(None, None, None)

    server = await make_in_thread(manager.__enter__, leave)
    try:
        yield server
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(leave, server)


@contextmanager
def _provide(request: _Request, sources: tuple[Source, ...]) -> Generator[ProvidedServer, None, None]:
    skipped: list[str] = []
    for source in sources:
        with ExitStack() as stack:
            try:
                url, description = stack.enter_context(_STARTERS[source](request))
            except _Skip as reason:
                skipped.append(f"{source}: {reason}")
                continue
            yield ProvidedServer(url, source, description, tuple(skipped))
            return
    why = "\n  ".join(skipped)
    raise ServerUnavailable(f"No Redis or Valkey server to use:\n  {why}\n{WHAT_TO_DO}")


def _forced(name: str | None) -> Source | None:
    for source in SOURCES:
        if source == name:
            return source
    if name:
        raise ValueError(f"AREDIS_PATTERNS_SERVER is {name!r}; it can be {', '.join(SOURCES)}")
    return None


@contextmanager
def _given(request: _Request) -> Generator[tuple[str, str], None, None]:
    if request.url is None:
        raise _Skip("AREDIS_PATTERNS_URL is not set")
    if (reason := _why_unreachable(request.url)) is not None:
        raise _Skip(f"{_without_password(request.url)} does not answer: {reason}")
    yield request.url, f"the server at {_without_password(request.url)}"


@contextmanager
def _container(request: _Request) -> Generator[tuple[str, str], None, None]:
    engine = _engine()
    image = request.image
    with warnings.catch_warnings():
        # What other people's modules deprecate must not fail a test run that treats warnings as errors.
        warnings.simplefilter("ignore")
        try:
            from testcontainers.community.redis import PingWaitStrategy, RedisContainer
        except ImportError as error:
            raise _Skip(f"an engine answers at {engine}, but {error}; install testcontainers") from error
        ready: Any = PingWaitStrategy().with_poll_interval(0.05).with_startup_timeout(CONTAINER_TIMEOUT)
        try:
            container: Any = RedisContainer(image).waiting_for(ready).__enter__()
            address = f"{container.get_container_host_ip()}:{container.get_exposed_port(6379)}"
        except Exception as error:
            raise _Skip(f"an engine answers at {engine}, but {image} does not start: {error}") from error
    try:
        yield f"redis://{address}/0", f"a container of {image} at {address}"
    finally:
        container.stop()


@contextmanager
def _embedded(_: _Request) -> Generator[tuple[str, str], None, None]:
    with _started("the embedded Valkey", find_binary) as server:
        yield server


@contextmanager
def _on_path(_: _Request) -> Generator[tuple[str, str], None, None]:
    name = shutil.which("valkey-server") or shutil.which("redis-server")
    if name is None or sys.platform == "win32":
        raise _Skip("there is no valkey-server or redis-server on PATH")
    with _started(f"a private {name}", lambda: Path(name)) as server:
        yield server


_Starter: TypeAlias = Callable[[_Request], AbstractContextManager[tuple[str, str]]]
_STARTERS: Final[Mapping[Source, _Starter]] = {
    "url": _given,
    "container": _container,
    "embedded": _embedded,
    "path": _on_path,
}


@contextmanager
def _started(what: str, binary: Callable[[], Path]) -> Generator[tuple[str, str], None, None]:
    try:
        server = start_server(binary=binary())
    except (EmbeddedServerError, OSError) as error:
        raise _Skip(str(error)) from error
    try:
        yield server.url, f"{what} (pid {server.pid})"
    finally:
        server.stop()


def _engine() -> str:
    """Where a container engine answers. Takes less than a second."""
    where = os.environ.get("DOCKER_HOST") or _default_engine()
    if where is None:
        raise _Skip("no container engine (no DOCKER_HOST, no /var/run/docker.sock)")
    address = urlsplit(where)
    try:
        if address.scheme == "unix":
            _ping_engine(_UnixHTTPConnection(address.path))
        elif address.scheme in ("tcp", "http") and not os.environ.get("DOCKER_TLS_VERIFY"):
            _ping_engine(HTTPConnection(address.netloc, timeout=ENGINE_TIMEOUT))
        # With TLS or ssh only the engine's own client can ask.
    except (OSError, HTTPException) as error:
        raise _Skip(f"no container engine answers at {where}: {error}") from error
    return where


def _default_engine() -> str | None:
    sockets = ("/var/run/docker.sock", str(Path.home() / ".docker/run/docker.sock"))
    return next((f"unix://{path}" for path in sockets if os.path.exists(path)), None)


def _ping_engine(connection: HTTPConnection) -> None:
    try:
        connection.request("GET", "/_ping")
        answer = connection.getresponse()
        if answer.status != 200:
            raise HTTPException(f"/_ping says {answer.status} {answer.reason}")
    finally:
        connection.close()


class _UnixHTTPConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ENGINE_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ENGINE_TIMEOUT)
        self.sock.connect(self._path)


def _why_unreachable(url: str) -> str | None:
    """Why nobody can be connected to at `url`; None when somebody can, or when only a real client could tell."""
    address = urlsplit(url)
    try:
        if address.scheme == "unix":
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(URL_TIMEOUT)
                connection.connect(unquote(address.path))
        elif address.scheme in ("redis", "rediss", "valkey", "valkeys"):
            where = (address.hostname or "localhost", address.port or 6379)
            socket.create_connection(where, timeout=URL_TIMEOUT).close()
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _without_password(url: str) -> str:
    address = urlsplit(url)
    login, at, host = address.netloc.rpartition("@")
    user = f"{login.partition(':')[0]}:***@" if at else ""
    return f"{address.scheme}://{user}{host}{address.path}"
