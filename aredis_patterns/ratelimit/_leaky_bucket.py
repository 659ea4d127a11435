"""`LeakyBucketLimiter`: a bucket with a hole, as a meter and as a queue."""

from __future__ import annotations

import asyncio
from typing import Final, Unpack

from aredis_patterns._core.durations import LONGEST, timeout_seconds
from aredis_patterns.exceptions import RateLimitExceeded, RateLimitTimeout
from aredis_patterns.ratelimit._base import check_cost, readable
from aredis_patterns.ratelimit._failure import UNDECIDED
from aredis_patterns.ratelimit._flow import check_flow, flow_of
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._limiter import Limiter
from aredis_patterns.ratelimit._models import LimiterModel
from aredis_patterns.ratelimit._models_flow import LeakyBucketModel
from aredis_patterns.ratelimit._outcomes import LimiterOptions, outcome_of
from aredis_patterns.ratelimit._result import Decision, RateLimitResult
from aredis_patterns.ratelimit._scripts import Numbers, post_queue, queue
from aredis_patterns.ratelimit._turns import Turn, Turns
from aredis_patterns.types import RedisClient, Seconds

__all__ = ["LeakyBucketLimiter"]

_ANY_TIME: Final = int(LONGEST.total_seconds()) * 1_000_000


class LeakyBucketLimiter(Limiter):
    """Units go into a bucket that holds `burst` (without one: `amount`) and leak out evenly, `amount` per period.

    As a meter (`hit`): a request that the bucket still holds may go on at once. Decides as GCRA does; in any time t at
    most burst + amount * t / period units pass, twice the limit in the worst trailing window without a burst.

    As a queue (`acquire`, `shape`): a request that the bucket still holds goes on when what came before has leaked out.
    So requests go on evenly, period / amount apart for each unit, in the order in which they arrived at the server, from
    whichever process; in any time t at most 1 + amount * t / period. `burst` is then the length of the queue. What
    several processes do with their clocks does not matter; a process that is busy is late, and nobody else with it.

    Cost: one round trip, one short string per key (about 100 bytes), gone when the bucket is empty. Complexity O(1).
    Prefer `TokenBucketLimiter` where bursts should pass, this one in front of something that wants an even flow.

        limiter = LeakyBucketLimiter(redis, "10/second burst 100")
        await limiter.acquire("partner-api")  # one goes on each 100 ms; the 101st waits for a place

    Use one key for either way, not for both. Other arguments, verbs and errors: `Limiter`.
    """

    _algorithm = "leaky"
    _any_period = True

    def __init__(self, client: RedisClient, limit: Limit | str, **options: Unpack[LimiterOptions]) -> None:
        super().__init__(client, limit, **options)
        self._turns: Final = Turns(self._leave)

    async def shape(self, key: str | bytes, cost: int = 1, *, max_delay: Seconds | None = None) -> RateLimitResult:
        """Take a place in the queue: go on after `result.delay` seconds. One round trip; does not wait.

        Refused when the queue is full, or when the delay would be above `max_delay`; `retry_after` says when to come
        back. Nothing is charged then.
        """
        patience = timeout_seconds(max_delay, "max_delay")
        entering = self._enter(key, self._full_key(key), _check_unit(cost), patience)
        result, _ = await self._hook.around("shape", entering, lambda answer: outcome_of(answer[0]))
        return result

    async def acquire(self, key: str | bytes, cost: int = 1, timeout: Seconds | None = None) -> RateLimitResult:
        """Take a place in the queue and wait for the turn. One round trip; one timer per key, however many wait.

        In the order of arrival at the server, over all processes. A cancelled waiter leaves its place: those behind it
        in this process move up, and the last place is given back to the server when nobody has come behind it.

        Raises RateLimitExceeded when the cost never fits, RateLimitTimeout at once when the turn would not come within
        `timeout` seconds. When the queue is full, waits for a place in it.
        """
        return await self._hook.around("acquire", self._take_turn(key, cost, timeout), outcome_of)

    async def _take_turn(self, key: str | bytes, cost: int, timeout: Seconds | None) -> RateLimitResult:
        patience = timeout_seconds(timeout)
        full_key = self._full_key(key)
        loop = asyncio.get_running_loop()
        due = None if patience is None else loop.time() + patience
        cost = _check_unit(cost)
        result, turn = await self._enter(key, full_key, cost, patience)
        while not result:
            if result.retry_after is None:
                raise RateLimitExceeded(readable(key), result)
            if due is not None and (result.source != "fail-closed" or loop.time() + result.retry_after > due):
                raise RateLimitTimeout(readable(key), result)
            await asyncio.sleep(result.retry_after)
            result, turn = await self._enter(key, full_key, cost, None if due is None else due - loop.time())
        if turn is not None and not self.shadow:
            await self._turns.wait(full_key, turn)
        return result

    async def _enter(
        self, key: str | bytes, full_key: str, cost: int, patience: float | None
    ) -> tuple[RateLimitResult, Turn | None]:
        outcomes, numbers = self._outcomes, self._default_numbers
        if not outcomes.breaker.may_ask():
            return self._fall_back(key, full_key, self.limit, cost, charge=True), None
        began = asyncio.get_running_loop().time()
        most = _ANY_TIME if patience is None else max(0, int(patience * 1_000_000))
        entering = asyncio.ensure_future(
            queue(
                self._commands,
                state=full_key,
                limit=numbers.limit,
                a=numbers.a,
                b=numbers.b,
                cost=cost,
                patience=most,
                deadline=outcomes.deadline,
            )
        )
        try:
            decision, tail = await asyncio.shield(entering)
        except asyncio.CancelledError:
            entering.add_done_callback(lambda done: self._leave_behind(full_key, cost, done))
            raise
        except UNDECIDED as error:
            outcomes.failed(error)
            return self._fall_back(key, full_key, self.limit, cost, charge=True), None
        self._server_answered()
        return self._placed(key, decision, cost), Turn(began + decision.retry_after / 1_000_000, cost, tail)

    def _placed(self, key: str | bytes, decision: Decision, cost: int) -> RateLimitResult:
        if not decision.allowed:
            return self._outcomes.decided(key, decision, self.limit, cost, charged=True)
        result = self._outcomes.decided(key, decision, self.limit, cost, charged=True)
        return result.with_delay(decision.retry_after / 1_000_000)

    def _leave_behind(self, full_key: str, cost: int, entered: asyncio.Future[tuple[Decision, int]]) -> None:
        """The caller was cancelled while the question was on its way."""
        if not entered.cancelled() and entered.exception() is None:
            decision, tail = entered.result()
            if decision.allowed:
                self._leave(full_key, Turn(0.0, cost, tail))

    def _leave(self, full_key: str, turn: Turn) -> None:
        numbers = self._default_numbers
        post_queue(
            self._commands,
            state=full_key,
            limit=numbers.limit,
            a=numbers.a,
            b=numbers.b,
            cost=turn.cost,
            tail=turn.tail,
        )

    def _check(self, limit: Limit) -> None:
        check_flow(limit)

    def _numbers(self, limit: Limit) -> Numbers:
        return Numbers("backlog", limit.capacity, *flow_of(limit))

    def _model(self, limit: Limit) -> LimiterModel:
        return LeakyBucketModel(limit)


def _check_unit(cost: int) -> int:
    units = check_cost(cost)
    if units == 0:
        raise ValueError("a place in a queue costs at least one unit, got 0")
    return units
