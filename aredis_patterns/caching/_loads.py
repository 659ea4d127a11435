"""Getting a value that is not there: one loader in the whole fleet, everybody else is handed its value.

This is the heart of the family. `_fly` is the whole story of a key:

    ask the server     HIT      answer
                       LOAD     we hold the lease: load, fill, answer. Refused: somebody invalidated; ask again
                       REFRESH  the same, but everybody has the old value meanwhile
                       WAIT     another process loads: be woken with its value
                       BYPASS   somebody writes to the source: load, keep nothing
                       FAILED   the last load failed a moment ago
    no answer          load without Redis

A value reaches a caller only if it was read after the caller asked, or loaded after it asked, or kept under a lease that
no invalidation has ended since (`_flight` says who may have what).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from typing import Final

from redis.exceptions import RedisError

from aredis_patterns.caching import _scripts
from aredis_patterns.caching._asking import Asking, found_answer
from aredis_patterns.caching._breaker import is_outage
from aredis_patterns.caching._entry import parse_entry
from aredis_patterns.caching._failure import decode_failure, encode_failure
from aredis_patterns.caching._flight import ALWAYS, Flight, moment
from aredis_patterns.caching._leases import Leases
from aredis_patterns.caching._loading import Loading, Ready
from aredis_patterns.caching._near import NearTable
from aredis_patterns.caching._policy import LARGEST_PUSH
from aredis_patterns.caching._result import Answer
from aredis_patterns.caching._scripts import Found, Status
from aredis_patterns.caching._shared import Budget, Shared
from aredis_patterns.exceptions import WireClosed

__all__ = ["Loads"]

MOST_REFUSALS: Final = 3
"""Loads in a row that an invalidation may overtake before the callers get a value that is not kept."""
FIRST_POLL: Final = 0.02
LONGEST_POLL: Final = 1.0


class Loads:
    """The flights of one cache in one event loop."""

    def __init__(self, shared: Shared, near: NearTable | None) -> None:
        self._shared: Final = shared
        self._loop: Final = asyncio.get_running_loop()
        self.asking: Final = Asking(shared, near)
        self._leases: Final = Leases(shared)
        self._loading: Final = Loading(shared)
        self.gate: Final = self._loading.gate
        self._flights: dict[str, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def current(self, value: str) -> Flight | None:
        """The flight that callers may join."""
        return self._flights.get(value)

    def refreshing(self, value: str) -> bool:
        """Whether a task in this process works on the next value, so that nobody need ask for it."""
        flight = self._flights.get(value)
        return flight is not None and flight.refreshing

    def start(self, flight: Flight) -> None:
        """Let a flight begin. Those who join in this tick are part of it from the start.

        Nobody joins a refresh: there may be a value, and then readers do not wait. Where there is none, the server lets
        them wait for it.
        """
        name = flight.keys.value
        if flight.mode == "load":
            self._flights[name] = flight
        flight.task = task = self._loop.create_task(self._fly(flight), name="aredis-patterns cache load")
        self._tasks.add(task)
        if self._shared.policy.on_abandon == "cancel":
            flight.on_empty = functools.partial(_cancel, task)

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            if self._flights.get(name) is flight:
                del self._flights[name]
            if done.cancelled():
                flight.fail(WireClosed("the cache was closed, or the load was cancelled"))
            elif (error := done.exception()) is not None:
                flight.fail(error)

        task.add_done_callback(ended)

    def detach(self, value: str) -> None:
        """Something was invalidated: nobody joins the flight any more. Those who have joined are answered."""
        self._flights.pop(value, None)

    def detach_all(self) -> None:
        """Everything was invalidated."""
        self._flights.clear()

    @property
    def loading(self) -> int:
        """Flights under way."""
        return len(self._tasks)

    async def close(self) -> None:
        """Cancel what is under way and give its leases back."""
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._leases.close()

    # the story of a key -------------------------------------------------------------------------------------------

    async def _fly(self, flight: Flight) -> None:
        refusals = polls = 0
        while True:
            token = self._shared.token()
            woken = self.asking.expect(token)
            try:
                asked = moment()
                budget = Budget(self._shared.policy.deadline)
                try:
                    found, heard = await self.asking.ask(flight, token, budget)
                except (RedisError, OSError) as error:
                    if not is_outage(error) or self._shared.policy.on_error == "raise":
                        raise
                    await self._load_without_redis(flight)
                    return
                if found.status is Status.WAIT:
                    polls = 0 if heard else polls + 1
                    if await self._wait(flight, asked, found, woken, polls):
                        return
                    continue
            finally:
                self.asking.forget(token)
            if found.status not in (Status.LOAD, Status.REFRESH):
                await self._settle(flight, asked, found)
                return
            if await self._lead(flight, asked, found, token, budget, last=refusals + 1 == MOST_REFUSALS):
                return
            refusals += 1

    async def _wait(
        self, flight: Flight, asked: int, found: Found, woken: asyncio.Future[bytes | None], polls: int
    ) -> bool:
        """Wait for another process. True when the callers have their answer, False to ask again."""
        if flight.on_wait is not None:
            flight.on_wait()
        # The timer is for a leader that died, and for messages that were lost.
        patience = max(found.left, 1) / 1000 * random.uniform(1.0, 1.1)
        if polls:
            patience = min(patience, random.uniform(0.5, 1) * min(FIRST_POLL * 2**polls, LONGEST_POLL))
        try:
            async with asyncio.timeout(patience):
                payload = await woken
        except TimeoutError:
            return False
        if payload is None or payload[:1] == b"r":
            return False
        if payload[:1] == b"e":
            flight.fail(decode_failure(flight.keys.name, payload[1:]))
        else:
            entry = parse_entry(payload[1:])
            flight.answer(Answer(entry, entry.px or -1, "waited", payload[1:]), asked)
        return True

    async def _settle(self, flight: Flight, asked: int, found: Found) -> None:
        """Answers that need no lease."""
        if found.status is Status.FAILED:
            flight.fail(decode_failure(flight.keys.name, found.found))
        elif found.status is Status.BYPASS:
            began = moment()
            ready = await self._loading.run(flight)
            flight.answer(ready.answer("uncached"), began)
        else:
            flight.answer(found_answer(found), asked)

    async def _load_without_redis(self, flight: Flight) -> None:
        """One load per process and key; nobody can tell what was invalidated meanwhile, so all callers share it."""
        ready = await self._loading.run(flight)
        flight.answer(ready.answer("uncached"), ALWAYS)

    async def _lead(self, flight: Flight, asked: int, found: Found, token: str, budget: Budget, *, last: bool) -> bool:
        """We hold the lease. True when the callers have their answer, False to ask again."""
        old = found_answer(found) if found.status is Status.REFRESH and flight.mode == "load" else None
        timer = self._answer_meanwhile(flight, old, asked) if old is not None else None
        began = moment()
        self._leases.keep(token, flight.keys.lease)
        budget.pause()
        held = True
        try:
            try:
                ready = await self._loading.run(flight)
            except Exception as error:
                budget.resume()
                held = False
                await self._give_up(flight, token, error, budget)
                if old is None:
                    raise
                flight.answer(old, asked)
                return True
            budget.resume()
            # Kept means: not invalidated until then. So those who asked meanwhile may have it as well.
            filled = moment()
            kept = await self._fill(flight, token, ready, budget) if ready.store else False
            held = not ready.store
        finally:
            self._leases.drop(token)
            if timer is not None:
                timer.cancel()
            if held:
                _scripts.post_fail(self._shared.commands, **flight.keys.named, token=token)
        if kept:
            flight.answer(ready.answer("loaded"), filled)
            return True
        if kept is None or last or old is not None or not ready.store:
            flight.answer(ready.answer("uncached"), began)
            return True
        return False

    def _answer_meanwhile(self, flight: Flight, old: Answer, asked: int) -> asyncio.TimerHandle | None:
        """Hand out the old value: at once, or when the new one takes longer than the soft timeout."""
        flight.refreshing = True
        if old.status == "hit" or not self._shared.policy.soft_timeout:
            flight.answer(old, asked)
            return None
        return self._loop.call_later(self._shared.policy.soft_timeout, flight.answer, old, asked)

    async def _fill(self, flight: Flight, token: str, ready: Ready, budget: Budget) -> bool | None:
        """Whether the value is kept; None when Redis did not say."""
        keys, policy = flight.keys, self._shared.policy
        try:
            if ready.times.px > policy.reach(flight.ttl):
                # The loader chose a longer life than the question: the versions must outlive it.
                await self._shared.ask(self._shared.tend(keys.shard, policy.horizon(ready.ttl)))
            kept = await self._shared.ask(
                _scripts.fill(
                    self._shared.commands,
                    **keys.named,
                    token=token,
                    entry=ready.entry_text(token),
                    px=ready.times.px,
                    most=LARGEST_PUSH,
                    deadline=budget.left,
                )
            )
        except (RedisError, OSError) as error:
            if not is_outage(error):
                raise
            return None
        self._shared.counts.refused_fills += not kept
        return kept

    async def _give_up(self, flight: Flight, token: str, error: Exception, budget: Budget) -> None:
        """Tell all who wait elsewhere. Where Redis does not answer, the lease ends by itself."""
        policy, keys = self._shared.policy, flight.keys
        with contextlib.suppress(RedisError, OSError):
            await self._shared.ask(
                _scripts.fail(
                    self._shared.commands,
                    **keys.named,
                    token=token,
                    failure=encode_failure(error),
                    throttle=policy.throttle,
                    error_ttl=policy.error_ttl,
                    deadline=budget.left,
                )
            )


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
