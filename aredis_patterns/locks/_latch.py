"""`CountDownLatch`: wait until so many participants have arrived."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from aredis_patterns._core.backoff import exponential
from aredis_patterns._core.durations import timeout_seconds, to_milliseconds, to_seconds
from aredis_patterns.exceptions import PermissionDenied, ServerUnavailable
from aredis_patterns.locks._keys import latch_keys
from aredis_patterns.locks._options import readable
from aredis_patterns.locks._room import LONGEST_REST, Waiter
from aredis_patterns.locks._runtime import runtime_of
from aredis_patterns.locks._scripts import latch_arrive
from aredis_patterns.locks._tokens import next_token
from aredis_patterns.pipelining import inbox_of, lane_of
from aredis_patterns.types import Commands, Key, RedisClient, Seconds

__all__ = ["CountDownLatch"]


class CountDownLatch:
    """Opens when `count` participants have arrived, and stays open.

        latch = CountDownLatch(client, "import:7", count=3)
        await latch.count_down("part 1")     # in each worker
        await latch.wait()                   # in whoever goes on afterwards

    Guarantee: each participant counts once, however often it arrives, also after a lost reply. Fails closed: an
    unreachable server raises. Everybody must give the same `count`.

    Round trips: one to arrive, one to wait if it is open, two more otherwise. Memory in Redis: one set entry per
    participant, for `ttl` (default one day) after the last arrival.
    """

    def __init__(
        self,
        client: RedisClient,
        key: Key,
        count: int,
        *,
        ttl: Seconds = 86_400.0,
        deadline: Seconds = 5.0,
        namespace: str = "ap",
    ) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"count is a whole number, 1 or more, got {count!r}")
        self.key: Final = readable(key)
        self.count: Final = count
        self._client: Final = client
        self._commands: Final[Commands] = lane_of(client)
        self._namespace: Final = namespace
        self._arrived, self._queue = latch_keys(namespace, key)
        self._ttl: Final = to_milliseconds(ttl)
        self._deadline: Final = to_seconds(deadline, "deadline")

    async def count_down(self, participant: str | None = None) -> int:
        """Arrive; how many are still missing. Without a name, each call is a participant of its own."""
        if participant == "":
            raise ValueError("participant must not be empty")
        return await self._ask(participant=participant or next_token())

    async def remaining(self) -> int:
        """How many are missing. One round trip; 0: it is open."""
        return await self._ask()

    async def wait(self, timeout: Seconds | None = None) -> bool:
        """Wait until it is open; whether that came in time. Woken by the last arrival, without polling."""
        seconds = timeout_seconds(timeout)
        if await self._ask() == 0:
            return True
        if seconds == 0:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wait()
                return True
        return False

    async def reset(self) -> bool:
        """Forget who has arrived; whether anybody had. One round trip."""
        deleted = await self._commands.call("UNLINK", self._arrived, key=self._arrived, deadline=self._deadline)
        return bool(deleted)

    async def _wait(self) -> None:
        runtime, inbox = runtime_of(self._client), inbox_of(self._client, self._namespace)
        waiter = Waiter(runtime.loop)
        member = f"{waiter.token}\n{inbox.channel}"
        pauses = exponential(first=0.005, longest=0.1)
        inbox.expect(waiter.token, waiter.wake)
        try:
            while True:
                rest = LONGEST_REST
                try:
                    await inbox.open()
                except (PermissionDenied, ServerUnavailable) as error:
                    runtime.cannot_listen(error)
                    rest = next(pauses)
                if await self._ask(member=member) == 0:
                    return
                await waiter.rest(rest)
        finally:
            inbox.forget(waiter.token)
            runtime.commands.post("ZREM", self._queue, member, key=self._queue, replay_safe=True)

    async def _ask(self, *, participant: str = "", member: str = "") -> int:
        return await latch_arrive(
            self._commands,
            arrived=self._arrived,
            queue=self._queue,
            participant=participant,
            count=self.count,
            ttl=self._ttl,
            member=member,
            deadline=self._deadline,
        )

    def __repr__(self) -> str:
        return f"<CountDownLatch {self.key!r} of {self.count}>"
