"""How sessions end, each end told once: `SessionEvent`, and the reader behind `SessionStore.events`.

Next to the sessions of each tag lies a sorted set of when they end. A session that is revoked leaves its end there; one
that expires is found there by the first reader that looks. A reader takes ends for a lease, removes each as it hands it
out, and gives the others back when it stops; what a killed reader had taken is everybody's again after its lease.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias, cast

from redis.exceptions import ConnectionError, TimeoutError

from aredis_patterns._core.backoff import exponential
from aredis_patterns.exceptions import PermissionDenied, ServerUnavailable, WireClosed
from aredis_patterns.pipelining import ListenerSubscription, listener_of
from aredis_patterns.sessions._scripts import Claim, claim_many
from aredis_patterns.sessions._server import SessionServer
from aredis_patterns.sessions._tokens import TAGS
from aredis_patterns.types import RedisClient

__all__ = ["EndReason", "EndsReader", "SessionEvent", "read_ends"]

EndReason: TypeAlias = Literal["expired", "revoked", "evicted", "rotated"]
"""Why: its time was over; somebody ended it; it was one too many of its user; a login gave it another id (this one is no
end of a session, and only `wait_ended` reports it)."""

_BATCH: Final = 16
_LONGEST_SLEEP_MS: Final = 5000
_SHORTEST_SLEEP: Final = 0.01
_HALF: Final = 0.5
"""Of a lease: older ends in hand are left to others, so that nobody acts on one that has been given away."""


_finishing: Final[set[asyncio.Future[list[Claim]]]] = set()
"""Claims whose reader was cancelled: the event loop itself holds tasks only weakly."""


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """The end of a session. `handle` is its public name; `user_id` whose it was, None for a visitor's."""

    reason: EndReason
    handle: str
    user_id: str | None

    @classmethod
    def parse(cls, member: bytes) -> SessionEvent:
        """From `<reason>:<handle>:<user>`."""
        reason, handle, user = member.decode().split(":", 2)
        return cls(cast(EndReason, reason), handle, user or None)


class _Taken(NamedTuple):
    ends: str
    member: bytes
    now: int
    until: float
    """On the local clock: no longer ours after this."""


async def read_ends(client: RedisClient, server: SessionServer, lease: int) -> AsyncGenerator[SessionEvent, None]:
    """All ends as they happen, for `SessionStore.events`."""
    reader = EndsReader(client, server, lease)
    try:
        while True:
            yield await reader.next()
    finally:
        reader.close()


