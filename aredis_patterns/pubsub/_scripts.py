"""One typed function per script of this family: the only callers of `lua/*.lua`."""

from __future__ import annotations

from typing import Final, NamedTuple

from aredis_patterns._core.script import Script
from aredis_patterns.types import Commands, Encodable

__all__ = ["Published", "publish_numbered"]

_PACKAGE: Final = "aredis_patterns.pubsub"
_PUBLISH_NUMBERED: Final = Script.load(_PACKAGE, "publish_numbered")


class Published(NamedTuple):
    """What publish_numbered answers."""

    receivers: int
    number: int


async def publish_numbered(
    commands: Commands,
    *,
    counter: bytes,
    channel: bytes,
    sharded: bool,
    ttl: int,
    body: bytes,
    deadline: float | None = None,
) -> Published:
    """See lua/publish_numbered.lua. One round trip."""
    args: list[Encodable] = [channel, int(sharded), ttl, body]
    return Published(*await _PUBLISH_NUMBERED(commands, keys=[counter], args=args, deadline=deadline))
