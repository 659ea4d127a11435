"""The scripts of one entry in plain Python: what they must answer in any order of calls. Without time and bytes.

Property tests compare them with the server step by step; users may test their own invalidation logic against them.

    model = EntryModel()
    assert model.read("a") == (Status.LOAD, None)
    model.invalidate()
    assert not model.fill("a", "late")
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aredis_patterns.caching._scripts import Put, Status

__all__ = ["EntryModel"]


@dataclass
class Stored:
    """A value, and what it bears."""

    version: int
    token: str
    tags: frozenset[str]
    payload: Any


@dataclass
class EntryModel:
    """The state of one key of a cache, and of the versions around it."""

    value: Stored | None = None
    owner: str | None = None
    owned_version: int = 0
    writers: dict[str, int | None] = field(default_factory=dict)
    """Token of each open writer, and the version its value would bear; None when it may not store any more."""
    epoch: int = 0
    tags: dict[str, int] = field(default_factory=dict)

    def read(self, token: str, mode: str = "load") -> tuple[Status, Any]:
        """See lua/read.lua, for values that are never due."""
        found = self.value if self.value is not None and self._counts(self.value.version, self.value.tags) else None
        payload = None if found is None else found.payload
        if found is not None and mode != "refresh":
            return Status.HIT, payload
        if mode == "look":
            return Status.MISS, None
        if self.writers:
            return Status.BYPASS, payload
        if self.owner is not None and self.owner != token and mode == "load":
            return Status.WAIT, None
        if self.owner != token:
            self.owner, self.owned_version = token, self._newest()
        return (Status.LOAD if found is None else Status.REFRESH), payload

    def fill(self, token: str, payload: Any, tags: Iterable[str] = ()) -> bool:
        """See lua/fill.lua."""
        if self.owner != token:
            return self.value is not None and self.value.token == token
        self.owner = None
        if not self._counts(self.owned_version, tags):
            return False
        self.value = Stored(self.owned_version, token, frozenset(tags), payload)
        return True

    def fail(self, token: str) -> bool:
        """See lua/fail.lua, without a hold."""
        held = self.owner == token
        if held:
            self.owner = None
        return held

    def invalidate(self) -> bool:
        """See lua/invalidate.lua, without a hold."""
        removed = self.value is not None and self._counts(self.value.version, self.value.tags)
        self._remove()
        self._beat_writers()
        return removed

    def write_begin(self, token: str) -> bool:
        """See lua/write_begin.lua."""
        self._remove()
        self.writers.setdefault(token, self._newest())
        if len(self.writers) > 1:
            self._beat_writers()
        return self.writers[token] is not None

    def write_commit(self, token: str, payload: Any, tags: Iterable[str] = (), *, store: bool = True) -> bool:
        """See lua/write_commit.lua."""
        if token not in self.writers and self.value is not None and self.value.token == token:
            return True
        version = self.writers.pop(token, None)
        if version is not None and store and self._counts(version, tags):
            self.value = Stored(version, token, frozenset(tags), payload)
            return True
        self._remove()
        return False

    def put(self, token: str, payload: Any, tags: Iterable[str] = (), *, only: str = "") -> Put:
        """See lua/put.lua."""
        if self.value is not None and self.value.token == token:
            return Put.STORED
        present = self.value is not None and self._counts(self.value.version, self.value.tags)
        if (only == "NX" and present) or (only == "XX" and not present):
            return Put.REFUSED
        self._remove()
        self.value = Stored(self._newest(), token, frozenset(tags), payload)
        self._beat_writers()
        return Put.STORED

    def bump(self, names: Iterable[str] = ()) -> None:
        """See lua/bump.lua."""
        number = self._newest() + 1
        named = list(names)
        if not named:
            self.epoch = number
        self.tags.update(dict.fromkeys(named, number))

    def _newest(self) -> int:
        return max([self.epoch, *self.tags.values()])

    def _counts(self, version: int, tags: Iterable[str]) -> bool:
        return version >= self.epoch and all(version >= self.tags.get(tag, 0) for tag in tags)

    def _remove(self) -> None:
        self.value = None
        self.owner = None

    def _beat_writers(self) -> None:
        self.writers = dict.fromkeys(self.writers)
