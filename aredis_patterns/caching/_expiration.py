"""`Expiration`: the TTL commands with answers that cannot be mistaken for numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

from aredis_patterns._core.durations import to_milliseconds, to_seconds
from aredis_patterns.caching._result import MISSING, Missing
from aredis_patterns.caching._writes import all_of
from aredis_patterns.pipelining import lane_of
from aredis_patterns.types import Commands, Encodable, Key, RedisClient, Seconds

__all__ = ["Expiration", "ExpireWhen", "TimedValue"]

K = TypeVar("K", bound=Key)

ExpireWhen: TypeAlias = Literal["always", "no-ttl", "has-ttl", "later", "sooner"]
"""When `expire` acts: NX only on a key without a TTL, XX only with one, GT only to prolong, LT only to shorten. A key without
a TTL counts as endless."""

_FLAGS: Final[dict[str, tuple[str, ...]]] = {
    "always": (),
    "no-ttl": ("NX",),
    "has-ttl": ("XX",),
    "later": ("GT",),
    "sooner": ("LT",),
}


class TimedValue(NamedTuple):
    """A value and the seconds it has left; None for a value that does not expire."""

    value: bytes
    ttl: float | None


class Expiration:
    """TTL helpers for keys of your own, whatever they hold. The keys are used as they are, without a namespace.

    "There is no such key" is MISSING, "it does not expire" is None; -1 and -2 never appear, so a comparison with a number
    cannot go wrong in silence. TTLs are seconds, kept to the millisecond; zero and negative ones are a ValueError. Each
    verb is one round trip and atomic per key. Nothing is sent twice: a lost reply is OutcomeUnknown.

        expiration = Expiration(redis)
        await expiration.expire("session:1", 3600, when="later")
        if (left := await expiration.ttl("session:1")) is MISSING: ...
    """

    def __init__(self, client: RedisClient, *, deadline: Seconds = 0.25) -> None:
        self._commands: Final[Commands] = lane_of(client)
        self._deadline: Final = to_seconds(deadline, "deadline")

    async def set_with_ttl(
        self, key: Key, value: Encodable, ttl: Seconds, *, nx: bool = False, xx: bool = False
    ) -> bool:
        """Set value and TTL together (SETEX); True unless `nx` (no key yet) or `xx` (a key already) forbids it."""
        if nx and xx:
            raise ValueError("nx and xx exclude each other")
        words = ["NX"] if nx else ["XX"] if xx else []
        return await self._call("SET", key, value, "PX", to_milliseconds(ttl), *words) is not None

    async def get_with_ttl(self, key: Key) -> TimedValue | Missing:
        """Value and remaining time of a string key, of the same moment; MISSING when there is none."""
        ttl, value = await self._commands.batch([("PTTL", key), ("GET", key)], key=key, deadline=self._deadline)
        for reply in (ttl, value):
            if isinstance(reply, Exception):
                raise reply
        if value is None:
            return MISSING
        return TimedValue(value, None if ttl == -1 else max(ttl, 0) / 1000)

    async def expire(self, key: Key, ttl: Seconds, *, when: ExpireWhen = "always") -> bool:
        """Let a key end after `ttl` seconds; whether that was done (there is a key, and `when` allows it)."""
        return bool(await self._call("PEXPIRE", key, to_milliseconds(ttl), *_flags(when)))

    async def expire_at(self, key: Key, moment: datetime | float, *, when: ExpireWhen = "always") -> bool:
        """Let a key end at a moment (aware datetime, or Unix seconds) on the server's clock. One in the past removes it."""
        return bool(await self._call("PEXPIREAT", key, _unix_ms(moment), *_flags(when)))

    async def ttl(self, key: Key) -> float | Missing | None:
        """Seconds that a key has left; None when it does not expire, MISSING when there is none."""
        return _left(await self._call("PTTL", key))

    async def expires_at(self, key: Key) -> datetime | Missing | None:
        """The moment at which a key ends (UTC); None when it does not expire, MISSING when there is none."""
        at = await self._call("PEXPIRETIME", key)
        if at == -2:
            return MISSING
        return None if at == -1 else datetime.fromtimestamp(at / 1000, UTC)

    async def persist(self, key: Key) -> bool:
        """Let a key live for ever; whether it had a TTL until now."""
        return bool(await self._call("PERSIST", key))

    async def touch(self, key: Key) -> bool:
        """Mark a key as just used, for a server that evicts by use; whether there is one. Its TTL stays as it is."""
        return bool(await self._call("TOUCH", key))

    async def ttl_many(self, keys: Iterable[K]) -> dict[K, float | Missing | None]:
        """`ttl` of each key: one round trip per server."""
        many = list(dict.fromkeys(keys))
        replies = await self._many([("PTTL", key) for key in many])
        return {key: _left(reply) for key, reply in zip(many, replies, strict=True)}

    async def expire_many(self, ttls: Mapping[K, Seconds], *, when: ExpireWhen = "always") -> dict[K, bool]:
        """`expire` for each key: one round trip per server. Each is atomic, all together are not."""
        commands = [("PEXPIRE", key, to_milliseconds(ttl), *_flags(when)) for key, ttl in ttls.items()]
        replies = await self._many(commands)
        return {key: bool(reply) for key, reply in zip(ttls, replies, strict=True)}

    async def persist_many(self, keys: Iterable[K]) -> dict[K, bool]:
        """`persist` for each key: one round trip per server."""
        many = list(dict.fromkeys(keys))
        replies = await self._many([("PERSIST", key) for key in many])
        return {key: bool(reply) for key, reply in zip(many, replies, strict=True)}

    def __repr__(self) -> str:
        return f"Expiration({self._commands!r})"

    async def _call(self, name: str, key: Key, *args: Encodable) -> Any:
        if not key:
            raise ValueError("a key must not be empty")
        return await self._commands.call(name, key, *args, key=key, deadline=self._deadline)

    async def _many(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        return await all_of(self._call(name, key, *rest) for name, key, *rest in commands)


def _flags(when: ExpireWhen) -> tuple[str, ...]:
    try:
        return _FLAGS[when]
    except (KeyError, TypeError):
        raise ValueError(f"when is one of {', '.join(_FLAGS)}, got {when!r}") from None


def _left(pttl: int) -> float | Missing | None:
    if pttl == -2:
        return MISSING
    return None if pttl == -1 else pttl / 1000


def _unix_ms(moment: datetime | float) -> int:
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError(f"a datetime needs a time zone to be a moment, got {moment!r}")
        moment = moment.timestamp()
    if isinstance(moment, bool) or not 0 < moment < 1e11:
        raise ValueError(f"a moment is an aware datetime or Unix seconds, got {moment!r}")
    return round(moment * 1000)
