"""`Limiter`: the verbs that all algorithms share."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from time import perf_counter
from typing import Any, Final, Literal, Unpack

from aredis_patterns._core.durations import timeout_seconds
from aredis_patterns._core.instrumentation import listeners_of
from aredis_patterns.exceptions import RateLimitExceeded
from aredis_patterns.ratelimit._base import LimiterBase, check_cost, readable
from aredis_patterns.ratelimit._failure import UNDECIDED
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._outcomes import LimiterOptions, LimiterStatistics, OnError, outcome_of
from aredis_patterns.ratelimit._reservation import Reservation
from aredis_patterns.ratelimit._result import RateLimitResult
from aredis_patterns.ratelimit._scripts import adjust
from aredis_patterns.ratelimit._waiting import WaitingRoom
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["Limiter"]


class Limiter(LimiterBase):
    """A rate limiter on one server: each verb is one round trip, and only the server's clock counts.

    Args:
        client: any `redis.asyncio` client, pipelined or stock. It is never closed here.
        limit: a `Limit`, or its text ("100/minute").
        namespace: begins every key. "ap".
        name: names this limiter in keys, headers and metrics. Limiters of the same algorithm, namespace and name share
            their counts, in all processes. "default".
        deadline: seconds after which a silent server counts as unable to decide. 0.25.
        on_error: what happens then, and when nobody can be reached: "raise" the error (the default), "open" lets the
            request pass, "closed" refuses it, "local" decides in this process by its share of the limit.
            `RateLimitResult.source` says so. With a policy, a circuit breaker stops asking after five failures in a row
            and tries again after half a second, later up to eight. A request whose reply was lost may have been
            charged, once; it is never sent again. Wrong passwords, missing permissions, disabled scripts and a closed
            client are mistakes and always raise.
        instances: how many processes share the limit, for "local": each allows `limit / instances` by itself.
        deny_cache: refused keys to remember, so that they are refused again without a round trip until they fit. 0.
            Exact; only what another process gives back is noticed up to a second late.
        shadow: decide and count, but refuse nobody; `result.violated` and `result.shadowed` tell. May be switched.
        near_limit, on_near_limit: a function to call with key and result whenever a hit crosses this share of the limit.

    All verbs take the user's key (str or bytes, not empty) and a cost of whole units; anything else is a ValueError
    before any I/O. `limit=` replaces the limit for one call: what is counted stays counted, and the new limit holds at
    once. Windows keep their period; buckets may change theirs.
    """

    def __init__(self, client: RedisClient, limit: Limit | str, **options: Unpack[LimiterOptions]) -> None:
        super().__init__(client, limit, **options)
        self._listeners: Final = listeners_of(client)
        self._watched_hit: Final = self._hook.watched("hit", outcome_of, self._hit)
        self._waiting: Final = WaitingRoom(self._ask_in_line, self._give_back, self._unanswered)

    # the verbs --------------------------------------------------------------------------------------------------------

    def hit(
        self, key: str | bytes, cost: int = 1, *, limit: Limit | str | None = None
    ) -> Coroutine[Any, Any, RateLimitResult]:
        """Charge `cost` units if they fit. One round trip; never waits, never raises because of a refusal.

        A refused request is not charged and changes nothing. Cost 0 only looks. Use `require` to raise instead.
        """
        if self._listeners.patterns is None:  # `self._hook.silent`, without the call: this is the hottest path
            return self._hit(key, cost, limit, None)
        return self._watched_hit(key, cost, limit, None)

    async def peek(self, key: str | bytes, cost: int = 1, *, limit: Limit | str | None = None) -> RateLimitResult:
        """What `hit` would say to `cost` units now. One round trip; charges nothing and creates no key."""
        return await self._hook.around("peek", self._peek(key, cost, limit), outcome_of)

    async def require(self, key: str | bytes, cost: int = 1, *, limit: Limit | str | None = None) -> RateLimitResult:
        """`hit`, but a refusal raises RateLimitExceeded, which carries the result."""
        result = await self.hit(key, cost, limit=limit)
        if not result:
            raise RateLimitExceeded(readable(key), result)
        return result

    async def acquire(self, key: str | bytes, cost: int = 1, timeout: Seconds | None = None) -> RateLimitResult:
        """`hit`, but wait until it fits: one round trip per grant, and one timer per key, however many wait.

        First come, first served among the callers of this object on one key; keys never wait for each other. Between
        processes, whoever asks first once it fits. `timeout`: seconds to wait; None waits as long as it takes, 0 does
        not. A cancelled waiter is charged nothing: what it was just given goes to the next in line, or back.

        Raises RateLimitExceeded at once when the cost never fits, and RateLimitTimeout as soon as it is certain that it
        does not fit in time.
        """
        return await self._hook.around("acquire", self._acquire(key, cost, timeout), outcome_of)

    async def _acquire(self, key: str | bytes, cost: int, timeout: Seconds | None) -> RateLimitResult:
        cost = check_cost(cost)
        patience = timeout_seconds(timeout)
        full_key = self._full_key(key)
        if not self._waiting.occupied(full_key):
            result = await self._hit(key, cost, None, self._give_back)
            if result:
                return result
        else:
            result = None
        return await self._waiting.wait(readable(key), full_key, cost, patience, result)

    async def hit_many(self, items: Iterable[tuple[str | bytes, int]]) -> list[RateLimitResult]:
        """`hit` for each (key, cost), in one round trip, answered in order. The same key may come more than once.

        Each is decided by itself, in this order on one server. With on_error="raise" the first error is raised after
        all have been answered; the others have been charged.
        """
        checked = [(key, self._full_key(key), check_cost(cost)) for key, cost in items]
        if not checked:
            return []
        if not self._outcomes.breaker.may_ask():
            return [self._fall_back(key, full, self.limit, cost, charge=cost > 0) for key, full, cost in checked]
        start = perf_counter()
        answers = await self._sender.hit_together(
            self._default_numbers, [full for _, full, _ in checked], [cost for _, _, cost in checked]
        )
        elapsed = perf_counter() - start
        results: list[RateLimitResult] = []
        for (key, full_key, cost), answer in zip(checked, answers, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, UNDECIDED):
                    raise answer
                self._outcomes.failed(answer)
                results.append(self._fall_back(key, full_key, self.limit, cost, charge=cost > 0))
            else:
                self._server_answered()
                results.append(self._outcomes.decided(key, answer, self.limit, cost, charged=cost > 0))
        if not self._hook.silent:
            for result in results:
                self._hook.event("hit", outcome_of(result), elapsed)
        return results

    async def refund(self, key: str | bytes, cost: int = 1, *, limit: Limit | str | None = None) -> RateLimitResult:
        """Give `cost` units back, at most what is counted; says what is left then. One round trip.

        A log gives back its oldest units, so that no window can ever hold more than the limit. Redis errors are raised
        whatever `on_error` says; after OutcomeUnknown the units may be back, or not.
        """
        chosen, numbers = self._chosen(limit)
        full_key = self._full_key(key)
        cost = check_cost(cost)
        if cost == 0:
            return await self._peek(key, 0, limit)
        self._forget_locally(full_key)
        algorithm, most, a, b = numbers
        try:
            answer = await adjust(
                self._commands,
                state=full_key,
                algorithm=algorithm,
                limit=most,
                a=a,
                b=b,
                units=-cost,
                deadline=self._outcomes.deadline,
            )
        finally:
            self._forget_locally(full_key)
        self._waiting.look_again(full_key)
        return self._outcomes.decided(key, answer, chosen, cost, charged=False)

    def reserve(
        self,
        key: str | bytes,
        estimate: int,
        *,
        lease: Seconds = 300.0,
        on_crash: Literal["charge", "refund"] = "charge",
    ) -> Reservation:
        """Charge an estimate now and the real cost later: `async with limiter.reserve("user:1", 800) as reservation:`.

        See `Reservation`. One round trip to reserve and one to settle. Raises RateLimitExceeded when the estimate does
        not fit.
        """
        return Reservation(self, key, check_cost(estimate), lease=lease, on_crash=on_crash)

    async def reset(self, key: str | bytes) -> bool:
        """Forget what was counted for `key`; whether there was anything. One round trip.

        Redis errors are raised whatever `on_error` says: a reset that did not happen must not look like one that did.
        """
        full_key = self._full_key(key)
        self._forget_locally(full_key)
        try:
            gone = await self._commands.call("UNLINK", full_key, key=full_key, deadline=self._outcomes.deadline)
        finally:
            self._forget_locally(full_key)
        self._waiting.look_again(full_key)
        return bool(gone)

    def _waiting_changed(self, full_key: str) -> None:
        self._waiting.look_again(full_key)

    # what it knows of itself ------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name in keys, headers and metrics."""
        return self._outcomes.name

    @property
    def on_error(self) -> OnError:
        """What happens when the server cannot decide."""
        return self._outcomes.on_error

    @property
    def shadow(self) -> bool:
        """Whether refusals are only noted."""
        return self._outcomes.shadow

    @shadow.setter
    def shadow(self, value: bool) -> None:
        self._outcomes.shadow = bool(value)

    def statistics(self) -> LimiterStatistics:
        """A snapshot of what this object has answered."""
        return self._outcomes.statistics()

    def __repr__(self) -> str:
        now = self.statistics()
        undecided = now.failed_open + now.failed_closed + now.errors
        return (
            f"<{type(self).__name__} {self.name!r} {self.limit}, on_error={self.on_error}: "
            f"{now.allowed} allowed, {now.refused} refused, {undecided} undecided>"
        )
