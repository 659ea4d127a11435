"""What a limiter answers: `Decision` as the scripts and models give it, `RateLimitResult` as callers get it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from aredis_patterns.ratelimit._limit import Limit

__all__ = ["Decision", "HeaderStyle", "RateLimitResult", "Source"]

Source: TypeAlias = Literal["redis", "fail-open", "fail-closed"]
"""Who decided: the server, or the `on_error` policy of the limiter because the server could not."""

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
    """Seconds until the same request fits, if nothing else comes before it. 0.0 when allowed; None when it never fits,
    because it costs more than the limit."""
    reset_after: float
    """Seconds until everything is available again, if nothing else comes before."""
    cost: int = 1
    source: Source = "redis"
    violated: tuple[str, ...] = ()
    """The names of the limiters that refused."""
    policy: str = "default"
    """The name of the limiter."""

    def __bool__(self) -> bool:
        return self.allowed

    def headers(self, *, style: HeaderStyle = "draft") -> dict[str, str]:
        """The HTTP response headers. Seconds are rounded up, so that nobody comes back too early.

        "draft" is draft-ietf-httpapi-ratelimit-headers (September 2025): `RateLimit-Policy` with the quota q and its
        window w, and `RateLimit` with what remains (r) and when there will be more (t). "legacy" is the X-RateLimit
        family.
        `Retry-After` comes with a refusal that ends. A decision without the server tells nothing about what remains.
        """
        known = self.source == "redis"
        more_in = math.ceil(self.retry_after or self.reset_after)
        if style == "draft":
            name = '"' + self.policy.replace("\\", "\\\\").replace('"', '\\"') + '"'
            fields = {"RateLimit-Policy": f"{name};q={self.limit.amount};w={math.ceil(self.limit.period)}"}
            if known:
                fields["RateLimit"] = f"{name};r={self.remaining};t={more_in}"
        elif style == "legacy":
            fields = {"X-RateLimit-Limit": str(self.limit.amount)}
            if known:
                fields["X-RateLimit-Remaining"] = str(self.remaining)
                fields["X-RateLimit-Reset"] = str(more_in)
        else:
            raise ValueError(f'style is "draft" or "legacy", got {style!r}')
        if not self.allowed and self.retry_after is not None:
            fields["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return fields
