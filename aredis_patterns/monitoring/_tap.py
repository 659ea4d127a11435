"""`CommandTap`: what a server executes, as it happens, for a short while."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

from redis.exceptions import RedisError

from aredis_patterns._core.diagnosis import translate
from aredis_patterns._core.durations import to_seconds
from aredis_patterns.monitoring._monitor_line import MonitoredCommand, parse_line
from aredis_patterns.monitoring._redaction import Redaction, check_redaction, redact
from aredis_patterns.pipelining._nodes import Node, nodes_of
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["CommandTap", "TapStatistics"]


@dataclass(frozen=True, slots=True)
class TapStatistics:
    """`commands` heard so far, `unread` of them still waiting to be taken, and whether the tap is `open`."""

    commands: int
    unread: int
    open: bool


class CommandTap:
    """MONITOR with a beginning and an end.

        async with CommandTap(redis, max_commands=500, duration=5) as tap:
            async for command in tap:
                print(command.at, command.client, command.args)

    The iteration ends after `duration` seconds or `max_commands` commands, whichever comes first; both are needed,
    because MONITOR costs the server up to half of its throughput. The server is read as fast as it speaks, whatever the
    loop does with the commands, so that its output buffer does not grow; what waits here is at most `max_commands`.
    Each node of a Cluster that takes writes is heard, on a connection of its own that nothing else uses; it waits
    through silence without end. When the block is left, or cancelled, the connections are closed.

    Args:
        client: any `redis.asyncio` client.
        max_commands: most commands to hear, 1 or more.
        duration: seconds from entering.
        redact: "values" (default) shows commands and keys, "all" commands only, "none" every byte.

    Raises PermissionDenied on entering where the ACL forbids MONITOR, and a ConnectionError from the iteration when a
    connection is lost (after what was heard before). Commands that the server hides (AUTH) are not heard by anybody.
    """

    def __init__(
        self,
        client: RedisClient,
        *,
        max_commands: int = 1000,
        duration: Seconds = 10.0,
        redact: Redaction = "values",
    ) -> None:
        if isinstance(max_commands, bool) or max_commands < 1:
            raise ValueError(f"max_commands must be 1 or more, got {max_commands!r}")
        self.max_commands: Final = max_commands
        self.duration: Final = to_seconds(duration, "duration")
        self.redact: Final = check_redaction(redact)
        self._client: Final = client
        self._heard: deque[MonitoredCommand] = deque()
        self._count = 0
        self._error: Exception | None = None
        self._news: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "open" if self.statistics().open else "closed"
        return f"<CommandTap {state}, {self._count} of {self.max_commands} commands heard>"

    def statistics(self) -> TapStatistics:
        """What was heard so far."""
        return TapStatistics(self._count, len(self._heard), self._task is not None and not self._task.done())

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("a tap is used once; make another one")
        self._news = asyncio.Event()
        nodes = [node for node in await nodes_of(self._client) if node.primary]
        listening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._listen(nodes, listening), name="aredis-patterns tap")
        try:
            await listening
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listening and close the connections. Safe to call twice."""
        task = self._task
        if task is None:
            return
        task.cancel()
        interrupted: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                interrupted = error
        if interrupted is not None:
            raise interrupted

    async def __aiter__(self) -> AsyncIterator[MonitoredCommand]:
        if self._news is None or self._task is None:
            raise RuntimeError("a tap is read inside its block: async with CommandTap(...) as tap")
        while True:
            while self._heard:
                yield self._heard.popleft()
            if self._task.done():
                if self._error is not None:
                    raise self._error
                return
            self._news.clear()
            await self._news.wait()

    async def _listen(self, nodes: list[Node], listening: asyncio.Future[None]) -> None:
        """Until the time is up, the count is reached, or a connection is lost."""
        assert self._news is not None
        ready = asyncio.Semaphore(0)
        try:
            async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as group:
                for node in nodes:
                    group.create_task(self._hear(node, ready), name=f"aredis-patterns tap of {node.name}")
                for _ in nodes:
                    await ready.acquire()
                limit.reschedule(asyncio.get_running_loop().time() + self.duration)
                if not listening.done():
                    listening.set_result(None)
        except TimeoutError:
            pass
        except BaseExceptionGroup as group_of_errors:
            first = group_of_errors.exceptions[0]
            if not isinstance(first, _Enough):
                assert isinstance(first, Exception)
                self._error = translate(first, command="MONITOR")
        finally:
            if not listening.done():
                if self._error is None:
                    listening.cancel()
                else:
                    listening.set_exception(self._error)
            self._news.set()

    async def _hear(self, node: Node, ready: asyncio.Semaphore) -> None:
        assert self._news is not None
        async with node.own_connection() as connection:
            await connection.call("MONITOR")
            ready.release()
            while self._count < self.max_commands:
                line = await connection.read()
                command = parse_line(line, node.name) if isinstance(line, bytes) else None
                if command is None or self._count >= self.max_commands:
                    continue
                self._count += 1
                self._heard.append(replace(command, args=redact(command.args, self.redact)))
                self._news.set()
        raise _Enough


class _Enough(RedisError):
    """Ends the other listeners."""
