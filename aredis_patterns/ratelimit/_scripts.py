"""One typed function per script of this family: the only callers of `lua/*.lua`.

Most scripts are made of the arithmetic of one algorithm (`lua/_*.lua`) and a body that any of them fits, so each
algorithm has its own small EVALSHA; the script for several limits at once has all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from aredis_patterns._core.script import Script
from aredis_patterns.ratelimit._result import Decision
from aredis_patterns.types import Commands

__all__ = [
    "Arithmetic",
    "Numbers",
    "adjust",
    "begin_hit",
    "concurrency_acquire",
    "concurrency_release",
    "finish_hit",
    "hit",
    "hit_all",
    "post_adjust",
    "post_concurrency_release",
    "post_queue",
    "post_settle",
    "queue",
    "reserve",
    "settle",
]

Arithmetic: TypeAlias = Literal["fixed", "log", "counter", "bucket", "backlog"]


class Numbers(NamedTuple):
    """A limit as its algorithm takes it: `limit` in units, `a` and `b` as its part in lua/ says."""

    algorithm: Arithmetic
    limit: int
    a: int
    b: int


_PACKAGE: Final = "aredis_patterns.ratelimit"
_PARTS: Final[dict[Arithmetic, str]] = {
    "fixed": "_fixed_window",
    "log": "_sliding_log",
    "counter": "_sliding_counter",
    "bucket": "_token_bucket",
    "backlog": "_backlog",
}


def _for_each(name: str) -> dict[str, Script]:
    return {kind: Script.load(_PACKAGE, name, parts=(part,)) for kind, part in _PARTS.items()}


_HIT: Final = _for_each("hit")
_ADJUST: Final = _for_each("adjust")
_RESERVE: Final = _for_each("reserve")
_SETTLE: Final = _for_each("settle")
_HIT_ALL: Final = Script.load(_PACKAGE, "hit_all")
_QUEUE: Final = Script.load(_PACKAGE, "queue")
_CONCURRENCY_ACQUIRE: Final = Script.load(_PACKAGE, "concurrency_acquire")
_CONCURRENCY_RELEASE: Final = Script.load(_PACKAGE, "concurrency_release")


def hit(
    commands: Commands,
    *,
    states: Sequence[str],
    algorithm: Arithmetic,
    limit: int,
    a: int,
    b: int,
    charge: int,
    costs: Sequence[int],
    deadline: float | None = None,
) -> Coroutine[Any, Any, list[int]]:
    """See lua/hit.lua: four integers for each state. One round trip."""
    args = (algorithm, limit, a, b, charge, *costs)
    return _HIT[algorithm](commands, keys=states, args=args, deadline=deadline)


def begin_hit(
    commands: Commands,
    numbers: Numbers,
    states: Sequence[str],
    costs: Sequence[int],
    deadline: float,
    *,
    at_once: bool = False,
) -> asyncio.Future[list[int] | Exception] | None:
    """`hit` that charges, without a coroutine; None: make a real one. An error reply is for `finish_hit`."""
    return _HIT[numbers[0]].begin(commands, states, (*numbers, 1, *costs), deadline, at_once=at_once)


async def finish_hit(
    error: Exception,
    commands: Commands,
    numbers: Numbers,
    states: Sequence[str],
    costs: Sequence[int],
    deadline: float,
) -> list[int]:
    """What came of `begin_hit` after all: repaired, or raised."""
    reply: list[int] = await _HIT[numbers[0]].finish(error, commands, states, (*numbers, 1, *costs), deadline)
    return reply


async def adjust(
    commands: Commands,
    *,
    state: str,
    algorithm: Arithmetic,
    limit: int,
    a: int,
    b: int,
    units: int,
    deadline: float | None = None,
) -> Decision:
    """See lua/adjust.lua. One round trip."""
    args = (algorithm, limit, a, b, units)
    return Decision(*await _ADJUST[algorithm](commands, keys=(state,), args=args, deadline=deadline))


def post_adjust(commands: Commands, *, state: str, numbers: Numbers, units: int) -> None:
    """`adjust` behind everything sent before, without waiting."""
    _ADJUST[numbers.algorithm].post(commands, keys=(state,), args=(*numbers, units), once=True)


async def hit_all(
    commands: Commands,
    *,
    states: Sequence[str],
    charge: bool,
    requests: Sequence[tuple[Numbers, int]],
    deadline: float | None = None,
) -> list[Decision]:
    """See lua/hit_all.lua. One round trip."""
    args = (int(charge), *(value for numbers, cost in requests for value in (*numbers, cost)))
    flat = await _HIT_ALL(commands, keys=states, args=args, deadline=deadline)
    return [Decision(*flat[at : at + 4]) for at in range(0, len(flat), 4)]


async def reserve(
    commands: Commands,
    *,
    state: str,
    notes: str,
    algorithm: Arithmetic,
    limit: int,
    a: int,
    b: int,
    cost: int,
    id: str,
    back: int,
    lease: int,
    deadline: float | None = None,
) -> Decision:
    """See lua/reserve.lua. One round trip."""
    args = (algorithm, limit, a, b, cost, id, back, lease)
    return Decision(*await _RESERVE[algorithm](commands, keys=(state, notes), args=args, deadline=deadline))


async def settle(
    commands: Commands,
    *,
    state: str,
    notes: str,
    algorithm: Arithmetic,
    limit: int,
    a: int,
    b: int,
    actual: int,
    id: str,
    charged: int,
    back: int,
    lease: int,
    deadline: float | None = None,
) -> Decision:
    """See lua/settle.lua; `allowed` is `settled`. One round trip."""
    args = (algorithm, limit, a, b, actual, id, charged, back, lease)
    return Decision(*await _SETTLE[algorithm](commands, keys=(state, notes), args=args, deadline=deadline))


def post_settle(
    commands: Commands, *, state: str, notes: str, numbers: Numbers, args: tuple[int, str, int, int, int]
) -> None:
    """`settle` behind everything sent before, without waiting. `args`: actual, id, charged, back, lease."""
    _SETTLE[numbers.algorithm].post(commands, keys=(state, notes), args=(*numbers, *args))


async def queue(
    commands: Commands,
    *,
    state: str,
    limit: int,
    a: int,
    b: int,
    cost: int,
    patience: int,
    tail: int = 0,
    deadline: float | None = None,
) -> tuple[Decision, int]:
    """See lua/queue.lua; the tail comes apart. One round trip."""
    args = (limit, a, b, cost, patience, tail)
    *decision, end = await _QUEUE(commands, keys=(state,), args=args, deadline=deadline)
    return Decision(*decision), end


def post_queue(commands: Commands, *, state: str, limit: int, a: int, b: int, cost: int, tail: int) -> None:
    """Leave a place in the queue, behind everything sent before, without waiting."""
    _QUEUE.post(commands, keys=(state,), args=(limit, a, b, cost, 0, tail))


async def concurrency_acquire(
    commands: Commands,
    *,
    holders: str,
    line: str,
    limit: int,
    lease: int,
    token: str,
    mode: int,
    channel: str = "",
    deadline: float | None = None,
) -> Decision:
    """See lua/concurrency_acquire.lua; `reset_after` is `ahead`. One round trip."""
    args = (limit, lease, token, mode, channel)
    return Decision(*await _CONCURRENCY_ACQUIRE(commands, keys=(holders, line), args=args, deadline=deadline))


async def concurrency_release(
    commands: Commands,
    *,
    holders: str,
    line: str,
    limit: int,
    lease: int,
    token: str,
    channel: str = "",
    deadline: float | None = None,
) -> bool:
    """See lua/concurrency_release.lua. One round trip."""
    args = (limit, lease, token, channel)
    released = await _CONCURRENCY_RELEASE(commands, keys=(holders, line), args=args, deadline=deadline)
    return bool(released[0])


def post_concurrency_release(
    commands: Commands, *, holders: str, line: str, limit: int, lease: int, token: str, channel: str
) -> None:
    """`concurrency_release` behind everything sent before, without waiting."""
    _CONCURRENCY_RELEASE.post(commands, keys=(holders, line), args=(limit, lease, token, channel))
