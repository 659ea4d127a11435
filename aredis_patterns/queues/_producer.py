"""The producing side of one queue in one event loop: batches go in, ids come out, whole batches or nothing."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aredis_patterns.exceptions import QueueClosed, QueueFull
from aredis_patterns.queues._bell import Bell
from aredis_patterns.queues._keys import QueueKeys
from aredis_patterns.queues._scripts import Enqueued, enqueue
from aredis_patterns.queues._turns import PATIENCE, Turns, copy_of, insist_for
from aredis_patterns.types import Commands, RedisClient

__all__ = ["MOST_IN_A_TURN", "MessageId", "Producer"]

MOST_IN_A_TURN: Final = 1000
"""Messages: about two milliseconds of the server."""
_MOST_BYTES: Final = 512 * 1024
"""Of a turn that carries more than one batch."""


class MessageId(str):
    """The id of a message: 16 digits, the microsecond at which it was enqueued. Sorts by age.

    `deduplicated` is true when this call enqueued nothing, because a message with the same `dedup_key` was there first:
    then this is its id.
    """

    __slots__ = ("deduplicated",)

    deduplicated: bool

    def __new__(cls, text: str, *, deduplicated: bool = False) -> MessageId:
        self = super().__new__(cls, text)
        self.deduplicated = deduplicated
        return self


@dataclass(slots=True, eq=False)
class _Batch:
    envelopes: Sequence[bytes]
    done: asyncio.Future[list[MessageId]]
    waits: bool
    """Whether it waits for room instead of being refused."""
    size: int


class Producer:
    """Takes batches, sends those of one loop tick together, and lets those wait that find no room."""

    def __init__(
        self,
        client: RedisClient,
        commands: Commands,
        keys: QueueKeys,
        *,
        namespace: str,
        name: str,
        most: int,
        window: int,
        deadline: float,
    ) -> None:
        self._commands: Final = commands
        self._keys: Final = keys
        self._name: Final = name
        self._most: Final = most
        self._window: Final = window
        self._deadline: Final = deadline
        self._loop: Final = asyncio.get_running_loop()
        self._bell: Final = Bell(client, namespace, self._rung)
        self._turns: Final = Turns(
            self._turn, lambda: bool(self._pending) or self._pass_on, name=f"queue {name}: enqueue"
        )
        self._pending: deque[_Batch] = deque()
        self._waiting: deque[_Batch] = deque()
        self._number = 0
        self._rang = False
        self._pass_on = False
        """We were called. If nobody waits here any more, an empty turn calls the next producer."""
        self.enqueued = 0

    async def put(self, envelopes: Sequence[bytes], wait: float | None) -> list[MessageId]:
        """Enqueue a batch, whole or not at all; `wait` seconds for room at most, None without limit.

        Raises QueueFull, or what the server said. Cancelled before it was sent, or while it waits for room, the batch is
        withdrawn.
        """
        size = sum(map(len, envelopes)) if len(envelopes) > 1 else len(envelopes[0])
        batch = _Batch(envelopes, self._loop.create_future(), wait is None or wait > 0, size)
        self._pending.append(batch)
        self._turns.kick()
        timer = self._loop.call_later(wait, self._give_up, batch) if wait else None
        try:
            return await batch.done
        finally:
            if timer is not None:
                timer.cancel()

    async def aclose(self) -> None:
        """Send what is pending, refuse what waits."""
        for batch in self._waiting:
            if not batch.done.done():
                batch.done.set_exception(QueueClosed(self._name))
        self._waiting.clear()
        await self._turns.finish(self._deadline)
        address = self._bell.address
        await self._bell.aclose()
        if address:
            self._commands.post("ZREM", self._keys.producers, address, key=self._keys.messages)
        if self._number:
            self._commands.post("UNLINK", self._keys.answer, key=self._keys.messages)

    # turns ------------------------------------------------------------------------------------------------------------

    def _rung(self, heard: bool) -> None:
        """There may be room: those who wait go first, in their order."""
        self._rang = True
        self._pass_on = self._pass_on or heard
        self._pending.extendleft(reversed(self._waiting))
        self._waiting.clear()
        self._turns.kick()

    def _give_up(self, batch: _Batch) -> None:
        """Its time is over. One that is on its way may still find room, and is answered by its turn."""
        batch.waits = False
        if batch in self._waiting:
            self._waiting.remove(batch)
            self._pending.append(batch)  # one last look, which says how much room there is
            self._turns.kick()

    def _gather(self) -> list[_Batch]:
        """The batches of the next turn. What nobody waits for any more is not sent."""
        batches: list[_Batch] = []
        count = size = 0
        while self._pending:
            batch = self._pending[0]
            if not batch.done.done():
                count += len(batch.envelopes)
                size += batch.size
                if batches and (count > MOST_IN_A_TURN or size > _MOST_BYTES):
                    break
                batches.append(batch)
            self._pending.popleft()
        return batches

    async def _turn(self) -> None:
        batches = self._gather()
        if not batches and not self._pass_on:
            return
        self._number += 1
        self._rang = self._pass_on = False
        address = self._bell.address if self._most and any(batch.waits for batch in batches) else ""
        try:
            reply = await insist_for(self._deadline, functools.partial(self._send, batches, address))
        except asyncio.CancelledError:
            _fail(batches, QueueClosed(self._name))
            raise
        except Exception as error:
            _fail(batches, error)
            return
        self._answer(batches, reply)

    async def _send(self, batches: list[_Batch], address: str) -> Enqueued:
        return await enqueue(
            self._commands,
            keys=self._keys,
            number=self._number,
            most=self._most,
            window=self._window,
            address=address,
            patience=PATIENCE,
            sizes=",".join([str(len(batch.envelopes)) for batch in batches]),
            envelopes=[envelope for batch in batches for envelope in batch.envelopes],
            deadline=self._deadline,
        )

    def _answer(self, batches: list[_Batch], reply: Enqueued) -> None:
        twins = dict(zip(reply.twins[::2], reply.twins[1::2], strict=True))
        refused = set(reply.refused)
        at = 0
        for number, batch in enumerate(batches):
            count = len(batch.envelopes)
            if number in refused:
                self._refuse(batch, reply.free)
            else:
                first = reply.first + at
                if twins:
                    ids = [_id_of(first + i, twins.get(at + i)) for i in range(count)]
                else:
                    ids = [MessageId(str(first + i)) for i in range(count)]
                self.enqueued += count
                if not batch.done.done():
                    batch.done.set_result(ids)
            at += count
        if self._rang:
            self._rung(True)  # room was made after the refusal, and the news was quicker than the refusal
        elif self._waiting:
            self._bell.look_in(None)

    def _refuse(self, batch: _Batch, free: int) -> None:
        if batch.done.done():
            return
        if batch.waits:
            self._waiting.append(batch)
        else:
            batch.done.set_exception(QueueFull(self._name, free, len(batch.envelopes)))


def _id_of(own: int, twin: int | None) -> MessageId:
    return MessageId(str(own)) if twin is None else MessageId(str(twin), deduplicated=True)


def _fail(batches: list[_Batch], error: Exception) -> None:
    for batch in batches:
        if not batch.done.done():
            batch.done.set_exception(copy_of(error))
