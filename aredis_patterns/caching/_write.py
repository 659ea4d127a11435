"""`cache.write(key)`: a write to the source, bracketed, so that no reader keeps what it read before or during it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from redis.exceptions import RedisError

from aredis_patterns.caching import _scripts
from aredis_patterns.caching._breaker import is_outage
from aredis_patterns.caching._keys import EntryKeys, tag_names
from aredis_patterns.caching._policy import ttl_ms
from aredis_patterns.caching._shared import Shared
from aredis_patterns.caching._writes import Writes, all_of
from aredis_patterns.exceptions import ServerUnavailable
from aredis_patterns.types import Seconds

__all__ = ["WriteBracket"]

T = TypeVar("T")


class WriteBracket(Generic[T]):
    """What `Cache.write` returns: `async with cache.write(key) as w: ...; w.set(value)`.

    Entering removes the value and ends every load of it; until the block is left, readers load from the source and store
    nothing. Leaving stores what was `set`, if no other writer overlapped and nothing was invalidated; else the key stays
    empty and the next reader loads. So two racing writers leave the newest value or none, whichever order they end in.

    An exception or a cancellation in the block stores nothing. A process that dies in the block blocks storing until
    `timeout` is over. `committed` tells afterwards whether the value was stored.
    """

    def __init__(self, shared: Shared, writes: Writes, keys: EntryKeys, px: int) -> None:
        self._shared: Final = shared
        self._writes: Final = writes
        self._keys: Final = keys
        self._px: Final = px
        self._token = ""
        self._entry: tuple[bytes, int] | None = None
        self._horizon = shared.policy.horizon(None)
        self._offline = False
        self.committed = False
        """Whether the value was stored."""

    def set(self, value: T, *, ttl: Seconds | None = None, tags: Iterable[str] = ()) -> None:
        """What to store when the block ends well; the last one counts. EncodeError at once. No I/O."""
        if not self._token:
            raise RuntimeError("set() belongs inside `async with cache.write(key) as w:`")
        ms = ttl_ms(ttl)
        self._entry = self._writes.entry(value, self._token, ms, tag_names(tags))
        self._horizon = self._shared.policy.horizon(ms)

    async def __aenter__(self) -> Self:
        if self._token:
            raise RuntimeError("a write is entered once: call cache.write(key) again")
        shared, keys = self._shared, self._keys
        self._token = shared.token()
        self._writes.forget(keys)
        begin = _scripts.write_begin(
            shared.commands,
            **keys.named,
            token=self._token,
            px=self._px,
            deadline=shared.policy.deadline,
        )
        try:
            # Back to back, versions first: the value that is set will bear the one of now.
            await shared.ask(all_of([shared.tend(keys.shard, shared.policy.horizon(None)), begin]))
        except BaseException as error:
            self._abort()
            # Owed: the source may be written, and whoever reads here does not trust Redis until it knows.
            self._offline = self._writes.owe(keys, error)
            if not self._offline:
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._offline:
            # The replay may have come before the source was written: once more.
            self._writes.owe(self._keys, ServerUnavailable("the write could not be announced"))
            return
        if error is not None or self._entry is None:
            self._abort()
            return
        entry, px = self._entry
        try:
            self.committed = await self._commit(entry, px)
        except asyncio.CancelledError:
            self._abort()
            raise
        except (RedisError, OSError) as trouble:
            if not is_outage(trouble):
                raise
            # The source is written and the value is gone since the beginning; the bracket ends by itself. Nothing is stale.
        finally:
            self._writes.forget(self._keys)

    async def _commit(self, entry: bytes, px: int) -> bool:
        shared, keys = self._shared, self._keys
        if px > shared.policy.reach(None):
            await shared.ask(shared.tend(keys.shard, self._horizon))  # the versions must outlive the value
        return await shared.ask(
            _scripts.write_commit(
                shared.commands,
                **keys.named,
                token=self._token,
                entry=entry,
                px=px,
                deadline=shared.policy.deadline,
            )
        )

    def _abort(self) -> None:
        keys = self._keys
        _scripts.post_abort(
            self._shared.commands,
            **keys.named,
            token=self._token,
        )
        self._writes.forget(keys)
