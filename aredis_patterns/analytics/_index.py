"""`IdIndex`: dense numbers for UUIDs and other names, so that bitmaps stay small."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final, Generic, TypedDict, Unpack, overload

from aredis_patterns._core.checks import check_whole
from aredis_patterns._core.durations import to_seconds
from aredis_patterns._core.members import M, member_codec
from aredis_patterns.analytics._keys import IndexKeys
from aredis_patterns.analytics._scripts import index_ids
from aredis_patterns.exceptions import IndexFull
from aredis_patterns.pipelining import lane_of
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["IdIndex", "IndexOptions"]

CHUNK: Final = 1000


class IndexOptions(TypedDict, total=False):
    """The keyword arguments of `IdIndex`, for type checkers. What they mean is said there."""

    max_id: int
    reversible: bool
    remember: int
    namespace: str
    deadline: Seconds


class IdIndex(Generic[M]):
    """Gives each name a number from 0 on, without gaps, and always the same one.

    Guarantee: two names never get the same number, and a name never two, whatever the number of processes and of lost
    replies. One round trip for any number of names (in scripts of 1,000, each all or nothing); none for those that this
    object has seen lately: it remembers `remember` of them.

    Memory: about 90 bytes per name of 32 characters, 75 per UUID (16 bytes); twice that when `reversible`. The index
    never expires: a number that were given again would mix two users in every bitmap. Whoever empties it by hand must
    empty the bitmaps too, and call `forget()` or restart the processes that use it.

    Args:
        names: their type: str, bytes, int or UUID.
        max_id: the largest number; IndexFull beyond. Give the tracker the same.
        reversible: whether `names()` can be asked.

        index = IdIndex(redis, "users", names=UUID)
        await tracker.mark_active(await index.id_of(user_uuid))
    """

    @overload
    def __init__(self: IdIndex[str], client: RedisClient, name: str, **options: Unpack[IndexOptions]) -> None: ...
    @overload
    def __init__(self, client: RedisClient, name: str, *, names: type[M], **options: Unpack[IndexOptions]) -> None: ...
    def __init__(
        self,
        client: RedisClient,
        name: str,
        *,
        names: type[Any] = str,
        max_id: int = 2**27 - 1,
        reversible: bool = False,
        remember: int = 10_000,
        namespace: str = "ap",
        deadline: Seconds = 1.0,
    ) -> None:
        self.name: Final = name
        self.max_id: Final = check_whole(max_id, "max_id", 0)
        self.reversible: Final = reversible
        self._names: Final = member_codec(names)
        self._keys: Final = IndexKeys(namespace, name)
        self._commands: Final = lane_of(client)
        self._deadline: Final = to_seconds(deadline, "deadline")
        self._seen: Final[OrderedDict[bytes, int]] = OrderedDict()
        self._remember: Final = check_whole(remember, "remember", 0)

    async def id_of(self, name: M) -> int:
        """The number of a name, given to it now if it has none. At most one round trip, O(1)."""
        return (await self.ids_of([name]))[0]

    async def ids_of(self, names: Iterable[M]) -> list[int]:
        """The numbers of names, in order. One round trip. IndexFull when there is no room for the new ones."""
        found = await self._look([self._names.encode(name) for name in names], create=True)
        return [number for number in found if number is not None]

    async def find(self, names: Iterable[M]) -> list[int | None]:
        """The numbers of names; None for those that have none. Gives none away. One round trip."""
        return await self._look([self._names.encode(name) for name in names], create=False)

    async def names(self, ids: Iterable[int]) -> list[M | None]:
        """The names of numbers; None for those not given. One round trip. ValueError unless `reversible`."""
        if not self.reversible:
            raise ValueError("this index does not remember names: make it with reversible=True")
        wanted = [check_whole(number, "an id", 0) for number in ids]
        if not wanted:
            return []
        key = self._keys.names
        stored: list[bytes | None] = await self._commands.call("HMGET", key, *wanted, key=key, deadline=self._deadline)
        known = iter(self._names.decode_all(name for name in stored if name is not None))
        return [None if name is None else next(known) for name in stored]

    async def size(self) -> int:
        """How many numbers have been given. One round trip."""
        key = self._keys.index
        return int(await self._commands.call("HLEN", key, key=key, deadline=self._deadline))

    def forget(self) -> None:
        """Ask the server again for everything. No I/O."""
        self._seen.clear()

    async def _look(self, wanted: list[bytes], *, create: bool) -> list[int | None]:
        numbers: dict[bytes, int | None] = {name: self._seen.get(name) for name in wanted}
        unknown = [name for name, number in numbers.items() if number is None]
        for at in range(0, len(unknown), CHUNK):
            # One after the other: if there is no room for all, the first ones are served, in order.
            chunk = unknown[at : at + CHUNK]
            status, ids = await index_ids(
                self._commands,
                index=self._keys.index,
                names=[self._keys.names] if self.reversible else [],
                create=create,
                max_id=self.max_id,
                wanted=chunk,
                deadline=self._deadline,
            )
            if status == 1:
                raise IndexFull(self.name, self.max_id)
            numbers.update((name, number if number >= 0 else None) for name, number in zip(chunk, ids, strict=True))
        self._remember_all(numbers)
        return [numbers[name] for name in wanted]

    def _remember_all(self, numbers: dict[bytes, int | None]) -> None:
        for name, number in numbers.items():
            if number is not None:
                self._seen[name] = number
                self._seen.move_to_end(name)
        while len(self._seen) > self._remember:
            self._seen.popitem(last=False)

    def __repr__(self) -> str:
        return f"<IdIndex {self.name!r} to {self.max_id}, {len(self._seen)} remembered>"
