"""How many times a piece of code waits for the server: counted on the wire, by a `FaultProxy` in between."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aredis_patterns.testing._faults import Words

if TYPE_CHECKING:
    from aredis_patterns.testing._proxy import FaultProxy

SHOWN: Final = 20
HANDSHAKE: Final = frozenset((b"HELLO", b"AUTH", b"CLIENT", b"SELECT", b"READONLY"))
"""What clients say first on a new connection. It is not counted there."""


class RoundTrips:
    """What passed through the proxy since `count()` began.

    `round_trips` is the length of the longest chain of commands in which each was sent after the reply to the one
    before it had arrived. Commands that are sent together are one round trip, whatever their number and the pieces in
    which the network delivers them. Exact for one operation on a quiet client; operations that run side by side can
    only look longer, never shorter.
    """

    def __init__(self, depth: int) -> None:
        self._base = depth
        self._running = True
        self._commands = 0
        self._latest: deque[str] = deque(maxlen=SHOWN)
        self._depth = depth

    def __repr__(self) -> str:
        names = ", ".join(self._latest)
        return f"<RoundTrips {self.round_trips}, {self.commands} commands: {names}>"

    @property
    def round_trips(self) -> int:
        return self._depth - self._base

    @property
    def commands(self) -> int:
        """How many commands were sent."""
        return self._commands

    def saw(self, words: Words, depth: int) -> None:
        """Called by the proxy: `depth` is the place of this command in its chain."""
        if self._running:
            self._commands += 1
            self._depth = max(self._depth, depth)
            self._latest.append(f"{words[0].decode(errors='replace')} (trip {depth - self._base})")

    def stop(self) -> None:
        """Called by the proxy."""
        self._running = False


@asynccontextmanager
async def assert_round_trips(
    proxy: FaultProxy, expected: int, *, commands: int | None = None
) -> AsyncGenerator[RoundTrips, None]:
    """Fail if the block does not wait for the server exactly `expected` times.

        async with assert_round_trips(proxy, 1):
            await limiter.hit("user:1")

    The client must be connected to `proxy.url`. What a new connection says first is not counted; a script that the
    server does not know yet costs what it costs, so call it once before. `commands` also checks their number.

    Raises AssertionError, listing the commands, when the block ends without another error.
    """
    async with proxy.count() as counted:
        yield counted
    if counted.round_trips != expected:
        raise AssertionError(f"expected {expected} round trips, the code made {counted!r}")
    if commands is not None and counted.commands != commands:
        raise AssertionError(f"expected {commands} commands, the code sent {counted!r}")
