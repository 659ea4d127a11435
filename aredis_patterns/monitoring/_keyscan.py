"""`KeyScan`: which keys there are, and which are big."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from redis.exceptions import AskError, ConnectionError, NoPermissionError, RedisError, ResponseError, TimeoutError

from aredis_patterns._core.diagnosis import translate
from aredis_patterns.monitoring._groups import BigKey, KeyGroup, Tally, grouping
from aredis_patterns.monitoring._parsing import as_text
from aredis_patterns.pipelining._nodes import Node, OwnConnection, nodes_of
from aredis_patterns.types import Key, RedisClient

__all__ = ["KeyReport", "KeyScan", "ScanProgress"]

PAGE: Final = 500
"""Keys per SCAN: about a millisecond of the server's time with their sizes."""
RECONNECTS: Final = 3
_SIZE: Final[dict[str, str]] = {
    "string": "STRLEN", "list": "LLEN", "set": "SCARD", "zset": "ZCARD", "hash": "HLEN", "stream": "XLEN",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScanProgress:
    """How far a scan is: `keys` looked at, of about `total` (the whole database: MATCH finds fewer)."""

    node: str
    keys: int
    bytes: int
    total: int


@dataclass(frozen=True, slots=True)
class KeyReport:
    """What a scan has found."""

    keys: int
    bytes: int
    without_ttl: int
    vanished: int
    """Keys that were gone before they could be measured."""
    groups: tuple[KeyGroup, ...]
    """Most bytes first."""
    types: tuple[KeyGroup, ...]
    biggest: tuple[BigKey, ...]
    """Largest first."""
    complete: bool
    """Whether all keys were looked at: `max_keys` ends a scan early."""
    seconds: float
    nodes: tuple[str, ...]


class KeyScan:
    """Looks at every key once, slowly enough for production: big keys, groups, keys without a TTL.

        report = await KeyScan(redis, match="shop:*").run()
        for key in report.biggest:
            print(key.key, key.bytes)

    At most `rate` keys per second are asked about, 500 at a time, on a connection of its own, so that neither callers on
    the shared connection nor the server wait for it. Idle times and access counts of the keys stay as they are. The
    nodes of a Cluster are scanned one after the other. A lost connection is replaced, and the scan goes on.

    SCAN may show a key twice while a table grows, and misses what comes later; numbers are those of a busy server.
    Memory: `top` keys and `max_groups` groups, whatever the number of keys.

    Args:
        client: any `redis.asyncio` client.
        match: a glob pattern, as SCAN knows it.
        kind: only keys of this type ("zset").
        rate: keys per second at most.
        samples: elements of a collection that MEMORY USAGE measures, 0 for all: exact, and O(n).
        group: a function from key to group, or a regular expression; by default the shape of the key.
        max_groups: groups above this number are counted as "(other)".
        top: how many of the biggest keys are kept.
        max_keys: end after so many.
        progress: called with a `ScanProgress` after every page.

    Raises PermissionDenied where the ACL forbids SCAN or MEMORY USAGE.
    """

    def __init__(
        self,
        client: RedisClient,
        *,
        match: Key = "*",
        kind: str | None = None,
        rate: float = 5_000,
        samples: int = 5,
        group: str | Callable[[str], str] | None = None,
        max_groups: int = 1_000,
        top: int = 20,
        max_keys: int | None = None,
        progress: Callable[[ScanProgress], None] | None = None,
    ) -> None:
        if not (rate > 0 and math.isfinite(rate)):
            raise ValueError(f"rate is a number of keys per second, more than 0, got {rate!r}")
        for name, value, least in (("samples", samples, 0), ("max_groups", max_groups, 1), ("top", top, 0)):
            if value < least:
                raise ValueError(f"{name} must be {least} or more, got {value!r}")
        if max_keys is not None and max_keys < 1:
            raise ValueError(f"max_keys must be 1 or more, got {max_keys!r}")
        self._client: Final = client
        self._match: Final = match
        self._kind: Final = kind
        self._rate: Final = rate
        self._samples: Final = samples
        self._group_of: Final = grouping(group)
        self._max_groups: Final = max_groups
        self._top: Final = top
        self._max_keys: Final = max_keys
        self._progress: Final = progress

    def __repr__(self) -> str:
        return f"<KeyScan match={self._match!r}, at most {self._rate:g} keys/s>"

    def _full(self, tally: Tally) -> bool:
        return self._max_keys is not None and tally.keys >= self._max_keys

    async def run(self) -> KeyReport:
        """Scan once. May be called again, or several times at once."""
        began = time.monotonic()
        nodes = [node for node in await nodes_of(self._client) if node.primary]
        tally = Tally(self._group_of, self._max_groups, self._top)
        biggest: list[BigKey] = []
        vanished = 0
        complete = True
        for node in nodes:
            run = _NodeScan(self, node, tally)
            try:
                finished = await run.run()
            except RedisError as error:
                known = translate(error, command="the scan")
                if known is error:
                    raise
                raise known from error
            complete &= finished
            vanished += run.vanished
        for node in nodes:
            biggest += await _NodeScan(self, node, tally).with_elements(
                [key for key in tally.largest() if key.node == node.name]
            )
        by_bytes: Callable[[KeyGroup], int] = lambda group: group.bytes  # noqa: E731
        return KeyReport(
            keys=tally.keys,
            bytes=tally.bytes,
            without_ttl=tally.without_ttl,
            vanished=vanished,
            groups=tuple(sorted(tally.groups.values(), key=by_bytes, reverse=True)),
            types=tuple(sorted(tally.types.values(), key=by_bytes, reverse=True)),
            biggest=tuple(sorted(biggest, key=lambda key: key.bytes, reverse=True)),
            complete=complete,
            seconds=time.monotonic() - began,
            nodes=tuple(node.name for node in nodes),
        )


class _NodeScan:
    """The scan of one server."""

    def __init__(self, scan: KeyScan, node: Node, tally: Tally) -> None:
        self._scan: Final = scan
        self._node: Final = node
        self._tally: Final = tally
        self._total = 0
        self._asked = 0
        self.vanished = 0

    async def run(self) -> bool:
        """Whether the end was reached."""
        cursor: Any = b"0"
        pace = _Pace(self._scan._rate)
        for attempt in range(RECONNECTS + 1):
            try:
                async with quiet_connection(self._node) as (connection, _):
                    self._total = await connection.call("DBSIZE")
                    while True:
                        following, keys = await connection.call(*self._page(cursor))
                        await self._measure(connection, list(dict.fromkeys(keys)))
                        cursor = following  # only now: a lost connection repeats the page that was not counted
                        if int(cursor) == 0 or self._scan._full(self._tally):
                            return int(cursor) == 0
                        await pace.wait(len(keys))
            except (ConnectionError, TimeoutError):
                if attempt == RECONNECTS:
                    raise
        raise AssertionError

    def _page(self, cursor: Any) -> list[Any]:
        scan = self._scan
        page: list[Any] = ["SCAN", cursor, "MATCH", scan._match, "COUNT", min(PAGE, max(10, int(scan._rate)))]
        return [*page, "TYPE", scan._kind] if scan._kind is not None else page

    async def _measure(self, connection: OwnConnection, keys: Sequence[bytes]) -> None:
        limit = self._scan._max_keys
        keys = keys if limit is None else keys[: limit - self._tally.keys]
        commands: list[tuple[Any, ...]] = []
        for key in keys:
            commands += [
                ("TYPE", key),
                ("MEMORY", "USAGE", key, "SAMPLES", self._scan._samples),
                ("PTTL", key),
            ]
        replies = await connection.batch(commands) if commands else []
        for at, key in enumerate(keys):
            kind, size, ttl = replies[3 * at : 3 * at + 3]
            error = next((reply for reply in (kind, size, ttl) if isinstance(reply, Exception)), None)
            if error is not None and not isinstance(error, AskError):  # its slot is moving: another node will count it
                raise error
            if error is not None or size is None or ttl == -2:
                self.vanished += 1
                continue
            lives = None if ttl == -1 else ttl / 1000
            self._tally.add(BigKey(key, as_text(kind), size, lives, node=self._node.name))
        if self._scan._progress is not None:
            tally = self._tally
            self._scan._progress(ScanProgress(self._node.name, tally.keys, tally.bytes, self._total))

    async def with_elements(self, keys: list[BigKey]) -> list[BigKey]:
        """How many elements they have, where that can be asked without touching them."""
        if not keys:
            return []
        async with quiet_connection(self._node) as (connection, untouched):
            if not untouched:
                return keys
            replies = await connection.batch([(_SIZE.get(key.type, "EXISTS"), key.key) for key in keys])
        return [
            replace(key, elements=reply) if key.type in _SIZE and isinstance(reply, int) else key
            for key, reply in zip(keys, replies, strict=True)
        ]


class _Pace:
    """Spreads work so that no second sees more than its rate, with one page of tolerance."""

    def __init__(self, rate: float) -> None:
        self._rate: Final = rate
        self._due = time.monotonic()

    async def wait(self, amount: int) -> None:
        """Until this amount was allowed to be done."""
        now = time.monotonic()
        self._due = max(self._due, now - PAGE / self._rate) + amount / self._rate
        if self._due > now:
            await asyncio.sleep(self._due - now)


@asynccontextmanager
async def quiet_connection(node: Node) -> AsyncGenerator[tuple[OwnConnection, bool], None]:
    """A connection of its own whose reads leave no trace, and whether the server knows how (7.2 and later)."""
    async with node.own_connection() as connection:
        try:
            await connection.call("CLIENT", "NO-TOUCH", "ON")
            quiet = True
        except (ResponseError, NoPermissionError):
            quiet = False
        yield connection, quiet
