"""`Limiter`: the verbs, the failure policy and the counters that all algorithms share.

An algorithm adds its key, its script and its checks of a limit; see `_fixed_window.py` for the smallest one.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias, get_args

from redis import exceptions as redis_errors

from aredis_patterns._core.durations import to_seconds
from aredis_patterns._core.instrumentation import hook_of
from aredis_patterns.exceptions import (
    RateLimitExceeded,
    ReadOnlyServer,
    ServerOutOfMemory,
    ServerRefused,
    WireClosed,
)
from aredis_patterns.pipelining import lane_of
from aredis_patterns.ratelimit._keys import limiter_keys
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._result import Decision, RateLimitResult, Source
from aredis_patterns.types import Commands, RedisClient, Seconds

__all__ = ["Limiter", "LimiterStatistics", "OnError"]

OnError: TypeAlias = Literal["raise", "open", "closed"]

RETRY_WHEN_CLOSED: Final = 1.0
"""Seconds. Nobody knows when the server will be back; this only keeps clients from coming back at once."""

_UNABLE: Final = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.ClusterDownError,
    redis_errors.ClusterError,
    redis_errors.TryAgainError,
    ReadOnlyServer,
    ServerOutOfMemory,
    OSError,
)
"""The server cannot decide now."""

_MISTAKES: Final = (redis_errors.AuthenticationError, redis_errors.AuthorizationError, WireClosed)
"""Connection errors for redis-py, but they stay until somebody repairs the program or its configuration."""


@dataclass(frozen=True, slots=True)
class LimiterStatistics:
    """What one limiter object has answered so far. Peeks are not counted."""

    allowed: int
    refused: int
    failed_open: int
    """Allowed because the server could not decide."""
    failed_closed: int
    """Refused because the server could not decide."""
    errors: int
    """Calls that raised because the server could not decide, or refused to."""


class Limiter(ABC):
    """A rate limiter on one server: each verb is one round trip, and only the server's clock counts.

    Args:
        client: any `redis.asyncio` client, pipelined or stock. It is never closed here.
        limit: a `Limit`, or its text ("100/minute").
        namespace: begins every key.
        name: names this limiter in keys and headers. Limiters of the same algorithm, namespace and name share their
            counts, in all processes.
        deadline: seconds after which a silent server counts as unable to decide.
        on_error: what happens then, and when nobody can be reached: "raise" the error, "open" lets the request pass,
            "closed" refuses it. `RateLimitResult.source` says so. A request whose reply was lost may have been charged,
            once; it is never sent again. Wrong passwords, missing permissions, disabled scripts and a closed client are
            mistakes and always raise.

    All verbs take the user's key (str or bytes, not empty) and a cost of whole units; anything else is a ValueError
    before any I/O. `limit=` replaces the limit for one call: what is counted stays counted, and the new limit holds at
    once. Its period must be the same, except for a token bucket.
    """

    _algorithm: ClassVar[Literal["fixed", "log", "bucket"]]
    _any_period: ClassVar[bool] = False
    """Whether a limit of another period can judge what is stored."""

    def __init__(
        self,
        client: RedisClient,
        limit: Limit | str,
        *,
        namespace: str = "ap",
        name: str = "default",
        deadline: Seconds = 0.25,
        on_error: OnError = "raise",
    ) -> None:
        if on_error not in get_args(OnError):
            raise ValueError(f"on_error is one of {', '.join(get_args(OnError))}, got {on_error!r}")
        if not (name.isascii() and name.isprintable()):
            raise ValueError(f"the name of a limiter appears in headers and must be printable ASCII, got {name!r}")
        self._keys: Final = limiter_keys(namespace, self._algorithm, name)
        self._commands: Final[Commands] = lane_of(client)
        self._hook: Final = hook_of(client, "ratelimit")
        self._deadline: Final = to_seconds(deadline, "deadline")
        self._allowed = self._refused = self._opened = self._closed = self._errors = 0
        self.name: Final = name
        self.on_error: Final[OnError] = on_error
        self.limit: Final = self._accept(limit)

    async def hit(self, key: str | bytes, cost: int = 1, *, limit: Limit | str | None = None) -> RateLimitResult:
        """Charge `cost` units if they fit. One round trip; never waits, never raises because of a refusal.

        A refused request is not charged and changes nothing. Cost 0 only looks. Use `require` to raise instead.
        """
        return await self._hook.around("hit", self._answer(key, cost, limit, charge=True), _outcome)

    async def peek(self, key: str | bytes, cost: int = 1, *, limit: Limit | str | None = None) -> RateLimitResult:
        """What `hit` would say to `cost` units now. One round trip; charges nothing and creates no key."""
        return await self._hook.around("peek", self._answer(key, cost, limit, charge=False), _outcome)

    async def require(self, key: str | bytes, cost: int = 1, *, limit: Limit | str | None = None) -> RateLimitResult:
        """`hit`, but a refusal raises RateLimitExceeded, which carries the result."""
        result = await self.hit(key, cost, limit=limit)
        if not result:
            raise RateLimitExceeded(key if isinstance(key, str) else key.decode(errors="backslashreplace"), result)
        return result

    async def hit_many(self, items: Iterable[tuple[str | bytes, int]]) -> list[RateLimitResult]:
        """`hit` for each (key, cost), in one round trip, answered in order. The same key may come more than once.

        Each is decided by itself, in this order on one server. With on_error="raise" the first error is raised after
        all have been answered; the others have been charged.
        """
        checked = [(self._keys.key(key), _check_cost(cost)) for key, cost in items]

        async def hit(key: str, cost: int) -> RateLimitResult:
            run = self._decide_or_fall_back(key, cost, self.limit, charge=cost > 0)
            return await self._hook.around("hit", run, _outcome)

        answers = await asyncio.gather(*(hit(key, cost) for key, cost in checked), return_exceptions=True)
        results: list[RateLimitResult] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            results.append(answer)
        return results

    async def reset(self, key: str | bytes) -> bool:
        """Forget what was counted for `key`; whether there was anything. One round trip.

        Redis errors are raised whatever `on_error` says: a reset that did not happen must not look like one that did.
        """
        full_key = self._keys.key(key)
        return bool(await self._commands.call("UNLINK", full_key, key=full_key, deadline=self._deadline))

    def statistics(self) -> LimiterStatistics:
        """A snapshot of what this object has answered."""
        return LimiterStatistics(
            allowed=self._allowed,
            refused=self._refused,
            failed_open=self._opened,
            failed_closed=self._closed,
            errors=self._errors,
        )

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name!r} {self.limit}, on_error={self.on_error}: "
            f"{self._allowed} allowed, {self._refused} refused, {self._opened + self._closed + self._errors} undecided>"
        )

    @abstractmethod
    def _check(self, limit: Limit) -> None:
        """Raise ValueError for a limit that this algorithm cannot keep."""

    @abstractmethod
    async def _decide(self, key: str, cost: int, limit: Limit, *, charge: bool) -> Decision:
        """Run the script."""

    def _accept(self, limit: Limit | str) -> Limit:
        accepted = Limit.parse(limit) if isinstance(limit, str) else limit
        if not isinstance(accepted, Limit):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f'limit is a Limit or text such as "100/minute", got {limit!r}')
        self._check(accepted)
        return accepted

    async def _answer(self, key: str | bytes, cost: int, limit: Limit | str | None, *, charge: bool) -> RateLimitResult:
        _check_cost(cost)
        chosen = self.limit if limit is None else self._accept(limit)
        if chosen.period_us != self.limit.period_us and not self._any_period:
            # What is counted in one window cannot be judged by another: a short one would wipe the count of a long one.
            raise ValueError(f"limit= may change how much, not the period of {str(self.limit)!r}, got {str(chosen)!r}")
        return await self._decide_or_fall_back(self._keys.key(key), cost, chosen, charge=charge and cost > 0)

    async def _decide_or_fall_back(self, key: str, cost: int, limit: Limit, *, charge: bool) -> RateLimitResult:
        try:
            decision = await self._decide(key, cost, limit, charge=charge)
        except (*_UNABLE, ServerRefused) as error:
            if self.on_error == "raise" or isinstance(error, _MISTAKES) or not isinstance(error, _UNABLE):
                self._errors += 1
                raise
            return self._fall_back(cost, limit)
        allowed = decision.allowed == 1
        if charge:
            self._allowed += allowed
            self._refused += not allowed
        return RateLimitResult(
            allowed=allowed,
            limit=limit,
            remaining=decision.remaining,
            retry_after=None if decision.retry_after < 0 else decision.retry_after / 1_000_000,
            reset_after=decision.reset_after / 1_000_000,
            cost=cost,
            violated=() if allowed else (self.name,),
            policy=self.name,
        )

    def _fall_back(self, cost: int, limit: Limit) -> RateLimitResult:
        allowed = self.on_error == "open"
        self._opened += allowed
        self._closed += not allowed
        source: Source = "fail-open" if allowed else "fail-closed"
        wait = 0.0 if allowed else RETRY_WHEN_CLOSED
        return RateLimitResult(
            allowed=allowed,
            limit=limit,
            remaining=0,
            retry_after=wait,
            reset_after=wait,
            cost=cost,
            source=source,
            violated=() if allowed else (self.name,),
            policy=self.name,
        )


def _outcome(result: RateLimitResult) -> str:
    if result.source != "redis":
        return result.source
    return "allowed" if result.allowed else "refused"


def _check_cost(cost: object) -> int:
    if isinstance(cost, bool) or not isinstance(cost, int) or cost < 0:
        raise ValueError(f"cost is a whole number of units, 0 or more, got {cost!r}")
    return cost
