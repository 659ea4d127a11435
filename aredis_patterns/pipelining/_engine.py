"""Moves bytes between a lane and one redis-py connection. Two engines, one interface (`_contract`).

An engine knows the order of replies and nothing of commands: whom to answer is in `Inbox.sent`, what to do when the
connection ends is decided by the lane (`Inbox.lost`).
"""

from __future__ import annotations

from redis.asyncio.connection import AbstractConnection

from aredis_patterns.pipelining._contract import Engine, Inbox
from aredis_patterns.pipelining._stream_engine import StreamEngine
from aredis_patterns.pipelining._transport_engine import TransportEngine, is_well_known


def engine_for(connection: AbstractConnection, inbox: Inbox, *, fast: bool = True) -> Engine:
    """The fastest engine that this connection allows."""
    if fast and is_well_known(connection):
        return TransportEngine(connection, inbox)
    return StreamEngine(connection, inbox)
