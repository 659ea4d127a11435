"""Locks for FastAPI: a dependency that holds one while the handler runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from fastapi import Depends, HTTPException, Request

from aredis_patterns.contrib._http import TROUBLE
from aredis_patterns.contrib._locks import BUSY, UNAVAILABLE, LockAnswers, leaving
from aredis_patterns.exceptions import LockLost, LockTimeout
from aredis_patterns.locks import Lease, Lockable
from aredis_patterns.types import Seconds

__all__ = ["locked"]


def locked(
    make: Callable[[Request], Lockable], *, timeout: Seconds = 0.0, status: int = 409, retry_after: Seconds = 1.0
) -> Any:
    """A dependency that holds a lock while the handler runs, and gives it the `Lease`.

        def order_lock(request: Request) -> Lock:
            return Lock(request.app.state.redis, f"order:{request.path_params['order']}")

        @app.post("/orders/{order}/pay")
        async def pay(order: int, lease: Annotated[Lease, locked(order_lock, timeout=2)]): ...

    Also without the lease: `dependencies=[locked(order_lock)]`. Any `Lockable` will do, such as a `Semaphore`. It is
    released when the handler ends, before the response is sent: a slow client holds nothing. If it cannot be had within
    `timeout` (0 does not wait): 409, or 423, with Retry-After. If Redis cannot be reached, or the lock is lost while the
    handler runs (which cancels it): 503 with Retry-After. Not for WebSockets.
    """
    answers = LockAnswers(timeout=timeout, status=status, retry_after=retry_after)

    async def hold(request: Request) -> AsyncGenerator[Lease, None]:
        held = make(request).using(timeout=answers.timeout)
        try:
            lease = await held.__aenter__()
        except LockTimeout as error:
            raise HTTPException(answers.status, BUSY, answers.headers) from error
        except TROUBLE as error:
            raise HTTPException(503, UNAVAILABLE, answers.unavailable(error)) from error
        try:
            async with leaving(held):
                yield lease
        except LockLost as error:
            if error.key != lease.key:
                raise
            raise HTTPException(503, UNAVAILABLE, answers.unavailable(error)) from error

    return Depends(hold, scope="function")
