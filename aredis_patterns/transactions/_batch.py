"""Any number of commands, in few round trips and little memory, with every one of them accounted for.

The commands come from an iterable, which is read as they are sent: a million of them need the memory of two chunks. A chunk
is one write and one read on the lane; in a Cluster it is one per node. Nothing is ever sent twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from redis.exceptions import DataError, RedisError

from aredis_patterns._core.diagnosis import translate
from aredis_patterns.exceptions import BatchFailed, OutcomeUnknown, ServerUnavailable, WireClosed
from aredis_patterns.pipelining import ClientCommands, lane_of
from aredis_patterns.pipelining._packing import key_of, pack
from aredis_patterns.pipelining._routing import bypass_reason, route_of
from aredis_patterns.types import Command, RedisClient

__all__ = ["Batch", "BatchReport"]

AnyIterable: TypeAlias = Iterable[Command] | AsyncIterable[Command]

AHEAD: Final = 2
"""Chunks under way at a time: while one is answered the next is being packed."""


@dataclass(slots=True)
class BatchReport:
    """What became of each command. Indices count the commands from 0, in the order in which they came.

    done + failed + unknown + unsent is the number of commands that were taken from the iterable.
    """

    done: int = 0
    """Executed, and answered without an error."""
    failed: dict[int, Exception] = field(default_factory=dict)
    """Refused: by the server with an error reply, or before they were sent because they cannot be batched or packed."""
    unknown: dict[int, Exception] = field(default_factory=dict)
    """Sent, and the connection was lost before the reply."""
    unsent: list[int] = field(default_factory=list)
    """Taken from the iterable and not sent. What was not taken any more is not counted."""

    @property
    def complete(self) -> bool:
        """Whether all commands were executed without an error."""
        return not (self.failed or self.unknown or self.unsent)

    def raise_if_incomplete(self) -> None:
        """Raise BatchFailed, which carries this report, unless `complete`."""
        if not self.complete:
            raise BatchFailed(self)

    def __str__(self) -> str:
        parts = [f"{self.done} done", f"{len(self.failed)} failed"]
        parts += [f"{len(self.unknown)} unknown", f"{len(self.unsent)} unsent"]
        first = next(iter(self.failed.items()), None) or next(iter(self.unknown.items()), None)
        return ", ".join(parts) + (f"; the first is command {first[0]}: {first[1]}" if first else "")


Reply = Callable[[int, Any], None]


class Batch:
    """Sends many commands in chunks. Stateless between runs; safe to share.

    Guarantee: each command is executed at most once, in order per key (not while a Cluster moves the slot of the key);
    a batch is not a transaction. After a lost connection the commands under way are `unknown` and nothing is repeated.

    Args:
        client: any `redis.asyncio` client. In a Cluster commands are grouped by the node of their key.
        max_commands: most commands in one chunk (and round trip), 1,000 by default.
        max_bytes: a chunk ends when its commands reach this size, 1 MiB by default.
        on_error: "raise" stops after the first chunk with a command that was not executed and raises BatchFailed;
            "collect" goes on and leaves it to the report. When the server cannot be reached both stop.
        progress: called with the number of commands settled so far, after each chunk.

    Round trips: one per chunk (per node in a Cluster), two under way at a time. Memory: two chunks, plus one entry per
    command that was not executed.

        report = await Batch(redis).run(("SET", f"key:{i}", i, "EX", 60) for i in range(1_000_000))
    """

    def __init__(
        self,
        client: RedisClient,
        *,
        max_commands: int = 1000,
        max_bytes: int = 1024 * 1024,
        on_error: Literal["raise", "collect"] = "raise",
        progress: Callable[[int], None] | None = None,
    ) -> None:
        if max_commands < 1 or max_bytes < 1:
            raise ValueError(f"max_commands and max_bytes must be positive, got {max_commands!r} and {max_bytes!r}")
        if on_error not in ("raise", "collect"):
            raise ValueError(f"on_error is raise or collect, got {on_error!r}")
        self._commands: Final = lane_of(client)
        self.max_commands: Final = max_commands
        self.max_bytes: Final = max_bytes
        self.on_error: Final[Literal["raise", "collect"]] = on_error
        self.progress: Final = progress

    def __repr__(self) -> str:
        return f"<Batch of up to {self.max_commands} commands or {self.max_bytes} bytes, on_error={self.on_error}>"

    async def run(self, commands: AnyIterable, *, on_reply: Reply | None = None) -> BatchReport:
        """Execute all commands of a sync or async iterable. `on_reply(index, raw reply)` is called for each that was
        executed. Raises BatchFailed when on_error is "raise". An error of the iterable or of a callback ends the batch
        after the chunks under way, and carries the report as a note."""
        report = BatchReport()
        run = _Run(self._commands, report, on_reply)
        underway: list[asyncio.Task[None]] = []
        try:
            async with aclosing(self._chunks(commands)) as chunks:
                async for chunk in chunks:
                    underway.append(asyncio.create_task(run.send(chunk)))
                    if len(underway) >= AHEAD:
                        await underway.pop(0)
                        self._told(report)
                        if run.stopped or (self.on_error == "raise" and not report.complete):
                            break
            while underway:
                await underway.pop(0)
                self._told(report)
        except Exception as error:  # of the iterable or of a callback: what is under way ends first, and is told
            await asyncio.gather(*underway, return_exceptions=True)
            error.add_note(f"The batch until then: {report}.")
            raise
        finally:
            for task in underway:
                task.cancel()
            await asyncio.gather(*underway, return_exceptions=True)
        if self.on_error == "raise":
            report.raise_if_incomplete()
        return report

    async def results(self, commands: AnyIterable) -> list[Any]:
        """Execute all commands and return their raw replies in order: for as many as fit into memory.

        With on_error="collect" an error stands in its place.
        """
        replies: dict[int, Any] = {}
        report = await self.run(commands, on_reply=replies.__setitem__)
        missing: dict[int, Any] = {**report.failed, **report.unknown, **dict.fromkeys(report.unsent, _NOT_SENT)}
        replies.update(missing)
        return [replies[at] for at in range(len(replies))]

    def _told(self, report: BatchReport) -> None:
        if self.progress is not None:
            self.progress(report.done + len(report.failed) + len(report.unknown) + len(report.unsent))

    async def _chunks(self, commands: AnyIterable) -> AsyncGenerator[list[tuple[int, Command]], None]:
        chunk: list[tuple[int, Command]] = []
        size, index = 0, 0
        async for command in _iterate(commands):
            chunk.append((index, command))
            index += 1
            size += _size_of(command)
            if len(chunk) >= self.max_commands or size >= self.max_bytes:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk


_NOT_SENT: Final = ServerUnavailable("not sent: the server could not be reached")


class _Run:
    """One run: sends chunks and keeps the report."""

    def __init__(self, commands: ClientCommands, report: BatchReport, on_reply: Reply | None) -> None:
        self._commands = commands
        self._report = report
        self._on_reply = on_reply
        self.stopped = False
        """The server cannot be reached: more would only be more of the same."""

    async def send(self, chunk: Sequence[tuple[int, Command]]) -> None:
        if self.stopped:
            self._report.unsent += [index for index, _ in chunk]
            return
        sendable = [
            (index, command, key) for index, command in chunk if (key := self._check(index, command)) is not False
        ]
        groups: dict[int, list[tuple[int, Command, Any]]] = {}
        try:
            lanes = await self._commands.lanes_of([key for *_, key in sendable])
        except (RedisError, WireClosed):
            self.stopped = True
            self._report.unsent += [index for index, *_ in sendable]
            return
        for lane, each in zip(lanes, sendable, strict=True):
            groups.setdefault(lane, []).append(each)
        ends = await asyncio.gather(*(self._send_group(group) for group in groups.values()), return_exceptions=True)
        for end in ends:  # every group is finished before the error of a callback is raised
            if isinstance(end, BaseException):
                raise end

    def _check(self, index: int, command: Command) -> Any:
        """The key of a command, None when it has none; False when it cannot be sent, which is noted."""
        try:
            if isinstance(command, (str, bytes)):
                raise TypeError(f"a command is a sequence like ('GET', 'key'), got {command!r}")
            pack(command)
            reason = bypass_reason(route_of(command[0]), command)
        except (DataError, TypeError, IndexError, AttributeError) as error:
            self._report.failed[index] = DataError(f"cannot be packed: {error}")
            return False
        if reason is not None:
            self._report.failed[index] = ValueError(f"{command[0]!r} {reason} and cannot be part of a batch")
            return False
        return key_of(command)

    async def _send_group(self, group: list[tuple[int, Command, Any]]) -> None:
        try:
            replies = await self._commands.batch([command for _, command, _ in group], key=group[0][2])
        except (RedisError, WireClosed):
            self.stopped = True
            self._report.unsent += [index for index, *_ in group]
            return
        for (index, *_), reply in zip(group, replies, strict=True):
            self._settle(index, reply)

    def _settle(self, index: int, reply: Any) -> None:
        report = self._report
        if isinstance(reply, OutcomeUnknown):
            report.unknown[index] = reply
        elif isinstance(reply, (ServerUnavailable, WireClosed)):
            self.stopped = True
            report.unsent.append(index)
        elif isinstance(reply, Exception):
            report.failed[index] = translate(reply)
        else:
            report.done += 1
            if self._on_reply is not None:
                self._on_reply(index, reply)


def _size_of(command: Command) -> int:
    """About how many bytes it will be. Whether it is a command at all is checked later, where it can be noted."""
    if not isinstance(command, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        return 0
    return sum(len(part) if isinstance(part, (str, bytes, bytearray)) else _other_size(part) for part in command) + 16


def _other_size(part: object) -> int:
    return part.nbytes if isinstance(part, memoryview) else 8


async def _iterate(commands: AnyIterable) -> AsyncIterator[Command]:
    if isinstance(commands, AsyncIterable):
        async for command in commands:
            yield command
    else:
        for command in commands:
            yield command
