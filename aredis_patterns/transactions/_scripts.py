"""One typed function per script of this family: the only callers of `lua/*.lua`."""

from __future__ import annotations

from typing import Final, NamedTuple

from aredis_patterns._core.script import Script
from aredis_patterns.types import Commands, Encodable

__all__ = ["Transferred", "compare_and_set", "increment", "transfer"]

_PACKAGE: Final = "aredis_patterns.transactions"
_TRANSFER: Final = Script.load(_PACKAGE, "transfer")
_INCREMENT: Final = Script.load(_PACKAGE, "increment")
_COMPARE_AND_SET: Final = Script.load(_PACKAGE, "compare_and_set")


class Transferred(NamedTuple):
    """What lua/transfer.lua answers."""

    status: int
    source: bytes
    destination: bytes


async def transfer(
    commands: Commands,
    *,
    source: bytes,
    destination: bytes,
    marker: bytes,
    amount: int,
    remember: int,
    deadline: float | None,
) -> Transferred:
    """See lua/transfer.lua. One round trip."""
    keys = [source, destination, marker]
    return Transferred(*await _TRANSFER(commands, keys=keys, args=[amount, remember], deadline=deadline))


async def increment(
    commands: Commands,
    *,
    counter: bytes,
    marker: bytes,
    amount: int,
    ttl: int,
    remember: int,
    deadline: float | None,
) -> int:
    """See lua/increment.lua. One round trip."""
    (value,) = await _INCREMENT(commands, keys=[counter, marker], args=[amount, ttl, remember], deadline=deadline)
    return int(value)


async def compare_and_set(
    commands: Commands,
    *,
    key: bytes,
    marker: bytes,
    must_exist: bool,
    expected: Encodable,
    store: bool,
    new: Encodable,
    ttl: int,
    remember: int,
    deadline: float | None,
) -> bool:
    """See lua/compare_and_set.lua. One round trip."""
    args = [int(must_exist), expected, int(store), new, ttl, remember]
    (replaced,) = await _COMPARE_AND_SET(commands, keys=[key, marker], args=args, deadline=deadline)
    return bool(replaced)
