"""From decisions to results: shadow mode, the near-limit hook, the failure policy, counters and events.

One object per limiter. It knows nothing of algorithms, keys in Redis, or I/O.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypedDict, get_args

from aredis_patterns._core.durations import to_seconds
from aredis_patterns.ratelimit._deny_cache import Denial
from aredis_patterns.ratelimit._failure import RETRY_WHEN_CLOSED, CircuitBreaker, is_outage
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._result import RateLimitResult, Source, make_result
from aredis_patterns.types import Seconds

__all__ = ["LimiterOptions", "LimiterStatistics", "NearLimitHook", "OnError", "Outcomes", "outcome_of"]

OnError: TypeAlias = Literal["raise", "open", "closed", "local"]

NearLimitHook: TypeAlias = Callable[[str, RateLimitResult], None]
"""Called with the user's key and the result of the hit that went over the near-limit mark."""

_log: Final = logging.getLogger("aredis_patterns.ratelimit")


class LimiterOptions(TypedDict, total=False):
    """What every limiter takes as keywords; `Limiter` says what each means."""

    namespace: str
    name: str
    deadline: Seconds
    on_error: OnError
    deny_cache: int
    instances: int
    shadow: bool
    near_limit: float
    on_near_limit: NearLimitHook | None


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
    denied_locally: int = 0
    """Refusals, out of `refused`, that needed no round trip."""
    decided_locally: int = 0
    """Answers, out of `allowed` and `refused`, of the limiter in this process while the server could not decide."""
    shadowed: int = 0
    """Answers, out of `allowed`, that shadow mode has saved."""
    breaker_open: bool = False
    """Whether the server is not being asked at present."""


class Outcomes:
    """Makes results, and counts them."""

    def __init__(self, options: LimiterOptions, default_name: str = "default") -> None:
        self.name: Final = options.get("name", default_name)
        self.on_error: Final = options.get("on_error", "raise")
        self.deadline: Final = to_seconds(options.get("deadline", 0.25), "deadline")
        self.shadow = options.get("shadow", False)
        self.breaker: Final = CircuitBreaker()
        self._hook: Final = options.get("on_near_limit")
        self._near: Final = options.get("near_limit", 0.8)
        self._violated: Final = (self.name,)
        self.allowed = self.refused = self.opened = self.closed = self.errors = 0
        self.denied_locally = self.decided_locally = self.shadowed = 0
        _check(self.name, self.on_error, self._near)

    def decided(
        self,
        key: str | bytes,
        answer: Sequence[int],
        limit: Limit,
        cost: int,
        *,
        charged: bool,
        source: Source = "redis",
    ) -> RateLimitResult:
        """The result of a decision; counted when it charged or refused to."""
        allowed, remaining, retry_after, reset_after = answer
        if allowed:
            if charged:
                self.allowed += 1
            result = make_result(True, limit, remaining, 0.0, reset_after / 1_000_000, cost, source, (), self.name)
            if self._hook is not None and charged:
                self._look_how_near(key, result)
            return result
        wait = None if retry_after < 0 else retry_after / 1_000_000
        return self.refuse(limit, remaining, wait, reset_after / 1_000_000, cost, source, counted=charged)

    def refuse(
        self,
        limit: Limit,
        remaining: int,
        retry_after: float | None,
        reset_after: float,
        cost: int,
        source: Source,
        *,
        counted: bool,
    ) -> RateLimitResult:
        """A refusal, or in shadow mode what would have been one."""
        if counted:
            self.allowed += self.shadow
            self.shadowed += self.shadow
            self.refused += not self.shadow
        return make_result(
            self.shadow, limit, remaining, retry_after, reset_after, cost, source, self._violated, self.name
        )

    def denied(self, denial: Denial, now: float, cost: int) -> RateLimitResult:
        """The result of a refusal that still holds."""
        _, _, limit, remaining, fits_at, resets_at = denial
        shadow = self.shadow
        self.denied_locally += 1
        if shadow:
            self.allowed += 1
            self.shadowed += 1
        else:
            self.refused += 1
        wait = None if cost > limit.capacity else fits_at - now
        return make_result(
            shadow, limit, remaining, wait, resets_at - now, cost, "deny-cache", self._violated, self.name
        )

    def failed(self, error: BaseException) -> None:
        """The server could not decide: returns when a policy says what to do instead, or raises `error`."""
        outage = is_outage(error)
        if self.on_error == "raise" or not outage:
            self.errors += 1
            raise error
        self.breaker.failed()

    def by_policy(self, limit: Limit, cost: int) -> RateLimitResult:
        """The answer of "open" and "closed"."""
        if self.on_error == "open":
            self.opened += 1
            return RateLimitResult(True, limit, 0, 0.0, 0.0, cost, "fail-open", (), self.name)
        self.closed += 1
        wait = RETRY_WHEN_CLOSED
        return RateLimitResult(False, limit, 0, wait, wait, cost, "fail-closed", self._violated, self.name)

    def statistics(self) -> LimiterStatistics:
        """A snapshot."""
        return LimiterStatistics(
            allowed=self.allowed,
            refused=self.refused,
            failed_open=self.opened,
            failed_closed=self.closed,
            errors=self.errors,
            denied_locally=self.denied_locally,
            decided_locally=self.decided_locally,
            shadowed=self.shadowed,
            breaker_open=self.breaker.open,
        )

    def _look_how_near(self, key: str | bytes, result: RateLimitResult) -> None:
        """Tell the hook once each time the mark is crossed, not with every hit above it."""
        mark = result.limit.capacity - result.limit.capacity * self._near + 1e-6  # 0.8 of 10 leaves 2
        if self._hook is not None and result.remaining <= mark < result.remaining + result.cost:
            text = key if isinstance(key, str) else key.decode("utf-8", "backslashreplace")
            try:
                self._hook(text, result)
            except Exception:
                _log.exception("the near-limit hook of %s failed", self.name)


def outcome_of(result: RateLimitResult) -> str:
    """One of a few words, for metrics: "allowed", "refused", "shadowed", "refused:deny-cache", "allowed:local" ..."""
    outcome = "shadowed" if result.shadowed else "allowed" if result.allowed else "refused"
    return outcome if result.source == "redis" else f"{outcome}:{result.source}"


def _check(name: str, on_error: str, near: float) -> None:
    if on_error not in get_args(OnError):
        raise ValueError(f"on_error is one of {', '.join(get_args(OnError))}, got {on_error!r}")
    if not (name.isascii() and name.isprintable()):
        raise ValueError(f"the name of a limiter appears in headers and must be printable ASCII, got {name!r}")
    if not 0 < near <= 1:
        raise ValueError(f"near_limit is a share of the limit, above 0 and at most 1, got {near!r}")
