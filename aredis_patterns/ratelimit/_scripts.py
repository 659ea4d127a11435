"""One typed function per script of this family: the only callers of `lua/*.lua`."""

from __future__ import annotations

from typing import Final

from aredis_patterns._core.script import Script
from aredis_patterns.ratelimit._result import Decision
from aredis_patterns.types import Commands

__all__ = ["fixed_window_hit", "sliding_log_hit", "token_bucket_hit"]

_PACKAGE: Final = "aredis_patterns.ratelimit"
_FIXED_WINDOW_HIT: Final = Script.load(_PACKAGE, "fixed_window_hit")
_SLIDING_LOG_HIT: Final = Script.load(_PACKAGE, "sliding_log_hit")
_TOKEN_BUCKET_HIT: Final = Script.load(_PACKAGE, "token_bucket_hit")


async def fixed_window_hit(
    commands: Commands,
    *,
    counter: str,
    limit: int,
    window: int,
    cost: int,
    charge: bool,
    aligned: bool,
    deadline: float | None = None,
) -> Decision:
    """See lua/fixed_window_hit.lua. One round trip."""
    args = [limit, window, cost, int(charge), int(aligned)]
    return Decision(*await _FIXED_WINDOW_HIT(commands, keys=[counter], args=args, deadline=deadline))


async def sliding_log_hit(
    commands: Commands,
    *,
    log: str,
    limit: int,
    window: int,
    cost: int,
    charge: bool,
    deadline: float | None = None,
) -> Decision:
    """See lua/sliding_log_hit.lua. One round trip."""
    args = [limit, window, cost, int(charge)]
    return Decision(*await _SLIDING_LOG_HIT(commands, keys=[log], args=args, deadline=deadline))


async def token_bucket_hit(
    commands: Commands,
    *,
    bucket: str,
    capacity: int,
    scale: int,
    rate: int,
    cost: int,
    charge: bool,
    deadline: float | None = None,
) -> Decision:
    """See lua/token_bucket_hit.lua. One round trip."""
    args = [capacity, scale, rate, cost, int(charge)]
    return Decision(*await _TOKEN_BUCKET_HIT(commands, keys=[bucket], args=args, deadline=deadline))
