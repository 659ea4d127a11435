"""The commands, as a user runs them."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from redis.asyncio import Redis

from aredis_patterns.embedded import EmbeddedServer


def run(*words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    program = "from aredis_patterns.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=timeout, check=False
    )


def test_demo_once_is_exact(redis_url: str) -> None:
    done = run("demo", "--once", "--url", redis_url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every limit held, to the unit; one load, no lost update, no lost mail." in " ".join(done.stdout.split())
    assert "WRONG" not in done.stdout


def test_ping(redis_url: str) -> None:
    done = run("ping", redis_url)
    assert done.returncode == 0, done.stderr
    assert "ms per call" in done.stdout


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("redis://127.0.0.1:1", "nobody listens there"),
        ("redis://no-such-host.invalid", "host name is not known"),
        ("http://localhost", "unknown scheme 'http'"),
        ("unix:///no/such.sock", "check its path"),
    ],
)
def test_what_is_wrong_is_one_line(url: str, advice: str) -> None:
    start = time.monotonic()
    done = run("ping", url)
    assert done.returncode == 1
    assert advice in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert time.monotonic() - start < 30


async def test_a_wrong_password_is_one_line(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.config_set("requirepass", "right")
    done = run("ping", f"unix://:secret-7@{own_server.url.removeprefix('unix://')}")
    assert done.returncode == 1
    assert "password" in done.stderr
    assert "secret-7" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
