"""What the web glues share: refusals and failures as problem+json (RFC 9457), and who the client is.

Knows HTTP, and no web framework.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final, Literal, TypeAlias

from redis.exceptions import RedisError

from aredis_patterns.exceptions import PatternError
from aredis_patterns.ratelimit import RateLimitResult

__all__ = [
    "PROBLEM_JSON",
    "RETRY_WHEN_UNAVAILABLE",
    "TROUBLE",
    "HeaderChoice",
    "client_address",
    "new_headers",
    "problem_body",
    "refusal",
    "result_headers",
    "unavailable",
]

PROBLEM_JSON: Final = "application/problem+json"
RETRY_WHEN_UNAVAILABLE: Final = "1"
"""Seconds. Short: the server may be back at any moment."""

TROUBLE: Final = (RedisError, PatternError, OSError)
"""What a limiter raises when nobody could decide."""

_log: Final = logging.getLogger("aredis_patterns.contrib")
_NO_ADDRESS: Final = "unknown"


HeaderChoice: TypeAlias = Literal["draft", "legacy", "both", "none"]
"""Which headers tell the client about its limit. `Retry-After` comes with a refusal in any case."""


def result_headers(result: RateLimitResult, choice: HeaderChoice) -> dict[str, str]:
    """The headers of a result."""
    if choice == "draft":
        return result.headers()
    if choice == "both":
        return result.headers() | result.headers(style="legacy")
    if choice == "none":
        return {name: value for name, value in result.headers().items() if name == "Retry-After"}
    return result.headers(style=choice)


def refusal(result: RateLimitResult) -> dict[str, Any]:
    """The problem of a refused request, with the members of the IETF draft."""
    problem: dict[str, Any] = {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": 429,
        "detail": _why(result),
        "violated-policies": list(result.violated),
    }
    return problem


def unavailable(error: BaseException, what: str = "the rate limit") -> dict[str, Any]:
    """The problem when nobody could decide. Tells the log what happened, and the client only when to come back."""
    _log.error("%s could not be checked: %s: %s", what, type(error).__name__, error)
    return {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": f"{what} could not be checked; try again soon",
    }


def problem_body(problem: Mapping[str, Any]) -> bytes:
    """A problem as JSON bytes."""
    return json.dumps(problem).encode()


def new_headers(fields: Mapping[str, str], present: Sequence[str]) -> dict[str, str]:
    """The fields whose names are not there yet: a header never appears twice."""
    taken = {name.lower() for name in present}
    return {name: value for name, value in fields.items() if name.lower() not in taken}


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted_proxies: int) -> str:
    """The address of the client behind so many proxies of our own.

    Each proxy appends the address that it saw to X-Forwarded-For, so only the last `trusted_proxies` entries were written
    by them; what stands before is the client's own claim. With a shorter list, or with something in that place that is
    no address, the request did not come through all of them: then the peer counts.
    """
    if trusted_proxies > 0:
        hops = [hop.strip() for line in forwarded_for for hop in line.split(",")]
        if len(hops) >= trusted_proxies and (address := _address(hops[-trusted_proxies])):
            return address
    return peer or _NO_ADDRESS


def _address(text: str) -> str | None:
    """An address without the port that some proxies add."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _why(result: RateLimitResult) -> str:
    if result.source == "fail-closed":
        return "the rate limit could not be checked"
    if result.retry_after is None:
        return f"the cost of this request, {result.cost}, is above the limit of {result.limit}"
    return f"the limit is {result.limit}; this request fits in {result.retry_after:.3f} s"
