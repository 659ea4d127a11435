"""`synchronized`: a function that runs under a lock, one per key made of its arguments."""

from __future__ import annotations

import functools
import inspect
import string
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, Unpack

from aredis_patterns.locks._lock import Lock
from aredis_patterns.locks._options import LeaseOptions
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["synchronized"]

P = ParamSpec("P")
T = TypeVar("T")


def synchronized(
    client: RedisClient | Callable[[], RedisClient],
    key: str | None = None,
    *,
    timeout: Seconds | None = None,
    fair: bool = False,
    **options: Unpack[LeaseOptions],
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Decorate an async function: at most one call at a time per key, over all processes.

        @synchronized(client, key="user:{user_id}", timeout=5)
        async def charge(user_id: int, amount: int) -> None: ...

    `key` is a format string over the parameters of the function; without one the function's own name is the key.
    `client` may be a function that returns it, for a client made later. Waits at most `timeout`, then raises
    LockTimeout; the call is cancelled and LockLost raised when the lock is lost. Options are those of `Lock`.

    Raises ValueError at once for a key that names no parameter, TypeError for a function that is not async.
    """

    def decorate(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"synchronized needs an async function, got {function!r}")
        signature = inspect.signature(function)
        template = key if key is not None else f"{function.__module__}.{function.__qualname__}"
        if key is not None:
            _check(template, signature)

        @functools.wraps(function)
        async def locked(*args: P.args, **kwargs: P.kwargs) -> T:
            name = template
            if key is not None:
                bound = signature.bind(*args, **kwargs)
                bound.apply_defaults()
                name = template.format(**bound.arguments)
            made = client() if callable(client) else client
            async with Lock(made, name, fair=fair, **options).using(timeout=timeout):
                return await function(*args, **kwargs)

        return locked

    return decorate


def _check(template: str, signature: inspect.Signature) -> None:
    for _, field, _, _ in string.Formatter().parse(template):
        if field is None:
            continue
        name = field.partition(".")[0].partition("[")[0]
        if name not in signature.parameters:
            raise ValueError(f"key {template!r} names {name!r}, which is no parameter of {signature}")
