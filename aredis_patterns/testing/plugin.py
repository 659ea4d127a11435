"""The pytest plugin: a real server, a client and a namespace for each test that asks for them, and nothing otherwise.

Installed with the library. Which server: `--aredis-url`, the ini option `aredis_url`, or what `aredis_patterns.servers`
finds (AREDIS_PATTERNS_URL, a container, the bundled Valkey, a server on PATH). Only keys below `namespace` are deleted,
never a whole database: the server may be somebody's.

redis-py and the server provider are imported by the fixtures, not by this module, which every pytest run in the
environment imports.
"""

from __future__ import annotations

import importlib
import importlib.util
import uuid
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from aredis_patterns.servers import ProvidedServer
    from aredis_patterns.testing._cluster import LocalCluster
    from aredis_patterns.testing._proxy import FaultProxy

# pytest-asyncio in its strict mode wants its own decorator; under anyio's plugin the plain one is right.
_asyncio_is_there = importlib.util.find_spec("pytest_asyncio") is not None
_async_fixture: Callable[..., Any] = (
    importlib.import_module("pytest_asyncio").fixture if _asyncio_is_there else pytest.fixture
)


_used = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("aredis-patterns")
    group.addoption(
        "--aredis-url",
        default=None,
        help="server for the fixtures of aredis-patterns (default: AREDIS_PATTERNS_URL, or a private one)",
    )
    parser.addini("aredis_url", "the same as --aredis-url", default="")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _used in config.stash:
        terminalreporter.write_line(f"aredis-patterns: tests used {config.stash[_used]}")


def _configured_url(config: pytest.Config) -> str | None:
    return config.getoption("--aredis-url") or config.getini("aredis_url") or None


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Generator[ProvidedServer, None, None]:
    """The server of this test run: `url`, `source`, `description`, and `ours` (started for this run)."""
    from aredis_patterns.servers import provide

    with provide(_configured_url(request.config)) as server:
        request.config.stash[_used] = server.description
        yield server


@pytest.fixture(scope="session")
def redis_url(redis_server: ProvidedServer) -> str:
    """The URL of `redis_server`."""
    return redis_server.url


@pytest.fixture
def namespace(redis_url: str) -> Generator[str, None, None]:
    """A key prefix that no other test has, such as "test:3f2a". Keys that start with it are deleted after the test."""
    from redis import Redis

    prefix = f"test:{uuid.uuid4().hex}"
    yield prefix
    untyped: Any = Redis
    with untyped.from_url(redis_url) as client:
        keys = list(client.scan_iter(match=f"{prefix}*", count=1000))
        if keys:
            client.unlink(*keys)


@pytest.fixture(scope="session")
def redis_cluster() -> Generator[LocalCluster, None, None]:
    """A three-node Cluster of embedded servers, shared by the tests of a run: connect to its `url`."""
    from aredis_patterns.testing._cluster import LocalCluster

    with LocalCluster() as cluster:
        yield cluster


@_async_fixture
async def redis_client(redis_url: str) -> AsyncGenerator[Redis, None]:
    """A stock `redis.asyncio.Redis` of `redis_server` that returns bytes, closed after the test."""
    from redis.asyncio import Redis

    untyped: Any = Redis
    async with untyped.from_url(redis_url) as client:
        yield client


@_async_fixture
async def fault_proxy(redis_url: str) -> AsyncGenerator[FaultProxy, None]:
    """A `FaultProxy` in front of `redis_server`; connect to its `url`."""
    from aredis_patterns.testing._proxy import FaultProxy

    async with FaultProxy(redis_url) as proxy:
        yield proxy
