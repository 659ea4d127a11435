"""What a limiter answers: `Decision` as the scripts and models give it, `RateLimitResult` as callers get it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

from aredis_patterns.ratelimit._limit import Limit

__all__ = ["Decision", "HeaderStyle", "RateLimitResult", "Source", "make_result"]

Source: TypeAlias = Literal["redis", "deny-cache", "local", "fail-open", "fail-closed"]
"""Who decided: the server; this process, from a refusal of the server that still holds; or, because the server could
not, the `on_error` policy: a limiter in this process, "yes", or "no"."""

HeaderStyle: TypeAlias = Literal["draft", "legacy"]


class Decision(NamedTuple):
    """The reply of each script, and of each model: integers, times in microseconds."""

    allowed: int
    remaining: int
    retry_after: int
    """0 when allowed, -1 for never."""
    reset_after: int


@dataclass(frozen=True, slots=True)
class RateLimitResult:
    """The answer to one request. True when it is allowed.

    result = await limiter.hit("user:1")
    if not result:
        return Response(status_code=429, headers=result.headers())
    """

    allowed: bool
    limit: Limit
    remaining: int
    """Units left after this request. 0 when the server did not decide."""
    retry_after: float | None
    """Seconds until the same request fits, if nothing else comes before it. 0.0 when it fits; None when it never does,
    because it costs more than the limit."""
    reset_after: float
    """Seconds until everything is available again, if nothing else comes before."""
    cost: int = 1
    source: Source = "redis"
    violated: tuple[str, ...] = ()
    """The names of the limiters that refused. Not empty in an allowed result: it would have been refused, but the
    limiter is in shadow mode."""
    policy: str = "default"
    """The name of the limiter."""
    delay: float = 0.0
    """Seconds until the request may go on: only a leaky bucket that shapes has them."""
    parts: tuple[RateLimitResult, ...] = ()
    """The answer of each limit, when several were asked together."""

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def shadowed(self) -> bool:
        """Allowed only because the limiter is in shadow mode."""
        return self.allowed and bool(self.violated)

    def headers(self, *, style: HeaderStyle = "draft") -> dict[str, str]:
        """The HTTP response headers. Seconds are rounded up, so that nobody comes back too early.

        "draft" is draft-ietf-httpapi-ratelimit-headers (September 2025): `RateLimit-Policy` with the quota q and its
        window w, and `RateLimit` with what remains (r) and when there will be more (t). "legacy" is the X-RateLimit
        family, of the limit that is closest. `Retry-After` comes with a refusal that ends. A decision without the server
        tells nothing about what remains. A limiter in shadow mode has no headers: nobody should notice it.
        """
        if style not in ("draft", "legacy"):
            raise ValueError(f'style is "draft" or "legacy", got {style!r}')
        if self.shadowed:
            return {}
        parts: Sequence[RateLimitResult] = (self,)
        if self.parts:
            parts = [part for part in self.parts if not part.shadowed] or parts
        fields = _draft(parts) if style == "draft" else _legacy(self)
        if not self.allowed and self.retry_after is not None:
            fields["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return fields

    def with_delay(self, seconds: float) -> RateLimitResult:
        """The same, to go on after so many seconds."""
        return replace(self, delay=seconds)

    @property
    def _known(self) -> bool:
        return self.source in ("redis", "deny-cache", "local")

    @property
    def _more_in(self) -> int:
        return math.ceil(self.retry_after or self.reset_after)


class _Draft:
    """The fields of a result while it is made. See `make_result`."""

    __slots__ = RateLimitResult.__slots__

    def __init__(
        self,
        allowed: bool,
        limit: Limit,
        remaining: int,
        retry_after: float | None,
        reset_after: float,
        cost: int,
        source: Source,
        violated: tuple[str, ...],
        policy: str,
    ) -> None:
        self.allowed = allowed
        self.limit = limit
        self.remaining = remaining
        self.retry_after = retry_after
        self.reset_after = reset_after
        self.cost = cost
        self.source = source
        self.violated = violated
        self.policy = policy
        self.delay = 0.0
        self.parts = ()


def make_result(
    allowed: bool,
    limit: Limit,
    remaining: int,
    retry_after: float | None,
    reset_after: float,
    cost: int,
    source: Source,
    violated: tuple[str, ...],
    policy: str,
) -> RateLimitResult:
    """`RateLimitResult(...)`, four times as fast.

    A frozen dataclass sets each field through `object.__setattr__`; with eleven fields that is a third of what a hit
    costs in Python. So the fields are set on an object with the same slots, which then becomes a result.
    """
    made: Any = _Draft(allowed, limit, remaining, retry_after, reset_after, cost, source, violated, policy)
    made.__class__ = RateLimitResult
    return made  # type: ignore[no-any-return]


def _draft(parts: Sequence[RateLimitResult]) -> dict[str, str]:
    policies: list[str] = []
    states: list[str] = []
    for part in parts:
        name, policy = _policy(part.policy, part.limit)
        policies.append(policy)
        if part._known:
            states.append(f"{name};r={part.remaining};t={part._more_in}")
    fields = {"RateLimit-Policy": ", ".join(policies)}
    if states:
        fields["RateLimit"] = ", ".join(states)
    return fields


@lru_cache(maxsize=1024)
def _policy(name: str, limit: Limit) -> tuple[str, str]:
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return quoted, f"{quoted};q={limit.amount};w={math.ceil(limit.period)}"


def _legacy(result: RateLimitResult) -> dict[str, str]:
    fields = {"X-RateLimit-Limit": str(result.limit.amount)}
    if result._known:
        fields["X-RateLimit-Remaining"] = str(result.remaining)
        fields["X-RateLimit-Reset"] = str(result._more_in)
    return fields
