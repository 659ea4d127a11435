"""`FencedStore`: a value in Redis that only the latest holder of a lock can write. The other half of a fencing token.

For data elsewhere the same rule is one condition. In SQL, with a column `fence` (bigint, default 0):

    UPDATE account SET balance = :balance, fence = :fence WHERE id = :id AND fence <= :fence

No row updated means that a later holder was there: raise, do not retry.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar, cast

from aredis_patterns._core.codecs import Codec, JSONCodec
from aredis_patterns._core.durations import to_milliseconds, to_seconds
from aredis_patterns.exceptions import StaleFencingToken
from aredis_patterns.locks._keys import fenced_key
from aredis_patterns.locks._options import readable
from aredis_patterns.locks._scripts import fenced_set
from aredis_patterns.pipelining import lane_of
from aredis_patterns.types import Commands, Key, RedisClient, Seconds

__all__ = ["FencedStore"]

T = TypeVar("T")


class FencedStore(Generic[T]):
    """Refuses writers whose fencing token is smaller than one it has seen.

        async with Lock(client, "report") as lease:
            await store.set(report, fence=lease.fencing_token)

    Guarantee: after a write with token n, no write with a smaller token succeeds, however late it arrives. The same token
    may write again. Replay-safe: a lost reply never writes twice something else.

    Round trips: one each. The value is yours, so it has no TTL unless you give one; when it ends, so does the memory of
    the newest token.
    """

    def __init__(
        self,
        client: RedisClient,
        key: Key,
        *,
        codec: Codec[T] | None = None,
        ttl: Seconds | None = None,
        deadline: Seconds = 5.0,
        namespace: str = "ap",
    ) -> None:
        self.key: Final = readable(key)
        self._codec: Final[Codec[T]] = codec if codec is not None else cast("Codec[T]", JSONCodec())
        self._place: Final = fenced_key(namespace, key)
        self._ttl: Final = 0 if ttl is None else to_milliseconds(ttl)
        self._deadline: Final = to_seconds(deadline, "deadline")
        self._commands: Final[Commands] = lane_of(client)

    async def set(self, value: T, *, fence: int) -> None:
        """Write. Raises StaleFencingToken, and writes nothing, when a larger token was seen."""
        await self._send(fence, self._codec.encode(value), write=True)

    async def check(self, *, fence: int) -> None:
        """Note the token without writing: from now on smaller ones are refused. Raises StaleFencingToken as `set`."""
        await self._send(fence, b"", write=False)

    async def get(self) -> T | None:
        """The value, or None when nothing was written."""
        data: Any = await self._commands.call("HGET", self._place, "data", key=self._place, deadline=self._deadline)
        return None if data is None else self._codec.decode(data)

    async def newest(self) -> int:
        """The largest token seen; 0 when there was none."""
        token: Any = await self._commands.call("HGET", self._place, "fence", key=self._place, deadline=self._deadline)
        return int(token or 0)

    async def _send(self, fence: object, data: bytes, *, write: bool) -> None:
        if isinstance(fence, bool) or not isinstance(fence, int) or not 0 <= fence < 2**53:
            raise ValueError(f"a fencing token is a whole number from 0 to 2^53, got {fence!r}")
        accepted, newest = await fenced_set(
            self._commands,
            value=self._place,
            token=fence,
            data=data,
            write=write,
            ttl=self._ttl,
            deadline=self._deadline,
        )
        if not accepted:
            raise StaleFencingToken(self.key, fence, newest)

    def __repr__(self) -> str:
        return f"<FencedStore {self.key!r}>"
