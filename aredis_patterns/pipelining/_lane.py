"""A lane: one connection, many callers, one order.

    submit  ->  unsent  --flush-->  sent  --reply-->  future
                  |                   |
                  |                   +-- connection lost: repeat if harmless, else OutcomeUnknown
                  +-- connection lost: simply waits for the next connection

Invariants

1. Bytes reach the transport in exactly the order in which entries enter `sent`.
2. Every reply pops exactly one entry of `sent`, whether its caller still waits or not.
3. What is in `unsent` was never handed to the transport. A cancelled entry is dropped there; a cancelled entry in
   `sent` keeps its place, and its reply is thrown away.
4. After `lost()` nothing is written to that connection and no future of it stays unresolved.

When is written: once per loop iteration, and at the end of the iteration in which replies woke their callers, so that
everybody's next command rides in the same write. An idle lane writes at once.

What the lane does not know: Redis clients, Cluster, retries of whole operations. Those are above (`_lanes`, `_client`).
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError

from aredis_patterns.exceptions import OutcomeUnknown, ReplyTimeout, ServerUnavailable, WireClosed
from aredis_patterns.pipelining._contract import RAW, REPEATABLE, Engine, Entry
from aredis_patterns.pipelining._deadlines import Deadlines
from aredis_patterns.pipelining._engine import engine_for
from aredis_patterns.pipelining._opening import Opening, Source, cut
from aredis_patterns.pipelining._packing import describe, pack_plain
from aredis_patterns.pipelining._pushes import Pushes
from aredis_patterns.pipelining._statistics import LaneStatistics
from aredis_patterns.pipelining._watch import Watch

WRITE_CAP: Final = 128 * 1024
"""Bytes per write: large enough to amortise the system call, small enough not to stall the loop."""
EARLY: Final = 32
"""Commands gathered in one loop iteration after which a write does not wait for its end: the server starts on them while
Python still wakes the other callers. Doubled after each such write, so that a thousand callers cost five writes."""
UNSENT_CAP: Final = 32 * 1024 * 1024
"""Bytes accepted and not yet taken by the socket, above which callers wait."""
DRAIN_TIMEOUT: Final = 1.0
"""How long `close` waits for the replies under way."""
REPEATS: Final = 3
"""How often a harmless command is written again before its caller gets the error."""

PING: Final = pack_plain(("PING",))


class Lane:
    """One ordered, shared connection to one server, in one event loop. Reopens itself when it is used after a loss."""

    def __init__(
        self,
        source: Source,
        *,
        max_in_flight: int = 10_000,
        fast: bool = True,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.source = source
        self.max_in_flight = max_in_flight
        self.sent: deque[Entry] = deque()
        self.unsent: deque[Entry] = deque()
        self.pushes = Pushes(self.loop)
        self.bypassed: dict[str, int] = {}
        self.crowd: deque[asyncio.Future[None]] = deque()
        self._create_future = self.loop.create_future
        self._fast = fast
        self._engine: Engine | None = None
        self._opening = Opening(self)
        self._deadlines = Deadlines(self)
        self._watch = Watch(self)
        self._flush_due = False
        self._early = EARLY
        self._unsent_bytes = 0
        self._retiring = False
        self._repeats: weakref.WeakKeyDictionary[asyncio.Future[Any], int] = weakref.WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._commands = self._flushes = self._connections = 0
        self._unknown = self._repeated = self.dropped = 0
        _all_lanes.add(self)

    def __repr__(self) -> str:
        state = "open" if self._engine is not None else "opening" if self._opening.active else "idle"
        return f"<Lane {self.source!r} {state}, {len(self.sent)} in flight, {len(self.unsent)} unsent>"

    # the hot path -------------------------------------------------------------------------------------------------

    def submit(self, packed: bytes, flags: int = 0, deadline: float | None = None) -> asyncio.Future[Any]:
        """Queue one packed command. Resolves to the reply; an error reply is a *result*, a lost connection is
        raised."""
        future = self._create_future()
        unsent = self.unsent
        unsent.append((future, packed, flags))
        self._unsent_bytes += len(packed)
        if not self._flush_due:
            if self.sent or self._engine is None:
                self._flush_due = True
                self.loop.call_soon(self._flush)
            else:
                self._write()
        elif len(unsent) >= self._early and self._engine is not None:
            self._early *= 2
            self._write()
        if deadline is not None:
            self._deadlines.watch(deadline, future, packed)
        return future

    def flush(self) -> None:
        """Write what is unsent now, if there is a connection."""
        if self._engine is not None:
            self._write()

    @property
    def crowded(self) -> bool:
        """Whether a caller must wait for `room` before it submits."""
        return (
            len(self.sent) + len(self.unsent) >= self.max_in_flight
            or self._unsent_bytes > UNSENT_CAP
            or len(self.crowd) > 0
        )

    async def room(self, deadline: float | None = None) -> None:
        """Wait for a place, first come, first served. Cancelled, the place goes to the next."""
        turn: asyncio.Future[None] = self._create_future()
        self.crowd.append(turn)
        try:
            async with asyncio.timeout(deadline):
                await turn
        except asyncio.CancelledError:
            self._pass_on(turn)
            raise
        except TimeoutError:
            self._pass_on(turn)
            raise ServerUnavailable(f"{self.source} had no room for one more command within {deadline} s") from None

    def _pass_on(self, turn: asyncio.Future[None]) -> None:
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self._admit(1)

    def _admit(self, most: int) -> None:
        crowd = self.crowd
        while crowd and most > 0:
            turn = crowd.popleft()
            if not turn.done():
                turn.set_result(None)
                most -= 1

    def _flush(self) -> None:
        self._flush_due = False
        self._early = EARLY
        self._write()

    def _write(self) -> None:
        """Hand the unsent commands to the transport, oldest first."""
        unsent = self.unsent
        if not unsent:
            return
        engine = self._engine
        if engine is None:
            self._opening.start()
            return
        if self._watch.probing or self._retiring or not self._may_write(engine):
            return
        sent, before = self.sent, len(self.sent)
        while unsent and not engine.paused:
            pieces: list[bytes] = []
            size = 0
            while unsent and size < WRITE_CAP:
                entry = unsent.popleft()
                packed = entry[1]
                size += len(packed)
                if not entry[0].done():
                    pieces.append(packed)
                    sent.append(entry)
            self._unsent_bytes -= size
            if pieces:
                self._flushes += 1
                engine.write(b"".join(pieces))
        written = len(sent) - before
        if written > 0:
            self._commands += written
            self._watch.wrote(self._commands)

    def _may_write(self, engine: Engine) -> bool:
        """Housekeeping between writes: rotated credentials go first; a connection that is asked to go takes no more."""
        connection = engine.connection
        if connection.should_reconnect():
            self.retire()
            return False
        token = getattr(connection, "_re_auth_token", None)
        if token is not None:
            connection.set_re_auth_token(None)  # type: ignore[arg-type]
            auth = pack_plain(("AUTH", token.try_get("oid"), token.get_value()))
            self.sent.append((self._create_future(), auth, RAW))
            engine.write(auth)
            self._commands += 1
        return True

    # what the engine tells ----------------------------------------------------------------------------------------

    def answered(self) -> None:
        """Flush behind the callers that were just woken: their next commands ride together."""
        if not self._flush_due:
            self._flush_due = True
            self.loop.call_soon(self._flush)
        if self.crowd:
            self._admit(self.max_in_flight - len(self.sent) - len(self.unsent))
        if self._retiring and not self.sent:
            self._close_connection()

    def pushed(self, message: Any) -> None:
        engine = self._engine
        self.pushes.deliver(message, engine.connection if engine is not None else None)

    def writable(self) -> None:
        self._flush()
        if self.crowd:
            self._admit(self.max_in_flight - len(self.sent) - len(self.unsent))

    def lost(self, error: Exception) -> None:
        """Settle every command that was written: repeat the harmless ones first in line, report the others."""
        engine, self._engine = self._engine, None
        self._retiring = False
        self._watch.stop()
        again: list[Entry] = []
        while self.sent:
            entry = self.sent.popleft()
            future, packed, flags = entry
            if future.done():
                continue
            if flags & REPEATABLE and self._may_repeat(future):
                again.append(entry)
            else:
                self._report_unknown(future, packed, error)
        self.unsent.extendleft(reversed(again))
        self._unsent_bytes += sum(len(packed) for _, packed, _ in again)
        if engine is not None:
            self._spawn(self.source.discard(engine.connection))
        self.pushes.interrupted(error)
        if self.crowd:
            self._admit(self.max_in_flight - len(self.unsent))
        if self.unsent:
            self._opening.start()

    def _may_repeat(self, future: asyncio.Future[Any]) -> bool:
        times = self._repeats.get(future, 0)
        self._repeats[future] = times + 1
        self._repeated += times < REPEATS
        return times < REPEATS

    def _report_unknown(self, future: asyncio.Future[Any], packed: bytes, error: Exception) -> None:
        self._unknown += 1
        name, key = describe(packed)
        kind = ReplyTimeout if isinstance(error, ReplyTimeout) else OutcomeUnknown
        unknown = kind(name, key, error.reason if isinstance(error, OutcomeUnknown) else str(error))
        unknown.__cause__ = error
        future.set_exception(unknown)

    def expire(self, seconds: float, overdue: list[tuple[asyncio.Future[Any], bytes]]) -> None:
        """Answer callers whose deadline has passed. Unsent commands are withdrawn: those have surely not run."""
        waiting = {id(future) for future, _, _ in self.unsent}
        for future, packed in overdue:
            name, key = describe(packed)
            if id(future) in waiting:
                future.set_exception(
                    ServerUnavailable(f"{name} could not be sent to {self.source} within {seconds:g} s")
                )
            else:
                self._unknown += 1
                future.set_exception(ReplyTimeout(name, key, f"no reply came within {seconds:g} s"))

    # opening and closing ------------------------------------------------------------------------------------------

    def attach(self, connection: AbstractConnection) -> None:
        """A connection is ready: write what waits."""
        self._connections += 1
        self._retiring = False
        self._engine = engine = engine_for(connection, self, fast=self._fast)
        self._watch.start(connection)
        engine.start()
        self.pushes.resumed()
        self._flush()

    def refuse(self, make_error: Callable[[], Exception]) -> None:
        """No connection could be had: nothing that waits was sent, and each caller gets an error of its own."""
        waiting, self.unsent = self.unsent, deque()
        self._unsent_bytes = 0
        for future, _, _ in waiting:
            if not future.done():
                future.set_exception(make_error())
        self._admit(self.max_in_flight)

    def _dismiss(self, make_error: Callable[[], Exception]) -> None:
        """As `refuse`, also for those who wait for room: admitted, they would open the lane again."""
        crowd, self.crowd = self.crowd, deque()
        for turn in crowd:
            if not turn.done():
                turn.set_exception(make_error())
        self.refuse(make_error)

    @property
    def engine(self) -> Engine | None:
        return self._engine

    def retire(self) -> None:
        """Take no more commands on this connection; close it behind the last reply and go on with the next one."""
        if self._engine is not None and not self._retiring:
            self._retiring = True
            if not self.sent:
                self._close_connection()

    def _close_connection(self) -> None:
        engine, self._engine = self._engine, None
        self._retiring = False
        self._watch.stop()
        if engine is not None:
            engine.detach()
            self._spawn(self.source.discard(engine.connection))
            self.pushes.interrupted(ConnectionError("the connection was replaced"))
        if self.unsent:
            self._opening.start()

    async def close(self) -> None:
        """Wait up to a second for the replies under way, then give the connection back. Safe to call twice."""
        if self._engine is not None and self.unsent:
            self._flush()
        futures = [future for future, _, _ in (*self.sent, *self.unsent) if not future.done()]
        if futures:
            await asyncio.wait(futures, timeout=DRAIN_TIMEOUT)
        await self._opening.stop()
        self._dismiss(lambda: WireClosed("the client was closed before the command was sent"))
        engine = self._engine
        if engine is not None:
            if self.sent:
                engine.abort(ConnectionError("the client was closed before the reply came"))
            else:
                self._close_connection()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def abandon(self, reason: str = "the client went away") -> None:
        """Close without an event loop's help: the client was collected, or this is a fork."""
        engine, self._engine = self._engine, None
        self._watch.stop()
        self._opening.cancel()
        if engine is not None:
            engine.detach()
            if not self.loop.is_closed():
                cut(engine.connection)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def probe(self) -> asyncio.Future[Any]:
        """Ask an idle server whether it is there, ahead of everybody."""
        assert self._engine is not None
        future = self._create_future()
        self.sent.append((future, PING, RAW))
        self._commands += 1
        self._flushes += 1
        self._engine.write(PING)
        return future

    def fail_connection(self, error: Exception) -> None:
        """Give this connection up: what was sent ends in `OutcomeUnknown`, the rest goes to the next one."""
        if self._engine is not None:
            self._engine.abort(error)

    def statistics(self) -> LaneStatistics:
        """A snapshot of the counters."""
        return LaneStatistics(
            open=self._engine is not None,
            in_flight=len(self.sent),
            unsent=len(self.unsent),
            waiting=len(self.crowd),
            commands=self._commands,
            flushes=self._flushes,
            reconnects=max(0, self._connections - 1),
            unknown_outcomes=self._unknown,
            repeated=self._repeated,
            dropped_replies=self.dropped,
            bypassed=dict(self.bypassed),
        )


_all_lanes: weakref.WeakSet[Lane] = weakref.WeakSet()


def _forget_inherited_lanes() -> None:
    """A forked child shares the parent's sockets. It must neither write to them nor shut them down."""
    for lane in list(_all_lanes):
        lane._engine = None
    _all_lanes.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited_lanes)
