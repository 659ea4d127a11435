"""What the body of an optimistic transaction works with: reads now, writes at the commit."""

from __future__ import annotations

from typing import Any, Final

from aredis_patterns.exceptions import RepliesLost
from aredis_patterns.pipelining._borrowing import Borrowed
from aredis_patterns.pipelining._packing import pack
from aredis_patterns.pipelining._routing import STATEFUL, bypass_reason, route_of
from aredis_patterns.types import Command, Encodable, Key

__all__ = ["Queued", "Transaction"]


class Queued:
    """A command that will be executed with the transaction. `result()` is its reply, after the commit."""

    __slots__ = ("_reply", "_state", "command", "name")

    def __init__(self, command: Command) -> None:
        self.command: Final = command
        self.name: Final = _name(command)
        self._state = "waiting"
        self._reply: Any = None

    def result(self) -> Any:
        """The raw reply. Raises its error reply; RepliesLost when the transaction was committed and its reply was lost;
        RuntimeError before the commit."""
        if self._state == "waiting":
            raise RuntimeError(f"{self.name} is executed when the body of the transaction has returned")
        if self._state == "lost":
            raise RepliesLost(self.name)
        if isinstance(self._reply, Exception):
            raise self._reply
        return self._reply

    def settle(self, reply: Any) -> None:
        self._state, self._reply = "done", reply

    def lose(self) -> None:
        self._state = "lost"

    def __repr__(self) -> str:
        return f"<Queued {self.name} {self._state}>"


class Transaction:
    """What the body of an optimistic transaction works with: reads now, writes at the commit."""

    def __init__(self, connection: Borrowed, attempt: int) -> None:
        self._connection = connection
        self.attempt: Final = attempt
        """1 for the first."""
        self.queued: Final[list[Queued]] = []

    async def call(self, *args: Encodable) -> Any:
        """Execute a command now and return its raw reply: for reads. One round trip."""
        _check(args)
        return await self._connection.call(*args)

    async def read(self, *commands: Command) -> list[Any]:
        """Execute several reads now, in one round trip. The first error reply is raised."""
        for command in commands:
            _check(command)
        replies = await self._connection.batch(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def get(self, key: Key) -> bytes | None:
        """The value of a string, or None."""
        reply: bytes | None = await self.call("GET", key)
        return reply

    async def get_int(self, key: Key, default: int = 0) -> int:
        """The value of an integer, or `default` when there is none."""
        value = await self.get(key)
        return default if value is None else int(value)

    def queue(self, *args: Encodable) -> Queued:
        """Execute a command with the commit, if there is one. Raises DataError or ValueError, at once, for a command that
        cannot be encoded or that would change what the connection is (MULTI, WATCH, SELECT, SUBSCRIBE...)."""
        _check(args)
        queued = Queued(args)
        self.queued.append(queued)
        return queued


def _check(command: Command) -> None:
    """Refuse, before any I/O, what cannot be sent and what would make the connection another one for its next user."""
    if not command:
        raise ValueError("an empty command")
    pack(command)
    if bypass_reason(route_of(command[0]), command) == STATEFUL:
        raise ValueError(f"{_name(command)} {STATEFUL} and cannot be part of a transaction")


def _name(command: Command) -> str:
    name = command[0]
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)
