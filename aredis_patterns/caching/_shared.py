"""What the parts of one cache share, whatever the event loop: options, keys, counters, the way to Redis."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from redis.exceptions import RedisError

from aredis_patterns.caching import _scripts
from aredis_patterns.caching._breaker import Breaker, is_outage
from aredis_patterns.caching._entry import Payloads
from aredis_patterns.caching._keys import CacheKeys, ShardKeys
from aredis_patterns.caching._owed import Owed
from aredis_patterns.caching._policy import Policy
from aredis_patterns.caching._result import Counts
from aredis_patterns.exceptions import ServerUnavailable
from aredis_patterns.types import Commands, RedisClient

__all__ = ["Budget", "Shared", "unavailable"]

R = TypeVar("R")

_numbers: Final = itertools.count()


@dataclass(slots=True, eq=False)
class Shared:
    """One per cache object."""

    client: RedisClient
    commands: Commands
    namespace: str
    keys: CacheKeys
    policy: Policy
    payloads: Payloads[Any]
    counts: Counts = field(default_factory=Counts)
    breaker: Breaker = field(default_factory=Breaker)
    owed: Owed = field(init=False)
    replay: int = 0
    """How many invalidations may be owed."""
    tagged: bool = False
    """Whether an entry with tags was seen: from then on reads go through the script, which knows the tags."""
    _prefix: str = field(default_factory=lambda: secrets.token_hex(6))

    def __post_init__(self) -> None:
        self.owed = Owed(self.replay, self.counts)

    @property
    def plain(self) -> bool:
        """Whether nothing is the matter: no tags, nothing owed, Redis in use."""
        return not (self.tagged or self.counts.owed or self.breaker.until)

    def token(self) -> str:
        """A name that nobody else has for one attempt to load or write."""
        return f"{self._prefix}{next(_numbers):x}"

    async def ask(self, run: Coroutine[Any, Any, R]) -> R:
        """Await an operation on Redis and tell the breaker how it went."""
        try:
            result = await run
        except (RedisError, OSError) as error:
            if is_outage(error):
                self.breaker.failed()
                self.counts.redis_errors += 1
            raise
        self.breaker.succeeded()
        return result

    async def tend(self, shard: ShardKeys, horizon: int) -> None:
        """Make the versions of a shard, or prolong them. One round trip."""
        await _scripts.tend(
            self.commands, epoch=shard.epoch, tags=shard.tags, horizon=horizon, deadline=self.policy.deadline
        )


class Budget:
    """The time that one operation may spend on waiting for Redis, in all. Not counted while it is paused."""

    __slots__ = ("_paused", "_until")

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._paused = 0.0

    @property
    def left(self) -> float:
        """Seconds; never zero, so that a call is made and fails by itself."""
        return max(self._until - time.monotonic(), 0.02)

    def pause(self) -> None:
        """Something else is waited for."""
        self._paused = self._until - time.monotonic()

    def resume(self) -> None:
        """Redis is waited for again."""
        self._until = time.monotonic() + self._paused


def unavailable() -> ServerUnavailable:
    """What is raised while nobody asks."""
    return ServerUnavailable("Redis did not answer before and is not asked for a moment")
