"""Stored values as HTTP: validators, freshness, and when the client has it already. Knows HTTP, and no framework."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from aredis_patterns.caching import RawResult

__all__ = ["cache_headers", "etag_of", "is_not_modified"]

_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')


def etag_of(data: bytes) -> str:
    """A strong validator of the content: the same bytes have the same one in every process."""
    return f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'


def cache_headers(stored: RawResult, *, shared: bool) -> dict[str, str]:
    """ETag, and Cache-Control with as many seconds as the value stays fresh here.

    What has expired, was not kept or has no end may be stored by a client, but must be validated on each use.
    """
    scope = "public" if shared else "private"
    fresh = int(stored.ttl) if stored.ttl is not None and stored.status != "uncached" else 0
    control = f"{scope}, max-age={fresh}" if fresh > 0 else f"{scope}, no-cache"
    return {"ETag": etag_of(stored.data), "Cache-Control": control}


def is_not_modified(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this content (RFC 9110, 13.1.2: weak comparison)."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)
