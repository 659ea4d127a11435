"""`Reservation`: charge an estimate, settle the real cost."""

from __future__ import annotations

import uuid
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

from aredis_patterns._core.durations import to_microseconds
from aredis_patterns.exceptions import RateLimitExceeded, ReservationExpired
from aredis_patterns.ratelimit._base import check_cost, readable
from aredis_patterns.ratelimit._failure import UNDECIDED
from aredis_patterns.ratelimit._limit import LARGEST
from aredis_patterns.ratelimit._result import RateLimitResult
from aredis_patterns.ratelimit._scripts import post_settle, reserve, settle
from aredis_patterns.types import Seconds

if TYPE_CHECKING:
    from aredis_patterns.ratelimit._base import LimiterBase

__all__ = ["Reservation"]


class Reservation:
    """An estimate that was charged, to be replaced by the real cost, exactly once. Made by `Limiter.reserve`.

        async with limiter.reserve("user:1", 800) as reservation:  # what the answer may cost
            async for piece in model.stream(prompt):
                reservation.used += piece.tokens  # no round trip
                ...

    Leaving the block settles: at `used` when it was set or `commit` was called; without a word, a normal end keeps the
    estimate and an error or a cancellation (the client hung up) gives it back. A real cost above the estimate is charged
    in any case: it may put the key into debt, for buckets at most one more burst.

    A lost reply settles once: each reservation has an id that the server remembers. When the process dies, the estimate
    stays charged and ages like any other (`on_crash="charge"`), or comes back with the first `reserve` on that key after
    `lease` seconds (`on_crash="refund"`). A slow process may settle until twice its lease is over; later it gets
    ReservationExpired, and nothing is changed.

    One round trip to reserve, one to settle; about 80 bytes per open reservation.
    """

    def __init__(
        self,
        limiter: LimiterBase,
        key: str | bytes,
        estimate: int,
        *,
        lease: Seconds,
        on_crash: Literal["charge", "refund"],
    ) -> None:
        if on_crash not in ("charge", "refund"):
            raise ValueError(f'on_crash is "charge" or "refund", got {on_crash!r}')
        self.key: Final = readable(key)
        self.estimate: Final = estimate
        self.used: int | None = None
        """What was really used so far, to be charged at the end of the block; None leaves it to the end."""
        self.result: RateLimitResult | None = None
        """The answer to the estimate, and later to the real cost."""
        self._limiter: Final = limiter
        self._raw_key: Final = key
        self._state: Final = limiter._full_key(key)
        self._notes: Final = limiter._notes_key(key)
        self._back: Final = estimate if on_crash == "refund" else 0
        self._lease: Final = to_microseconds(lease, "lease")
        self._id: Final = uuid.uuid4().hex
        self._open = False

    def __repr__(self) -> str:
        state = "open" if self._open else "settled" if self.result is not None else "not entered"
        return f"<Reservation of {self.estimate} for {self.key!r}, {state}>"

    async def __aenter__(self) -> Self:
        if self.result is not None:
            raise RuntimeError("a reservation is used once")
        numbers = self._limiter._default_numbers
        sent = True
        try:
            answer = await reserve(
                self._limiter._commands,
                state=self._state,
                notes=self._notes,
                algorithm=numbers.algorithm,
                limit=numbers.limit,
                a=numbers.a,
                b=numbers.b,
                cost=self.estimate,
                id=self._id,
                back=self._back,
                lease=self._lease,
                deadline=self._limiter._outcomes.deadline,
            )
            sent = False
        except UNDECIDED as error:
            self._limiter._outcomes.failed(error)
            self.result = self._limiter._fall_back(
                self._raw_key, self._state, self._limiter.limit, self.estimate, charge=True
            )
        else:
            self._limiter._server_answered()
            self.result = self._limiter._outcomes.decided(
                self._raw_key, answer, self._limiter.limit, self.estimate, charged=True
            )
            self._open = bool(answer.allowed)
        finally:
            if sent:  # cancelled, or nobody knows: if it was charged, it comes back
                self._post(0)
        if not self.result:
            raise RateLimitExceeded(self.key, self.result)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._open:
            return
        if error is not None:
            self._open = False
            self._post(self.used or 0)  # cannot be cancelled
        elif self.used is not None:
            await self.commit(self.used)
        else:
            await self.commit(self.estimate)

    async def commit(self, actual: int) -> RateLimitResult:
        """Charge what was really used instead of the estimate; says what is left. A second time does nothing."""
        actual = check_cost(actual)
        if actual > LARGEST:
            raise ValueError(f"the real cost is at most {LARGEST:,}, got {actual!r}")
        self.used = actual
        if not self._open:
            if self.result is None:
                raise RuntimeError("a reservation is settled inside its block")
            return self.result
        limiter, numbers = self._limiter, self._limiter._default_numbers
        try:
            answer = await settle(
                limiter._commands,
                state=self._state,
                notes=self._notes,
                algorithm=numbers.algorithm,
                limit=numbers.limit,
                a=numbers.a,
                b=numbers.b,
                actual=actual,
                id=self._id,
                charged=self.estimate,
                back=self._back,
                lease=self._lease,
                deadline=limiter._outcomes.deadline,
            )
        except UNDECIDED as error:
            self._open = False
            self._post(actual)  # perhaps it still gets through; twice does no harm
            limiter._outcomes.failed(error)
            self.result = limiter._fall_back(self._raw_key, self._state, limiter.limit, 0, charge=False)
            return self.result
        except BaseException:
            self._open = False
            self._post(actual)  # cancelled before it was sent, perhaps; twice does no harm
            raise
        self._open = False
        limiter._server_answered()
        if not answer.allowed:
            raise ReservationExpired(self.key)
        limiter._forget_locally(self._state)
        limiter._waiting_changed(self._state)
        self.result = limiter._outcomes.decided(self._raw_key, answer, limiter.limit, actual, charged=False)
        return self.result

    async def cancel(self) -> RateLimitResult:
        """Give all of it back."""
        return await self.commit(0)

    def _post(self, actual: int) -> None:
        self._limiter._forget_locally(self._state)
        post_settle(
            self._limiter._commands,
            state=self._state,
            notes=self._notes,
            numbers=self._limiter._default_numbers,
            args=(actual, self._id, self.estimate, self._back, self._lease),
        )