class EndsReader:
    """Takes ends and hands them out, one at a time."""

    def __init__(self, client: RedisClient, server: SessionServer, lease: int) -> None:
        self._client: Final = client
        self._server: Final = server
        self._lease: Final = lease
        self._taken: deque[_Taken] = deque()
        self._handed_out: list[_Taken] = []
        self._woken = asyncio.Event()
        self._tags: set[str] = set(TAGS)
        """Where there may be something now."""
        self._look_again = 0.0
        self._subscription: ListenerSubscription | None = None

    async def next(self) -> SessionEvent:
        """The next end. Waits for one."""
        pauses = exponential(first=0.05, longest=2.0)
        while True:
            if (taken := self._next_taken()) is not None:
                return SessionEvent.parse(taken.member)
            try:
                await self._take()
                pauses = exponential(first=0.05, longest=2.0)
            except WireClosed:
                raise
            except (ConnectionError, TimeoutError):
                self._tags.update(TAGS)
                await asyncio.sleep(next(pauses))

    def close(self) -> None:
        """Hand out no more; what was taken and not handed out is everybody's again."""
        if self._subscription is not None:
            self._subscription.close()
        self._give_back(self._taken)
        self._taken.clear()

    def _next_taken(self) -> _Taken | None:
        while self._taken:
            taken = self._taken.popleft()
            if time.monotonic() < taken.until:
                # No await between this and the caller: a cancelled reader has handed it out, or still has it.
                self._server.commands.post("ZREM", taken.ends, taken.member, key=taken.ends, replay_safe=True)
                self._handed_out.append(taken)
                return taken
        return None

    async def _take(self) -> None:
        await self._confirm()
        await self._subscribe()
        if not self._tags:
            await self._sleep()
        if time.monotonic() >= self._look_again:
            self._tags.update(TAGS)  # also when we are woken all the time
        tags, self._tags = self._tags, set()
        try:
            await self._take_from(tags)
        except BaseException:
            self._tags |= tags
            raise

    async def _confirm(self) -> None:
        """Remove again what was handed out: should the first try have been lost, it would come back after the lease."""
        by_ends: dict[str, list[bytes]] = {}
        for taken in self._handed_out:
            by_ends.setdefault(taken.ends, []).append(taken.member)
        for ends, members in by_ends.items():
            await self._server.commands.call(
                "ZREM", ends, *members, key=ends, replay_safe=True, deadline=self._server.rules.deadline
            )
        self._handed_out.clear()

    async def _take_from(self, tags: Iterable[str]) -> None:
        wanted = [self._server.keys.ends(tag) for tag in tags]
        until = time.monotonic() + self._lease / 1000 * _HALF
        claims = await self._claim(wanted)
        pause = float(min(_LONGEST_SLEEP_MS, self._server.rules.idle / 4))
        for ends, claim in zip(wanted, claims, strict=True):
            self._taken.extend(_Taken(ends, member, claim.now, until) for member in claim.taken)
            if claim.next >= 0:
                pause = min(pause, claim.next)
        look_again = time.monotonic() + max(_SHORTEST_SLEEP, pause / 1000)
        # Who was woken for a few tags knows nothing new of the others.
        self._look_again = look_again if len(wanted) == len(TAGS) else min(self._look_again, look_again)

    async def _claim(self, wanted: list[str]) -> list[Claim]:
        """Finishes although its caller is cancelled, and gives back what nobody is there to take."""
        rules = self._server.rules
        claim = asyncio.ensure_future(
            claim_many(
                self._server.commands, wanted, lease=self._lease, keep=rules.keep, most=_BATCH, deadline=rules.deadline
            )
        )
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            _finishing.add(claim)
            claim.add_done_callback(partial(self._give_back_late, wanted))
            raise

    def _give_back_late(self, wanted: list[str], claim: asyncio.Future[list[Claim]]) -> None:
        _finishing.discard(claim)
        if claim.cancelled() or claim.exception() is not None:
            return  # it comes again after the lease
        taken = [
            _Taken(ends, member, each.now, 0.0)
            for ends, each in zip(wanted, claim.result(), strict=True)
            for member in each.taken
        ]
        self._give_back(taken)

    def _give_back(self, taken: Iterable[_Taken]) -> None:
        tags: set[str] = set()
        commands = self._server.commands
        with suppress(WireClosed, RuntimeError):
            for ends, member, now, _ in taken:
                commands.post("ZADD", ends, "XX", now, member, key=ends, replay_safe=True)
                tags.add(SessionEvent.parse(member).handle[0])
            for tag in tags:
                commands.post("PUBLISH", self._server.keys.channel, f"returned:{tag}::")

    async def _sleep(self) -> None:
        """Until somebody says that a session has ended, or one may have expired."""
        with suppress(asyncio.TimeoutError):
            async with asyncio.timeout(max(0.0, self._look_again - time.monotonic())):
                await self._woken.wait()
        self._woken.clear()

    async def _subscribe(self) -> None:
        """Be woken by ends. Where the ACL does not allow to listen, the clock has to do."""
        if self._subscription is not None:
            return
        with suppress(PermissionDenied, ServerUnavailable):
            self._subscription = await listener_of(self._client).subscribe(
                self._server.keys.channel, self._on_message, on_gap=self._on_gap
            )

    def _on_message(self, data: bytes, _channel: bytes, _pattern: bytes | None) -> None:
        # <reason>:<handle>:... - a handle begins with its tag.
        _, _, rest = data.partition(b":")
        self._tags.add(rest[:1].decode())
        self._woken.set()

    def _on_gap(self) -> None:
        self._tags.update(TAGS)
        self._woken.set()
