"""`Redlock`: one lock on several independent servers, held while a majority of them says so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final, NamedTuple, Unpack

from redis.asyncio import RedisCluster

from aredis_patterns._core.durations import to_seconds
from aredis_patterns.exceptions import LockAlreadyHeld, ServerUnavailable
from aredis_patterns.locks._answers import Answer
from aredis_patterns.locks._keys import LockKeys, lock_keys
from aredis_patterns.locks._lease import Lease
from aredis_patterns.locks._lockable import Lockable
from aredis_patterns.locks._options import LeaseOptions, Options, readable
from aredis_patterns.locks._quorum import Poll
from aredis_patterns.locks._renewal import Renewals, Renewer
from aredis_patterns.locks._scripts import fence_raise, lock_acquire, lock_release, lock_renew, post_lock_release
from aredis_patterns.locks._tokens import next_token
from aredis_patterns.pipelining import lane_of
from aredis_patterns.types import Commands, Key, RedisClient, Seconds

__all__ = ["Redlock"]

PAUSE: Final = (0.05, 0.15)
"""Seconds, from and to, before the next attempt: random, so that rivals do not split the servers again."""


class Redlock(Lockable):
    """A lock that outlives the loss of a minority of its servers.

        async with Redlock([redis1, redis2, redis3], "payout") as lease:
            await pay(fence=lease.fencing_token)

    Use it with independent primaries, not with replicas of one another. Most programs are better served by `Lock` and
    fencing: this one costs more, and still relies on clocks (a server that restarts empty within a ttl, or whose clock
    jumps, can vote twice).

    Guarantee: at most one holder while fewer than half of the servers lose their memory within a ttl. `fencing_token` is
    the largest of those that the majority gave, and is written back to a majority before the body begins: any later
    majority has a server that knows it, so it rises with every acquisition as long as that server keeps its memory.
    Without the write-back it would not rise from one majority to another.

    Round trips: two to acquire (in parallel to all servers, as slow as the majority), one to release. Nobody is woken:
    it tries again after 50 to 150 ms. A server gets `node_timeout` to answer (default 5 % of the ttl, at least 50 ms).
    Options as with `Lock`; `extend`, `lost` and the ends of a block are the same.
    """

    def __init__(
        self,
        clients: Sequence[RedisClient],
        key: Key,
        *,
        node_timeout: Seconds | None = None,
        **options: Unpack[LeaseOptions],
    ) -> None:
        if not clients:
            raise ValueError("Redlock needs at least one client")
        if len(set(map(id, clients))) < len(clients):
            raise ValueError("Redlock needs a different client for each server")
        super().__init__(clients[0], readable(key), Options.checked(**options))
        if node_timeout is None:
            node_timeout = max(0.05, self.options.ttl / 20)
        self.node_timeout: Final = to_seconds(node_timeout, "node_timeout")
        self.keys: Final = lock_keys(self.options.namespace, key)
        self._clients: Final = tuple(clients)
        self._site: _RedlockSite | None = None

    async def locked(self) -> bool:
        """Whether a majority of the servers holds it for somebody. One round trip."""
        site = self._here()

        async def exists(node: _Node) -> int:
            found: int = await node.commands.call(
                "EXISTS", self.keys.held, key=self.keys.held, deadline=self.node_timeout
            )
            return found

        return await Poll(map(exists, site.nodes), bool).decided()

    def _here(self) -> _RedlockSite:
        site = self._site
        if site is None or site.renewals.loop is not asyncio.get_running_loop():
            site = self._site = _RedlockSite(self._clients, self.key, self.keys, self.options, self.node_timeout)
        return site

    async def _take(self, timeout: float | None) -> Lease | None:
        site = self._here()
        if timeout != 0 and asyncio.current_task() in self._held:
            raise LockAlreadyHeld(self.key, "this task holds it, and would wait for itself")
        until = float("inf") if timeout is None else site.renewals.loop.time() + timeout
        first = True
        while True:
            lease = await site.attempt()
            if lease is not None:
                return lease
            self.counts["waited"] += first
            first = False
            left = until - site.renewals.loop.time()
            if left <= 0:
                return None
            await asyncio.sleep(min(left, random.uniform(*PAUSE)))


class _Node(NamedTuple):
    commands: Commands
    countable: bool


class _RedlockSite:
    """Implements `Issuer` and `Renewer` over all servers."""

    def __init__(
        self, clients: Sequence[RedisClient], key: str, keys: LockKeys, options: Options, node_timeout: float
    ) -> None:
        self.renewals = Renewals(asyncio.get_running_loop())
        self.key = key
        self.ttl = options.ttl
        self.nodes: Final = [_Node(lane_of(client), not isinstance(client, RedisCluster)) for client in clients]
        self._keys: Final = keys
        self._options: Final = options
        self._patience: Final = node_timeout

    @property
    def renewer(self) -> Renewer:
        return self

    async def attempt(self) -> Lease | None:
        """Ask all servers once. Without a majority, or cancelled, it is given back everywhere."""
        token, start = next_token(), self.renewals.loop.time()
        poll = Poll((self._acquire(node, token) for node in self.nodes), lambda answer: answer.granted > 0)
        try:
            if await poll.decided():
                fence = max(answer.fence for answer in poll.answers.values() if answer is not None)
                if await self._write_back(token, fence):
                    lease = Lease(self, self._options, token=token, fencing_token=fence, claims=(), start=start)
                    if lease.held:
                        return lease
                    lease.release_nowait()
        except BaseException:
            poll.cancel()
            self._post_release(token)
            raise
        poll.cancel()
        self._post_release(token)
        return None

    async def renew(self, leases: Sequence[Lease], ttl: Sequence[float], deadline: float) -> Sequence[int]:
        """See `Renewer.renew`: 0 when a majority says no. Raises ServerUnavailable while neither side has one."""
        del deadline  # each server has its own

        async def one(lease: Lease, seconds: float) -> int:
            claims = (lease.token, round(seconds * 1000))

            async def renewed(node: _Node) -> int:
                (held,) = await lock_renew(
                    node.commands, locks=[self._keys.held], claims=claims, deadline=self._patience
                )
                return held

            poll = Poll(map(renewed, self.nodes), bool)
            if await poll.decided():
                return 1
            if not poll.refused:
                raise ServerUnavailable(f"no majority of {len(self.nodes)} servers answered about {self.key!r}")
            return 0

        return await asyncio.gather(*map(one, leases, ttl))

    async def give_back(self, lease: Lease) -> bool:
        """See `Issuer.give_back`. False only when a majority says that it was not ours."""

        async def released(node: _Node) -> int:
            answer = await lock_release(
                node.commands,
                lock=self._keys.held,
                queue=self._keys.queue,
                token=lease.token,
                member="",
                countable=node.countable,
                deadline=self._patience,
            )
            return answer.released

        poll = Poll(map(released, self.nodes), bool)
        try:
            await poll.all()
        finally:
            if poll.silent or len(poll.answers) < len(self.nodes):
                self._post_release(lease.token)
        return not poll.refused

    def let_go(self, lease: Lease) -> None:
        """See `Issuer.let_go`."""
        self._post_release(lease.token)

    def ended(self, lease: Lease) -> None:
        """See `Issuer.ended`."""

    async def _acquire(self, node: _Node, token: str) -> Answer:
        return await lock_acquire(
            node.commands,
            lock=self._keys.held,
            fence=self._keys.fence,
            queue=self._keys.queue,
            token=token,
            ttl=self._options.ttl_ms,
            owner=self._options.owner,
            inbox="",
            enqueue=False,
            fair="u",
            ticket=0,
            deadline=self._patience,
        )

    async def _write_back(self, token: str, fence: int) -> bool:
        """Let a majority know the fence, so that the next majority gives a larger one."""

        async def raised(node: _Node) -> bool:
            return await fence_raise(
                node.commands,
                lock=self._keys.held,
                fence=self._keys.fence,
                token=token,
                number=fence,
                deadline=self._patience,
            )

        poll = Poll(map(raised, self.nodes), bool)
        try:
            return await poll.decided()
        except BaseException:
            poll.cancel()
            raise

    def _post_release(self, token: str) -> None:
        for node in self.nodes:
            post_lock_release(node.commands, keys=self._keys, token=token, member="", countable=node.countable)
