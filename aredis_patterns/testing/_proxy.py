"""A TCP proxy in front of a real server that understands commands and replies, and breaks what a test tells it to.

async with FaultProxy("redis://localhost:6379/0") as proxy:
    client = Redis.from_url(proxy.url)
    lost = proxy.drop_replies("INCR", times=1)      # the server counts, the client never hears of it
    ...
    assert lost.applied == 1
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Unpack
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from aredis_patterns.testing._faults import Aftermath, Fault, Rule, Watch, When
from aredis_patterns.testing._journal import Journal
from aredis_patterns.testing._link import PROXY_TASK, Link
from aredis_patterns.testing._round_trips import RoundTrips

__all__ = ["FaultProxy", "ProxyStatistics"]


@dataclass(frozen=True, slots=True)
class ProxyStatistics:
    """A snapshot; all numbers but `open_connections` grow from zero."""

    connections: int
    """Connections accepted."""
    open_connections: int
    commands: Mapping[str, int]
    """Commands forwarded, by name."""
    replies: int
    """Replies handed to clients."""
    dropped_replies: int
    """Replies that were taken away, or only handed over in part."""


class FaultProxy:
    """Listens on 127.0.0.1 and passes everything on to `upstream_url` (redis:// or unix://), except for its faults.

    Every fault takes the name of a command ("INCR", "CLIENT SETINFO"; None for any) and the keywords of `When`: `nth`,
    `times`, `probability`, `where`; it returns a `Rule` that counts and can be awaited and removed. The first rule that
    applies wins. `seed` makes chance repeatable. A fault ends or delays one connection; the methods without a command
    act on all. RESP2 and RESP3, pushes, pub/sub and transactions are understood; CLIENT REPLY and TLS are not.

    For asyncio; needs a POSIX system.
    """

    def __init__(self, upstream_url: str, *, seed: int = 0) -> None:
        self._upstream, self._place = _parse(upstream_url)
        self._journal = Journal(seed=seed)
        self._listener: asyncio.Server | None = None
        self._port = 0
        self._links: dict[Link, asyncio.Task[None]] = {}
        self._silent = False
        self._refusing = False
        self._connections = 0

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<FaultProxy to {self._upstream}: {now.open_connections} connections, {len(self._journal.rules)} rules>"

    async def __aenter__(self) -> FaultProxy:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections and stop listening. A second call does nothing."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.close()
        tasks = list(self._links.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Those whose task was cancelled before its first step have not closed anything.
        self.kill_connections()
        await listener.wait_closed()

    @property
    def url(self) -> str:
        """What clients connect to: user, password and database are those of `upstream_url`."""
        login, rest = self._place
        return f"redis://{login}127.0.0.1:{self._port}{rest}"

    def statistics(self) -> ProxyStatistics:
        """What has happened so far."""
        return ProxyStatistics(
            connections=self._connections,
            open_connections=len(self._links),
            commands=dict(self._journal.commands),
            replies=self._journal.replies,
            dropped_replies=self._journal.dropped_replies,
        )

    # faults of single commands ---------------------------------------------------------------------------------------

    def drop_replies(self, command: str | None = None, *, then: Aftermath = "reset", **when: Unpack[When]) -> Rule:
        """The server executes the command; its reply is taken away, then the connection is reset (or see `then`)."""
        return self._add("drop reply", command, when, then=then)

    def delay_replies(self, command: str | None = None, *, seconds: float, **when: Unpack[When]) -> Rule:
        """The reply, and all behind it on that connection, arrives so much later."""
        return self._add("delay reply", command, when, seconds=seconds)

    def hold_replies(self, command: str | None = None, **when: Unpack[When]) -> Rule:
        """The reply, and all behind it on that connection, waits for `rule.release()`."""
        return self._add("hold reply", command, when)

    def duplicate_replies(self, command: str | None = None, **when: Unpack[When]) -> Rule:
        """The reply arrives twice: a stream that can no longer be trusted."""
        return self._add("duplicate reply", command, when)

    def cut_replies(self, command: str | None = None, **when: Unpack[When]) -> Rule:
        """The first half of the reply arrives, then the connection is closed."""
        return self._add("cut reply", command, when)

    def delay_commands(self, command: str | None = None, *, seconds: float, **when: Unpack[When]) -> Rule:
        """The command, and all behind it on that connection, reaches the server so much later."""
        return self._add("delay command", command, when, seconds=seconds)

    def hold_commands(self, command: str | None = None, **when: Unpack[When]) -> Rule:
        """The command, and all behind it on that connection, waits for `rule.release()`."""
        return self._add("hold command", command, when)

    def swallow_commands(self, command: str | None = None, **when: Unpack[When]) -> Rule:
        """The command never reaches the server, and from then on the connection is open but silent."""
        return self._add("swallow", command, when)

    def reset_before(self, command: str | None = None, **when: Unpack[When]) -> Rule:
        """The connection is reset; the server never sees the command."""
        return self._add("reset before", command, when)

    def reset_after(self, command: str | None = None, **when: Unpack[When]) -> Rule:
        """The connection is reset as soon as the server has been sent the command, without waiting for its reply."""
        return self._add("reset after", command, when)

    # faults of the whole network -------------------------------------------------------------------------------------

    def kill_connections(self) -> int:
        """Reset all connections; new ones are welcome. Returns how many there were."""
        links = list(self._links)
        for link in links:
            link.reset()
        return len(links)

    def refuse_connections(self) -> None:
        """Reset every new connection at once, until `restore()`. Open ones are not touched."""
        self._refusing = True

    def black_hole(self) -> None:
        """Swallow everything in both directions, on open and on new connections, until `restore()`."""
        self._silent = True
        for link in self._links:
            link.silent = True

    def pause(self) -> None:
        """Pass nothing on until `resume()`. Nothing is lost."""
        self._journal.gate.clear()

    def resume(self) -> None:
        """Undo `pause`."""
        self._journal.gate.set()

    def restore(self) -> None:
        """Heal: remove all rules, let go what is held, undo the methods above.

        Connections on which something was swallowed are reset: no network gives back what it has lost.
        """
        self._silent = self._refusing = False
        for rule in list(self._journal.rules):
            rule.release()
        for link in list(self._links):
            if link.silent:
                link.reset()
        self.resume()

    # watching --------------------------------------------------------------------------------------------------------

    def watch(self, command: str | None = None) -> Watch:
        """Count these commands from now on, and wait for them: `await proxy.watch("INCR").until_forwarded()`."""
        watch = Watch(command)
        self._journal.watches.append(watch)
        return watch

    @asynccontextmanager
    async def count(self) -> AsyncGenerator[RoundTrips, None]:
        """Count the round trips of the block: `async with proxy.count() as counted: ...; counted.round_trips`."""
        counted = RoundTrips(self._journal.depth)
        self._journal.counts.append(counted)
        try:
            yield counted
        finally:
            counted.stop()
            self._journal.counts.remove(counted)

    # private ---------------------------------------------------------------------------------------------------------

    def _add(
        self,
        fault: Fault,
        command: str | None,
        when: When,
        *,
        seconds: float = 0.0,
        then: Aftermath = "reset",
    ) -> Rule:
        rule = Rule(fault, command, when, seconds=seconds, then=then, remove=self._remove)
        self._journal.rules.append(rule)
        return rule

    def _remove(self, rule: Rule) -> None:
        if rule in self._journal.rules:
            self._journal.rules.remove(rule)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self._journal, reader, writer)
        link.silent = self._silent
        if self._refusing or self._listener is None:
            link.reset()
            return
        self._connections += 1
        self._links[link] = asyncio.create_task(self._serve(link), name=PROXY_TASK)

    async def _serve(self, link: Link) -> None:
        try:
            await link.run(self._upstream)
        finally:
            del self._links[link]


def _parse(url: str) -> tuple[tuple[str, int] | str, tuple[str, str]]:
    """The address of the server, and what surrounds host and port in the proxy's own URL."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    query = f"?{parts.query}" if parts.query else ""
    if parts.scheme == "unix":
        options = dict(parse_qsl(parts.query))
        database = options.pop("db", "0")
        query = f"?{urlencode(options)}" if options else ""
        return unquote(parts.path), (login + at, f"/{database}{query}")
    if parts.scheme in ("redis", "valkey"):
        return (parts.hostname or "localhost", parts.port or 6379), (login + at, parts.path + query)
    raise ValueError(f"FaultProxy cannot read what is said to {url!r}: it needs redis:// or unix://")
