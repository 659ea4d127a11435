"""Operation numbers for scripts that must not apply twice: what makes an increment REPLAY-SAFE.

Each operation in flight holds a slot. A slot is one small key beside the object, and a number that grows with each use:

    GET slot        begins with my number, or a later one: I have run already, or was overtaken; the stored answer is the answer
    ...             apply
    SET slot "<number> <answer>" PX ...

So the memory is one key per operation that was ever in flight at the same time in this process, not one per operation,
and it expires when the process falls silent. That is enough, because an operation is sent again only while its caller
waits for it, and a slot is given to the next caller only after that. Commands keep their order on a lane, so what a
cancelled caller left behind is over before the next use of its slot arrives.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Final

__all__ = ["RECORD_TTL_MS", "Slot", "Slots"]

RECORD_TTL_MS: Final = 600_000
"""Far longer than the wire tries to reach a server again."""


class Slot:
    """`key` holds the last operation and its answer; `number` is the operation that holds the slot now."""

    __slots__ = ("key", "number")

    def __init__(self, key: str) -> None:
        self.key: Final = key
        self.number = 0


class Slots:
    """The slots of one object in one process. `key_of(client, number)` names their keys. No I/O."""

    __slots__ = ("_count", "_free", "_key_of", "_owner", "_pid")

    def __init__(self, key_of: Callable[[str, int], str]) -> None:
        self._key_of: Final = key_of
        self._start()

    def take(self) -> Slot:
        """A slot for one operation; give it back with `release` when its answer is there or nobody waits any more."""
        if self._pid != os.getpid():
            self._start()  # after a fork both processes would count on in the same slots
        if self._free:
            slot = self._free.pop()
        else:
            slot = Slot(self._key_of(self._owner, self._count))
            self._count += 1
        slot.number += 1
        return slot

    def release(self, slot: Slot) -> None:
        """The operation is over for its caller."""
        self._free.append(slot)

    def _start(self) -> None:
        self._pid = os.getpid()
        self._owner = secrets.token_hex(6)
        self._count = 0
        self._free: list[Slot] = []

    def __repr__(self) -> str:
        return f"<Slots {self._count - len(self._free)} in use of {self._count}>"
