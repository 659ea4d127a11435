"""`MessageTransaction`: what a message causes in Redis happens together with its ack, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeAlias

from aredis_patterns.exceptions import LeaseLost
from aredis_patterns.types import Encodable, Key

__all__ = ["Effect", "MessageTransaction"]

Effect: TypeAlias = tuple[str, Key, tuple[Encodable, ...]]
"""A command, its key, its other arguments."""

MOST_WORDS: Final = 4000
"""Of one transaction: what Lua unpacks, with room to spare."""


class MessageTransaction:
    """Collects commands and runs them in one script with the ack, when the block ends.

        async with message.transaction() as tx:
            tx.execute("INCRBY", "balance:7", 100)
            tx.execute("RPUSH", "ledger", "credit 7 100")

    Guarantee: exactly once inside Redis, also when the reply is lost and the script is sent again. A block that raises
    does nothing, and the message is still held. One round trip. In a Cluster every key must be in the slot of the queue:
    put the queue's name in braces into them (`{jobs}:balance`).

    The commands run in order; replies are not returned. One that the server refuses (a wrong type) ends the script: what
    ran before it stays, as in MULTI, the message is not acked, and the server's error is raised. Raises LeaseLost when
    somebody else has the message; nothing was done then.
    """

    __slots__ = ("_commands", "_commit", "_message_id", "_queue", "_words")

    def __init__(self, commit: Callable[[list[Effect]], asyncio.Future[bool]], queue: str, message_id: str) -> None:
        self._commit: Final = commit
        self._queue: Final = queue
        self._message_id: Final = message_id
        self._commands: list[Effect] = []
        self._words = 0

    def execute(self, command: str, key: Key, *args: Encodable) -> None:
        """Add a command whose first argument is its only key. No I/O."""
        if not command or " " in command:
            raise ValueError(f"a command is one word, got {command!r}")
        self._words += 2 + len(args)
        if self._words > MOST_WORDS:
            raise ValueError(f"a transaction has at most {MOST_WORDS} words")
        self._commands.append((command, key, args))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None and not await self._commit(self._commands):
            raise LeaseLost(self._queue, self._message_id)

    def __repr__(self) -> str:
        return f"<MessageTransaction of message {self._message_id}: {len(self._commands)} commands>"
