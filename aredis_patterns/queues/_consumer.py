"""The consuming side of one queue in one event loop: takes what is wanted, hands it out, settles what is finished.

All consumers of a process share it, so a thousand waiting tasks cost one request, one lease renewal and one address.
Nobody's request is ever cancelled: who stops waiting leaves a message to the next, or it is given back.

    shelf       messages that are here, and who waits for one
    desk        decisions that the server has not heard of
    leases      what is renewed
    turns       one request at a time: decisions go out, messages come in
    bell        wakes us when there is something
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from aredis_patterns._core.codecs import Codec
from aredis_patterns.exceptions import DecodeError, QueueClosed
from aredis_patterns.queues._bell import Bell
from aredis_patterns.queues._desk import Desk, Slip, lose
from aredis_patterns.queues._envelope import split
from aredis_patterns.queues._keys import QueueKeys
from aredis_patterns.queues._leases import Leases
from aredis_patterns.queues._message import Message
from aredis_patterns.queues._policy import Policy
from aredis_patterns.queues._scripts import Turn, commit, turn
from aredis_patterns.queues._shelf import Shelf, answer, fail
from aredis_patterns.queues._transaction import Effect
from aredis_patterns.queues._turns import PATIENCE, Turns, insist
from aredis_patterns.types import Commands, RedisClient

__all__ = ["MOST_TAKEN", "Consumer"]

AnyMessage: TypeAlias = Message[Any]

MOST_TAKEN: Final = 500
"""Messages in one turn."""
_PAUSED: Final = 1
_AFTER_A_LEASE: Final = 0.5
"""Seconds by which a lease may have ended before somebody idle notices; it bounds what short leases cost."""
_AFTER_A_MISTAKE: Final = 1.0
"""Seconds until a consumer that the server refuses looks again."""

_log: Final = logging.getLogger("aredis_patterns")


@dataclass(slots=True, eq=False)
class _Commit:
    message: AnyMessage
    commands: list[Effect]
    done: asyncio.Future[bool]


class Consumer:
    """See the module."""

    def __init__(
        self,
        client: RedisClient,
        commands: Commands,
        keys: QueueKeys,
        *,
        namespace: str,
        name: str,
        policy: Policy,
        codec: Codec[Any],
    ) -> None:
        self.name: Final = name
        self.shelf: Final[Shelf[AnyMessage]] = Shelf()
        self.desk: Final = Desk()
        self.delivered = self.expired = self.turns = 0
        self._commands: Final = commands
        self._keys: Final = keys
        self._policy: Final = policy
        self._decode: Final = codec.decode
        self._loop: Final = asyncio.get_running_loop()
        self._bell: Final = Bell(client, namespace, self._rung)
        self._turns: Final = Turns(self._turn, self._wanted, name=f"queue {name}: consume")
        self._leases: Final = Leases(policy.lease_seconds, self._renew)
        self._commits: deque[_Commit] = deque()
        self._asleep = False
        """The server has less than we want, and we shall hear of more."""
        self._look = False
        """Ask the server in any case."""
        self._due = math.inf
        """When the next message is due, by our clock. We alone may know: we look then, also when nobody here waits."""
        self._closed = False

    async def next(self, timeout: float | None) -> AnyMessage | None:
        """The next message; None after `timeout` seconds (None: never; 0: after one look)."""
        message = self.shelf.take()
        if message is not None:
            return message
        if self._closed:
            raise QueueClosed(self.name)
        taker, timer = self.shelf.ask(timeout)
        self._turns.kick()
        try:
            return await taker
        except asyncio.CancelledError:
            if self.shelf.leave(taker):
                self._hand_out()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def look_ahead(self, change: int) -> None:
        """Take so many messages more, or less, before anybody asks for them. What is too much then is given back."""
        self.shelf.lookahead += change
        if change < 0:
            self._give_back()
        else:
            self._turns.kick()

    def look(self) -> None:
        """Ask the server now, whatever it said before."""
        self._look = True
        self._turns.kick()

    async def finish(self, timeout: float) -> None:
        """Wait until what was decided is settled."""
        await self._turns.finish(timeout)

    async def aclose(self) -> None:
        """Give back what nobody has looked at, settle what was decided, and be forgotten by the server."""
        self._closed = True
        self.shelf.fail(QueueClosed(self.name))
        self.shelf.lookahead = 0
        self._give_back()
        self._leases.close()
        await self._turns.finish(self._policy.deadline)
        address = self._bell.address
        await self._bell.aclose()
        if address:
            self._commands.post("ZREM", self._keys.consumers, address, key=self._keys.messages)
        if self.turns:
            self._commands.post("UNLINK", self._keys.answer, key=self._keys.messages)

    # what a message asks of its holder ----------------------------------------------------------------------------------

    def ack(self, message: AnyMessage) -> asyncio.Future[bool]:
        done = self._loop.create_future()
        self.desk.ack(message, done)
        return self._decided(message, done)

    def nack(self, message: AnyMessage, delay: int, reason: str) -> asyncio.Future[bool]:
        done = self._loop.create_future()
        self.desk.nack(message, done, delay, reason)
        return self._decided(message, done)

    def release(self, message: AnyMessage) -> asyncio.Future[bool]:
        done = self._loop.create_future()
        self.desk.release(message, done)
        return self._decided(message, done)

    def extend(self, message: AnyMessage, lease: int) -> asyncio.Future[bool]:
        done = self._loop.create_future()
        self.desk.extend(message, done, lease)
        self._turns.kick()
        return done

    def commit(self, message: AnyMessage, commands: list[Effect]) -> asyncio.Future[bool]:
        done = self._loop.create_future()
        message._state = "acked"
        self._commits.append(_Commit(message, commands, done))
        return self._decided(message, done)

    def ack_soon(self, message: AnyMessage) -> None:
        """Ack without waiting to hear of it."""
        self.desk.ack(message, None)
        self._leases.drop(message)
        self._turns.kick()

    def nack_soon(self, message: AnyMessage, pause: float | None, reason: str) -> None:
        """Nack without waiting to hear of it; `pause` in seconds, None for the backoff of the queue."""
        seconds = self.pause_after(message.attempt) if pause is None else pause
        self.desk.nack(message, None, round(seconds * 1_000_000), reason)
        self._leases.drop(message)
        self._turns.kick()

    def pause_after(self, failures: int) -> float:
        """Seconds."""
        return self._policy.backoff.pause(failures)

    def _decided(self, message: AnyMessage, done: asyncio.Future[bool]) -> asyncio.Future[bool]:
        self._leases.drop(message)
        self._turns.kick()
        return done

    def _renew(self, messages: list[AnyMessage]) -> None:
        for message in messages:
            self.desk.extend(message, None, self._policy.lease)
        self._turns.kick()

    # turns ------------------------------------------------------------------------------------------------------------

    def _rung(self, heard: bool) -> None:
        """It is time to look, or somebody has called: a call that is not needed here has to be passed on."""
        self._asleep = False
        due = time.monotonic() >= self._due
        if due:
            self._due = math.inf
        self._look = self._look or heard or due
        self._turns.kick()

    def _wanted(self) -> bool:
        if self.desk or self._commits or self._look or self.shelf.hasty:
            return True
        return not self._asleep and not self._closed and self.shelf.demand > 0

    async def _turn(self) -> None:
        self.turns += 1
        if self._commits:
            await self._commit(self._commits.popleft())
            return
        self._look = False
        slip, hasty, address = self.desk.take(), self.shelf.hasty_ones(), self._bell.address
        want = 0 if self._closed else min(MOST_TAKEN, self.shelf.demand)

        def go_on(error: Exception, seconds: float) -> bool:
            """For ever; but those who cannot wait, or have waited as long as one call may take, get an error."""
            for taker in (*hasty, *self.shelf.hasty_ones()):
                fail(taker, error)
            if seconds >= self._policy.deadline:
                slip.fail(error)
            self._leases.notice_ends()
            return True

        try:
            reply, sent = await insist(functools.partial(self._send, slip, want, address), go_on)
        except asyncio.CancelledError:
            slip.fail(QueueClosed(self.name))
            raise
        except Exception as error:
            slip.fail(error)
            self.shelf.fail(error)
            self._sleep(_AFTER_A_MISTAKE)
            return
        self._settle(slip, reply, sent)
        self._receive(reply, sent)
        for taker in hasty:
            answer(taker, None)
        self._asleep = False
        if len(reply.ids) < want and self.shelf.demand and (address or not self._bell.address):
            # Nothing may be leased now, and yet somebody may take a message in a moment and die: his lease ends no sooner.
            pause = reply.next / 1_000_000 + 0.001 if reply.next >= 0 else math.inf
            self._due = time.monotonic() + pause
            self._sleep(min(pause, self._policy.lease_seconds + _AFTER_A_LEASE))
        elif self._due < math.inf:
            self._bell.look_in(max(0.0, self._due - time.monotonic()))
        else:
            self._bell.silence()

    async def _send(self, slip: Slip, want: int, address: str) -> tuple[Turn, float]:
        policy, sent = self._policy, time.monotonic()
        reply = await turn(
            self._commands,
            keys=self._keys,
            number=self.turns,
            lease=policy.lease,
            want=want,
            address=address,
            patience=PATIENCE,
            most=policy.most_deliveries,
            keep=int(policy.keep_dead),
            acks=slip.acks_text,
            extends=slip.extends_text,
            releases=slip.releases_text,
            nacks=slip.nacks_text,
            deadline=policy.deadline,
        )
        return reply, sent

    def _settle(self, slip: Slip, reply: Turn, sent: float) -> None:
        lost = {id.decode() for id in reply.lost}
        slip.answer(lost, clock=reply.clock, sent=sent)
        self.desk.lost += len(lost)
        self.expired += reply.expired

    def _receive(self, reply: Turn, sent: float) -> None:
        deadline, expires = reply.clock + self._policy.lease, sent + self._policy.lease_seconds
        failed, decode = reply.failed, self._decode
        for at, (raw_id, envelope) in enumerate(zip(reply.ids, reply.envelopes, strict=True)):
            attempt = failed[at] + 1 if failed else 1
            id = raw_id.decode()
            try:
                facts, body = (None, envelope[1:]) if envelope[:1] == b"\n" else split(envelope)
                message: AnyMessage = Message(self, id, decode(body), facts, attempt, deadline, expires)
            except DecodeError as error:
                _log.error(
                    "message %s of queue %r cannot be read, it goes to the dead letters: %s", id, self.name, error
                )
                unreadable: AnyMessage = Message(self, id, None, None, attempt, deadline, expires)
                self.desk.nack(unreadable, None, -1, f"cannot be read: {error}")
                continue
            self.shelf.put(message)
            self._leases.hold(message)
        self.delivered += len(reply.ids)
        if reply.state == _PAUSED:
            self._give_back(keep=0)
        self._hand_out()

    def _hand_out(self) -> None:
        self.shelf.hand_out()
        self._give_back()

    def _give_back(self, keep: int | None = None) -> None:
        for message in self.shelf.surplus(keep):
            self._leases.drop(message)
            self.desk.release(message, None)
        self._turns.kick()

    def _sleep(self, seconds: float) -> None:
        self._asleep = True
        self._bell.look_in(seconds)

    async def _commit(self, work: _Commit) -> None:
        message = work.message

        def go_on(error: Exception, seconds: float) -> bool:
            if seconds >= self._policy.deadline:
                fail(work.done, error)
            return True

        async def send() -> int:
            return await commit(
                self._commands,
                keys=self._keys,
                touched=[key for _, key, _ in work.commands],
                number=self.turns,
                id=message.id,
                deadline=message._deadline,
                lengths=",".join([str(1 + len(args)) for _, _, args in work.commands]),
                words=[word for command, _, args in work.commands for word in (command, *args)],
                patience=self._policy.deadline,
            )

        try:
            done = await insist(send, go_on) == 1
        except asyncio.CancelledError:
            fail(work.done, QueueClosed(self.name))
            raise
        except Exception as error:
            message._state = "held"
            self._leases.hold(message)
            fail(work.done, error)
            return
        if not done:
            lose(message)
        if not work.done.done():
            work.done.set_result(done)
