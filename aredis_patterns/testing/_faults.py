"""What can go wrong with a command, and how often: the rules of a `FaultProxy`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final, Literal, TypeAlias, TypedDict

Words: TypeAlias = tuple[bytes, ...]
"""A command as it was sent: its name in capitals, then its arguments."""

Fault: TypeAlias = Literal[
    "delay command",
    "hold command",
    "reset before",
    "swallow",
    "reset after",
    "drop reply",
    "delay reply",
    "hold reply",
    "duplicate reply",
    "cut reply",
]

Aftermath: TypeAlias = Literal["reset", "silence", "nothing"]
"""What becomes of a connection whose reply was dropped: it is reset, it stays open and nothing more arrives, or the
stream goes on without that reply (which no TCP connection does, but a broken proxy may)."""

PATIENCE: Final = 5.0
"""Seconds that a test waits for an event before it fails."""


class When(TypedDict, total=False):
    """Which of the matching commands a rule applies to."""

    nth: int
    """From the n-th matching command on (default 1)."""
    times: int | None
    """So many times at most (default None: every time until the rule is removed)."""
    probability: float
    """By chance, from 0 to 1, drawn from the seed of the proxy (default 1)."""
    where: Callable[[Words], bool] | None
    """Only commands for which this is true; it is given the name and the arguments."""


class Tally:
    """A number that grows, and that a test can wait for."""

    def __init__(self, what: str) -> None:
        self.count = 0
        self._what = what
        self._changed = asyncio.Event()

    def add(self) -> None:
        self.count += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def reach(self, count: int, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                while self.count < count:
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{self._what}: {self.count} of {count} within {within:g} s") from None


class Rule:
    """One fault, returned by the methods of `FaultProxy`."""

    def __init__(
        self,
        fault: Fault,
        command: str | None,
        when: When,
        *,
        seconds: float = 0.0,
        then: Aftermath = "reset",
        remove: Callable[[Rule], None],
    ) -> None:
        self.fault: Final = fault
        self.command = None if command is None else command.upper().encode()
        self.seconds = seconds
        self.then: Aftermath = then
        self.matched = 0
        """How many commands it could have applied to."""
        self.open = asyncio.Event()
        self._when = when
        self._chosen = 0
        self._applied = Tally(f"{fault}, {command or 'any command'}")
        self._remove = remove

    def __repr__(self) -> str:
        command = "any command" if self.command is None else self.command.decode()
        return f"<Rule {self.fault}: {command}, applied {self.applied} of {self.matched}>"

    @property
    def applied(self) -> int:
        """How often the fault has happened (or begun, for holds and delays)."""
        return self._applied.count

    async def until_applied(self, times: int = 1, *, within: float = PATIENCE) -> None:
        """Wait until the fault has happened so often in all. AssertionError after `within` seconds.

        A fault of a reply happens when the reply comes: by then the server has executed the command.
        """
        await self._applied.reach(times, within)

    def release(self) -> None:
        """Let go what is being held, and hold nothing more."""
        self.remove()
        self.open.set()

    def remove(self) -> None:
        """Apply to no further command."""
        self._remove(self)

    def applies(self, words: Words, random: Random) -> bool:
        """Whether this command is one of them. Called once for each command, by the proxy."""
        if self.command is not None and self.command not in (words[0], b" ".join(words[:2]).upper()):
            return False
        where, times = self._when.get("where"), self._when.get("times")
        if where is not None and not where(words):
            return False
        self.matched += 1
        if self.matched < self._when.get("nth", 1) or (times is not None and self._chosen >= times):
            return False
        if random.random() >= self._when.get("probability", 1.0):
            return False
        self._chosen += 1
        return True

    def happens(self) -> None:
        """Called by the proxy."""
        self._applied.add()


class Watch:
    """Sees commands pass, from the moment it is made: `await proxy.watch("EVALSHA").until_forwarded()`."""

    def __init__(self, command: str | None) -> None:
        self._command = None if command is None else command.upper().encode()
        name = command or "commands"
        self._forwarded = Tally(f"{name} forwarded")
        self._answered = Tally(f"{name} answered")

    @property
    def forwarded(self) -> int:
        """Matching commands that were handed to the server."""
        return self._forwarded.count

    @property
    def answered(self) -> int:
        """Matching commands whose reply was handed to the client."""
        return self._answered.count

    async def until_forwarded(self, times: int = 1, *, within: float = PATIENCE) -> None:
        """Wait until so many matching commands were handed to the server. AssertionError after `within` seconds."""
        await self._forwarded.reach(times, within)

    async def until_answered(self, times: int = 1, *, within: float = PATIENCE) -> None:
        """Wait until so many replies were handed to the client. AssertionError after `within` seconds."""
        await self._answered.reach(times, within)

    def saw(self, words: Words, what: Literal["forwarded", "answered"]) -> None:
        """Called by the proxy."""
        if self._command is None or self._command in (words[0], b" ".join(words[:2]).upper()):
            (self._forwarded if what == "forwarded" else self._answered).add()
