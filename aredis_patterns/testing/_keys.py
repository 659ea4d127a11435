"""Whether code cleans up after itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aredis_patterns.types import RedisClient

__all__ = ["no_leaked_keys"]


@asynccontextmanager
async def no_leaked_keys(client: RedisClient, namespace: str, *, allow_ttl: bool = False) -> AsyncGenerator[None, None]:
    """Fail if the block leaves keys behind that start with `namespace` and were not there before.

        async with no_leaked_keys(client, namespace, allow_ttl=True):
            await limiter.hit("user:1")

    `allow_ttl=True` accepts keys that will expire: it finds those that would stay for ever. O(keys of the database),
    twice.

    Raises AssertionError, listing each key with its remaining life, when the block ends without another error.
    """
    before = {key async for key in _keys(client, namespace)}
    yield
    left: list[str] = []
    async for key in _keys(client, namespace):
        if key in before:
            continue
        untyped: Any = client
        ttl = await untyped.pttl(key)
        # -2: it has expired since. -1: it never will.
        if ttl == -1 or (ttl >= 0 and not allow_ttl):
            left.append(f"{_text(key)} ({'no TTL' if ttl == -1 else f'{ttl / 1000:g} s to live'})")
    if left:
        kind = "keys without a TTL" if allow_ttl else "keys"
        raise AssertionError(f"{kind} left behind below {namespace!r}:\n  " + "\n  ".join(sorted(left)))


async def _keys(client: Any, namespace: str) -> AsyncGenerator[str | bytes, None]:
    escaped = "".join(f"\\{letter}" if letter in r"*?[]\^" else letter for letter in namespace)
    async for key in client.scan_iter(match=f"{escaped}*", count=1000):
        yield key


def _text(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.decode(errors="backslashreplace")
