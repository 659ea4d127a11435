"""Locks for aiohttp's server: a decorator that holds one while the handler runs."""

from __future__ import annotations

import functools
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from aredis_patterns.contrib._http import TROUBLE
from aredis_patterns.contrib._locks import BUSY, UNAVAILABLE, LockAnswers, leaving
from aredis_patterns.exceptions import LockLost, LockTimeout
from aredis_patterns.locks import Lockable
from aredis_patterns.types import Seconds

__all__ = ["locked"]


def locked(
    make: Callable[[web.Request], Lockable], *, timeout: Seconds = 0.0, status: int = 409, retry_after: Seconds = 1.0
) -> Callable[[Handler], Handler]:
    """Hold a lock while the handler runs: `@locked(lambda request: Lock(redis, f"order:{request.match_info['order']}"))`.

    Released when the handler ends, before aiohttp sends what it returned. If it cannot be had within `timeout` (0 does
    not wait): 409, or 423, with Retry-After. If Redis cannot be reached, or the lock is lost meanwhile: 503.
    """
    answers = LockAnswers(timeout=timeout, status=status, retry_after=retry_after)

    def decorate(handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def holding(request: web.Request) -> web.StreamResponse:
            held = make(request).using(timeout=answers.timeout)
            try:
                lease = await held.__aenter__()
            except LockTimeout:
                return web.json_response({"detail": BUSY}, status=answers.status, headers=answers.headers)
            except TROUBLE as error:
                return web.json_response({"detail": UNAVAILABLE}, status=503, headers=answers.unavailable(error))
            try:
                async with leaving(held):
                    return await handler(request)
            except LockLost as error:
                if error.key != lease.key:
                    raise
                return web.json_response({"detail": UNAVAILABLE}, status=503, headers=answers.unavailable(error))

        return holding

    return decorate
