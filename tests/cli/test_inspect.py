"""doctor, keys, slowlog, ping and top --once, as a user and as a machine run them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import Patterns
from aredis_patterns.embedded import EmbeddedServer


def run(*words: str) -> subprocess.CompletedProcess[str]:
    program = "from aredis_patterns.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120, check=False
    )


def document(*words: str, code: int = 0) -> Any:
    done = run(*words)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


async def test_doctor_has_exit_codes_for_ci(own_server: EmbeddedServer, own_client: Redis) -> None:
    found = document("doctor", own_server.url, "--json", code=3)
    assert [finding["code"] for finding in found["findings"]] == ["no-maxmemory"]
    assert run("doctor", own_server.url, "--fail-on", "critical").returncode == 0
    assert run("doctor", own_server.url, "--fail-on", "never").returncode == 0
    await own_client.config_set("maxmemory", 1_000_000_000)
    well = run("doctor", own_server.url)
    assert well.returncode == 0, well.stdout
    assert "Nothing to complain of" in well.stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("doctor", "redis://127.0.0.1:1"), 1),
        (("doctor", "--fail-on", "sometimes"), 2),
        (("slowlog", "--show", "x"), 2),
    ],
)
def test_what_could_not_be_done_is_told_apart(words: tuple[str, ...], code: int) -> None:
    done = run(*words)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


async def test_keys_as_tables_and_as_json(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.mset({f"user:{n}:[bold]": "x" for n in range(300)})
    await own_client.set("blob", "x" * 50_000, ex=100)
    shown = run("keys", own_server.url)
    assert shown.returncode == 0, shown.stderr
    assert "user:*:[bold]" in shown.stdout
    assert "301 keys" in shown.stdout
    found = document("keys", own_server.url, "--json", "--match", "user:*", "--top", "2", "--rate", "100000")
    assert (found["keys"], len(found["biggest"]), found["complete"]) == (300, 2, True)


async def test_a_key_cannot_write_to_the_terminal(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.set("ap:\x1b]0;owned\x07{x}", "v")
    async with Patterns.from_url(own_server.url) as patterns, patterns.lock("\x1b[2Jlock", ttl=300):
        await patterns.queue("\x1b[31mqueue").enqueue(1)
        shown = [run("keys", own_server.url), run("doctor", own_server.url)]
        shown.append(run("top", own_server.url, "--once", "--interval", "0.1"))
    for done in shown:
        assert "\\x1b" in done.stdout
        assert not [letter for letter in done.stdout if not letter.isprintable() and letter != "\n"]


def test_a_bad_group_is_one_line() -> None:
    done = run("keys", "embedded://", "--group", "(")
    assert done.returncode == 1
    assert "not a regular expression" in done.stderr
    assert "Traceback" not in done.stderr


async def test_slowlog_hides_values_unless_asked(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.config_set("slowlog-log-slower-than", 0)
    await own_client.set("user 7", "hunter\x00two")
    await own_client.config_set("slowlog-log-slower-than", 1_000_000)
    hidden = run("slowlog", own_server.url)
    assert "hunter" not in hidden.stdout
    entry = next(each for each in document("slowlog", own_server.url, "--json") if each["args"][0] == "SET")
    assert entry["args"] == ["SET", "user 7", "<10 bytes>"]
    shown = next(
        each for each in document("slowlog", own_server.url, "--json", "--show", "none") if each["args"][0] == "SET"
    )
    assert shown["args"] == ["SET", "user 7", "hunter\x00two"]


async def test_ping_and_top_for_machines(own_server: EmbeddedServer) -> None:
    assert document("ping", own_server.url, "--json")["server"].startswith("Valkey")
    # Long enough that it outlives commands which block this loop on a busy machine.
    async with Patterns.from_url(own_server.url) as patterns, patterns.lock("order:7", ttl=300):
        frame = document("top", own_server.url, "--json", "--interval", "0.1")
        assert [lock["name"] for lock in frame["patterns"]["locks"]] == ["order:7"]
        assert frame["used"] > 0
        text = run("top", own_server.url, "--once", "--interval", "0.1")
    assert text.returncode == 0, text.stderr
    assert "order:7" in text.stdout
