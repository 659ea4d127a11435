"""`Message`: one delivery of one message, and what its holder may do with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from aredis_patterns._core.durations import timeout_seconds, to_microseconds
from aredis_patterns.exceptions import LeaseLost
from aredis_patterns.queues._envelope import Facts
from aredis_patterns.queues._transaction import Effect, MessageTransaction
from aredis_patterns.types import Seconds

__all__ = ["Holder", "Message", "State"]

T = TypeVar("T")

State: TypeAlias = Literal["held", "acked", "nacked", "rejected", "released", "lost"]


class Holder(Protocol):
    """What a message needs of the consumer that took it. Each future tells whether the lease was still ours."""

    @property
    def name(self) -> str: ...
    def ack(self, message: Message[Any]) -> asyncio.Future[bool]: ...
    def nack(self, message: Message[Any], delay: int, reason: str) -> asyncio.Future[bool]: ...
    def release(self, message: Message[Any]) -> asyncio.Future[bool]: ...
    def extend(self, message: Message[Any], lease: int) -> asyncio.Future[bool]: ...
    def commit(self, message: Message[Any], commands: list[Effect]) -> asyncio.Future[bool]: ...
    def pause_after(self, failures: int) -> float: ...


class Message(Generic[T]):
    """One delivery. Its lease is renewed for as long as this object is alive and nothing was decided.

        async with message:                 # ack when the block ends, nack when it raises, release when it is cancelled
            await send_mail(message.body)

    Guarantee: ack, nack, reject, release, extend and transactions are fenced. Once the lease has ended and the message
    was given to somebody else, they change nothing. Whatever is decided in one loop tick travels in one round trip,
    together with the next dequeue.
    """

    __slots__ = (
        "__weakref__",
        "_deadline",
        "_expires",
        "_facts",
        "_holder",
        "_lost_callback",
        "_state",
        "_untold",
        "attempt",
        "body",
        "id",
    )

    def __init__(
        self, holder: Holder, id: str, body: T, facts: Facts | None, attempt: int, deadline: int, expires: float
    ) -> None:
        self.id: Final = id
        self.body: Final = body
        self.attempt: Final = attempt
        """1 for the first delivery. A message that was given back unread does not count."""
        self._holder = holder
        self._facts = facts
        self._deadline = deadline
        self._expires = expires
        self._state: State = "held"
        self._untold = False
        """The lease was lost, and nobody who holds this object has heard of it."""
        self._lost_callback: Callable[[], object] | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """What the producer gave as headers."""
        return self._facts.get("headers", {}) if self._facts else {}

    @property
    def priority(self) -> int:
        """From -100 to 100; higher was served first."""
        return self._facts.get("priority", 0) if self._facts else 0

    @property
    def group(self) -> str | None:
        """Whose share of the queue it took."""
        return self._facts.get("group") if self._facts else None

    @property
    def ordering_key(self) -> str | None:
        """Nothing else of this key is delivered before this message is finished."""
        return self._facts.get("key") if self._facts else None

    @property
    def enqueued_at(self) -> datetime:
        """By the server's clock."""
        return datetime.fromtimestamp(int(self.id) / 1_000_000, UTC)

    @property
    def deadline(self) -> datetime:
        """When the lease ends if it is not renewed, by the server's clock."""
        return datetime.fromtimestamp(self._deadline / 1_000_000, UTC)

    @property
    def lost(self) -> bool:
        """Whether somebody else may have the message: the server said so, or the lease has ended by our clock."""
        return self._state == "lost" or (self._state == "held" and time.monotonic() > self._expires)

    @property
    def state(self) -> State:
        """What was decided; "held" while nothing was."""
        return self._state

    async def ack(self) -> None:
        """It is done: forget it. Confirmed by the server when this returns; at most one round trip of its own.

        Cancelled, it is sent nevertheless. Acked twice, it stays acked. Raises LeaseLost when the message was given to
        somebody else; OutcomeUnknown when the server stays away (the ack is sent when it comes back).
        """
        if self._state == "acked":
            return
        self._check()
        if not await self._holder.ack(self):
            raise LeaseLost(self._holder.name, self.id)

    async def nack(self, *, delay: Seconds | None = None, reason: str = "") -> bool:
        """It failed: deliver it again after `delay` (None: the backoff of the queue; 0: at once). At most one round trip.

        After `max_deliveries` failures it is dead, and `reason` is what `dead_letters` shows. False when the lease was
        lost and nothing was done.
        """
        self._check()
        if delay is None:
            delay = self._holder.pause_after(self.attempt)
        seconds = timeout_seconds(delay, "delay") or 0.0
        return await self._holder.nack(self, round(seconds * 1_000_000), reason)

    async def reject(self, reason: str = "") -> bool:
        """It will never work: dead at once, whatever the number of deliveries. False when the lease was lost."""
        self._check()
        return await self._holder.nack(self, -1, reason)

    async def release(self) -> bool:
        """Give it back unread: delivered again at once, in its old place, without counting. False when it was lost."""
        self._check()
        return await self._holder.release(self)

    async def extend(self, lease: Seconds) -> None:
        """A lease of so many seconds from now. Raises LeaseLost. Seldom needed: leases are renewed by themselves."""
        self._check()
        if not await self._holder.extend(self, to_microseconds(lease, "lease")):
            raise LeaseLost(self._holder.name, self.id)

    def transaction(self) -> MessageTransaction:
        """Redis commands that happen together with the ack, or not at all. See `MessageTransaction`."""
        self._check()
        return MessageTransaction(lambda commands: self._holder.commit(self, commands), self._holder.name, self.id)

    async def __aenter__(self) -> Self:
        self._check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._state != "held":
            if error is None and self._untold:
                self._check()
            return
        if error is None:
            await self.ack()
        elif isinstance(error, Exception):
            await self.nack(reason=f"{type(error).__name__}: {error}")
        else:  # cancelled: given back without waiting, the round trip is the consumer's
            self._holder.release(self).add_done_callback(_ignore)

    def _check(self) -> None:
        if self._state == "lost":
            self._untold = False
            raise LeaseLost(self._holder.name, self.id)
        if self._state != "held":
            raise RuntimeError(f"message {self.id} was {self._state} already")

    def __repr__(self) -> str:
        return f"<Message {self.id} of {self._holder.name!r}, attempt {self.attempt}, {self._state}>"


def _ignore(answer: asyncio.Future[bool]) -> None:
    if not answer.cancelled():
        answer.exception()
