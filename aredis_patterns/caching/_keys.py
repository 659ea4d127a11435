"""The keys of this family.

All keys of one cache share one hash tag, so one script may use them together and an invalidation is atomic:

    <namespace>:cache:{<name>}:v:<key>    the value
    <namespace>:cache:{<name>}:l:<key>    its lease, while somebody loads
    <namespace>:cache:{<name>}:w:<key>    its open writers
    <namespace>:cache:{<name>}:epoch      number of the last clear()
    <namespace>:cache:{<name>}:tags       numbers of the tags

In a Cluster that is one slot. With `shards` above 1 the tag is `{<shard>/<name>}`, and each shard has its own versions.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from typing import Final, NamedTuple, TypedDict
from urllib.parse import quote

from aredis_patterns._core.keys import LONGEST_PART, Keyspace
from aredis_patterns.types import Key

__all__ = ["CacheKeys", "EntryKeys", "ShardKeys", "tag_names"]

MEMORY: Final = 8192
"""Keys whose full names are remembered: building one costs more than finding a value in the near cache."""
MOST_TAGS: Final = 1000
"""Of one value, or of one call. They are arguments of one command inside a script."""


class ShardKeys(NamedTuple):
    """What the entries of one shard have in common."""

    epoch: str
    tags: str
    values: str
    """The prefix of all values."""


class Named(TypedDict):
    """The keys that every script of an entry takes."""

    value: str
    lease: str
    writers: str
    epoch: str
    tags: str


class EntryKeys(NamedTuple):
    """The keys of one entry."""

    name: str
    """What the user called it, for messages."""
    value: str
    lease: str
    shard: ShardKeys
    named: Named
    """For the scripts."""


class CacheKeys:
    """The keys of one cache. Memory: the names of the last 8192 keys."""

    __slots__ = ("_known", "_spaces", "name", "shards")

    def __init__(self, namespace: Key, name: Key, shards: int) -> None:
        if not 1 <= shards <= 16384:
            raise ValueError(f"shards is a number from 1 to 16384, got {shards!r}")
        self.name: Final = name
        if shards == 1:
            self._spaces = [(Keyspace(namespace, "cache"), name)]
        else:
            text = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
            space = Keyspace(namespace, "cache-shard")
            self._spaces = [(space, f"{number}/{text}") for number in range(shards)]
        self.shards: Final = tuple(
            ShardKeys(space.key(tag, "epoch"), space.key(tag, "tags"), space.key(tag, "v") + ":")
            for space, tag in self._spaces
        )
        self._known: dict[Key, EntryKeys] = {}

    def of(self, key: Key) -> EntryKeys:
        """The keys of the entry `key`. ValueError when it is empty, TypeError when it is neither str nor bytes."""
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MEMORY:
                self._known.clear()
            found = self._known[key] = self._build(key)
        return found

    def _build(self, key: Key) -> EntryKeys:
        if not isinstance(key, (str, bytes)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a key must be str or bytes, got {key!r}")
        if not key:
            raise ValueError("a key must not be empty")
        raw = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
        at = zlib.crc32(raw) % len(self.shards)
        shard = self.shards[at]
        space, tag = self._spaces[at]
        name = key if isinstance(key, str) else key.decode("utf-8", "backslashreplace")
        value, lease, writers = (space.key(tag, kind, key) for kind in ("v", "l", "w"))
        named = Named(value=value, lease=lease, writers=writers, epoch=shard.epoch, tags=shard.tags)
        return EntryKeys(name, value, lease, shard, named)


def tag_names(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags as the scripts know them: no blanks, never a name of ours, no longer than a part of a key; each once."""
    if tags == ():
        return ()
    if isinstance(tags, (str, bytes)):
        raise TypeError(f"tags is a list of tags, got {tags!r}")
    names = tuple(dict.fromkeys(_tag_name(tag) for tag in tags))
    if len(names) > MOST_TAGS:
        raise ValueError(f"at most {MOST_TAGS} tags at once, got {len(names)}")
    return names


def _tag_name(tag: str) -> str:
    if not isinstance(tag, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a tag must be a str, got {tag!r}")
    if not tag:
        raise ValueError("a tag must not be empty")
    text = quote(tag, safe=":/@,;=+$", errors="surrogatepass")
    return text if len(text) <= LONGEST_PART else "%~" + hashlib.sha256(text.encode()).hexdigest()
