"""`Lease`: one grant, from the answer of the server to its end.

    held  --release()-->                            released
      |
      +-- gone, taken over, not renewed in time, revoked -->  lost   (the event is set, the body is cancelled)

Invariants

1. A lease ends exactly once, and is out of the renewals before its release is written.
2. Its local deadline lies before the moment at which the server may give the lock away: it counts from before the first
   send, less a hundredth of the ttl for clocks that run differently.
3. A lease never comes back: what is lost stays lost, even if the key should still be there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from aredis_patterns._core.durations import to_milliseconds
from aredis_patterns.exceptions import LockLost, LockNotOwned
from aredis_patterns.types import Seconds

if TYPE_CHECKING:
    from aredis_patterns.locks._options import Options
    from aredis_patterns.locks._renewal import Renewals, Renewer

__all__ = ["GONE", "MAX_HOLD", "REVOKED", "UNREACHABLE", "Issuer", "Lease"]

GONE: Final = "its key was deleted, evicted, or taken over"
UNREACHABLE: Final = "it could not be renewed in time"
REVOKED: Final = "it was ended by force"
MAX_HOLD: Final = "it was held longer than max_hold"
EXPIRED: Final = "its ttl is over and auto_renew is off"


class Issuer(Protocol):
    """What a lease needs of whoever granted it."""

    key: str
    ttl: float
    renewals: Renewals

    @property
    def renewer(self) -> Renewer:
        """Who prolongs it."""
        ...

    def give_back(self, lease: Lease) -> Coroutine[Any, Any, bool]:
        """End it on the server; whether it was still ours."""
        ...

    def let_go(self, lease: Lease) -> None:
        """The same without waiting."""
        ...

    def ended(self, lease: Lease) -> None:
        """It has ended here, in whichever way."""
        ...


class Lease:
    """One acquisition. Given by `async with lock` and by `try_acquire`; every acquisition has its own.

    Attributes: `key`, `token` (unique), `fencing_token` (rises with every acquisition of this key: give it to the
    resource, which refuses smaller ones).
    """

    # No slots: with the defaults in the class, making one sets half as many attributes.
    reason = ""
    task: asyncio.Task[object] | None = None
    """The only task that can release it, if there is such a one."""
    hold_until = float("inf")
    """Time of the loop after which it is not renewed."""
    due = float("inf")
    """Time of the loop at which it is renewed."""
    _state: Literal["held", "released", "lost"] = "held"
    _lost: asyncio.Event | None = None
    _before: int | None = None
    """Cancellations of the task when its body began; None: it is not cancelled with the lease."""
    _abort: asyncio.Handle | None = None
    _aborted = False

    def __init__(
        self,
        issuer: Issuer,
        options: Options,
        *,
        token: str,
        fencing_token: int,
        claims: tuple[tuple[str, str], ...],
        start: float,
    ) -> None:
        self.key: Final = issuer.key
        self.token: Final = token
        self.fencing_token: Final = fencing_token
        self.claims: Final = claims
        """What is renewed: (key in Redis, what identifies us there)."""
        self._issuer: Final = issuer
        self.auto_renewed: Final = options.auto_renew
        self.deadline = start + options.ttl - options.margin
        """Time of the loop until which nobody else can have it."""
        if options.auto_renew:
            self.due = start + options.ttl / 3
        if options.max_hold is not None:
            self.hold_until = start + options.max_hold
            self.deadline = min(self.deadline, self.hold_until)
        issuer.renewals.add(self)

    def __repr__(self) -> str:
        return f"<Lease {self.key!r} {self._state}, fencing token {self.fencing_token}, {self.expires_in:.3f} s>"

    @property
    def held(self) -> bool:
        """Whether it is certain that nobody else has it. Local, no I/O."""
        return self._state == "held" and self._issuer.renewals.loop.time() < self.deadline

    @property
    def released(self) -> bool:
        """Whether it ended by being released. Local, no I/O."""
        return self._state == "released"

    @property
    def expires_in(self) -> float:
        """Seconds for which it is certainly ours, if it is not renewed; 0 when it has ended."""
        return max(0.0, self.deadline - self._issuer.renewals.loop.time()) if self._state == "held" else 0.0

    @property
    def lost(self) -> asyncio.Event:
        """Set when the lease ends without being released."""
        event = self._lost
        if event is None:  # few look at it
            event = self._lost = asyncio.Event()
            if self._state == "lost":
                event.set()
        return event

    @property
    def renewer(self) -> Renewer:
        """Who prolongs it."""
        return self._issuer.renewer

    @property
    def ttl(self) -> float:
        """Seconds that a renewal gives."""
        return self._issuer.ttl

    def check(self) -> None:
        """Raise LockLost if it is not certain that the lock is still ours. Local, no I/O: cheap enough for each step
        of a loop that computes without awaiting."""
        if not self.held:
            raise LockLost(self.key, self.reason or (UNREACHABLE if self._state == "held" else "it was released"))

    async def extend(self, ttl: Seconds | None = None) -> None:
        """Make it live `ttl` from now (default: that of the lock), never shorter than it does. One round trip.

        Raises LockLost when it is not ours any more: it is never created again.
        """
        seconds = self.ttl if ttl is None else to_milliseconds(ttl) / 1000
        self.check()
        await self._issuer.renewals.renew_now(self, seconds)
        self.check()

    async def release(self) -> None:
        """End it. One round trip; cancelled, the release is written all the same.

        Raises LockNotOwned when it was released before, LockLost when it had been lost.
        """
        if self._state == "released":
            raise LockNotOwned(self.key, "released already")
        if self._state == "lost":
            raise LockLost(self.key, self.reason)
        self._end("released")
        if not await self._issuer.give_back(self):
            self.reason = GONE
            self._state = "lost"
            self._tell()
            raise LockLost(self.key, GONE)

    def release_nowait(self) -> None:
        """End it without waiting for the answer: nothing is awaited, nothing can be cancelled. Does nothing when it has
        ended already. Should it have been lost in this moment, nobody is told."""
        if self._state == "held":
            self._end("released")
            self._issuer.let_go(self)

    def lose(self, reason: str) -> None:
        """It is not ours any more: set the event, cancel the body, and give back what may be left of it."""
        if self._state != "held":
            return
        self.reason = reason
        self._end("lost")
        self._tell()
        if self._before is not None:
            # Not at once: the caller may be the body itself, and would meet the cancellation after it has ended.
            self._abort = self._issuer.renewals.loop.call_soon(self._cancel_body)
        self._issuer.let_go(self)

    def guard(self) -> None:
        """From here on the body in `task` is cancelled when the lease is lost. What `asyncio.timeout` does, in an integer."""
        if self.task is not None:
            self._before = self.task.cancelling()

    def unguard(self, error: BaseException | None) -> bool:
        """The body has ended, with this error. Whether that is a cancellation, and ours alone."""
        before, self._before = self._before, None
        if before is None or self._abort is None or self.task is None:
            return False
        self._abort.cancel()
        if not self._aborted:
            return False
        return self.task.uncancel() <= before and isinstance(error, asyncio.CancelledError)

    def _cancel_body(self) -> None:
        if self.task is not None:
            self._aborted = True
            self.task.cancel()

    def message(self, payload: bytes | None) -> None:
        """What the inbox heard about this lease: it was revoked, or messages were missed and the key must be looked at."""
        if payload == b"revoked":
            self.lose(REVOKED)
        elif payload is None and self._state == "held":
            self._issuer.renewals.suspect(self)

    def _tell(self) -> None:
        if self._lost is not None:
            self._lost.set()

    def _end(self, state: Literal["released", "lost"]) -> None:
        self._state = state
        self._issuer.renewals.discard(self)
        self._issuer.ended(self)
