"""`MultiLimiter`: several limits at once, all or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, Unpack

from redis.asyncio import RedisCluster

from aredis_patterns._core.instrumentation import hook_of
from aredis_patterns.exceptions import RateLimitExceeded
from aredis_patterns.pipelining import lane_of
from aredis_patterns.ratelimit._base import check_cost, readable
from aredis_patterns.ratelimit._failure import UNDECIDED
from aredis_patterns.ratelimit._keys import shared_key
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._limiter import Limiter
from aredis_patterns.ratelimit._outcomes import LimiterOptions, LimiterStatistics, Outcomes, outcome_of
from aredis_patterns.ratelimit._result import Decision, RateLimitResult
from aredis_patterns.ratelimit._scripts import adjust, hit_all
from aredis_patterns.ratelimit._token_bucket import TokenBucketLimiter
from aredis_patterns.types import Key, RedisClient

__all__ = ["MultiLimiter"]

KeysOf: TypeAlias = Key | Mapping[str, Key]
CostsOf: TypeAlias = int | Mapping[str, int]


class MultiLimiter:
    """Several limits, on keys, algorithms and costs of their own, decided together: all are charged, or none.

        limits = MultiLimiter(redis, {
            "requests": "60/minute",
            "tokens": "90000/minute",
            "organisation": SlidingWindowLogLimiter(redis, "1000/hour", name="organisation"),
        })
        keys = {"requests": "user:1", "tokens": "user:1", "organisation": "acme"}
        result = await limits.hit(keys, {"requests": 1, "tokens": 850, "organisation": 1})
        result.violated  # ("tokens",): what refused

    One round trip, one script: a request that the organisation refuses does not cost the user anything. The guarantee,
    the worst case and the memory of each limit are those of its limiter.

    Args:
        client: any `redis.asyncio` client. It is never closed here.
        limits: by name, a `Limit` or its text for a token bucket, or a limiter of any algorithm, with which the counts
            are then shared. 1 to 16.
        tag_by: the name of the limit whose key is the hash tag of all. A Cluster needs it, because one script can only
            use keys of one slot: all limits of one organisation then live together. The counts are then shared with no
            limiter, and a user's count is one for each organisation.
        options: `namespace`, `name`, `deadline`, `on_error` ("raise", "open", "closed"), `shadow`, as for `Limiter`.

    ValueError for a Cluster without `tag_by`, and for anything else that cannot work.
    """

    def __init__(
        self,
        client: RedisClient,
        limits: Mapping[str, Limit | str | Limiter],
        *,
        tag_by: str | None = None,
        **options: Unpack[LimiterOptions],
    ) -> None:
        if not 1 <= len(limits) <= 16:
            raise ValueError(f"a MultiLimiter takes 1 to 16 limits, got {len(limits)}")
        if options.get("on_error") == "local":
            raise ValueError('a MultiLimiter cannot decide alone: on_error is "raise", "open" or "closed", got "local"')
        if isinstance(client, RedisCluster) and tag_by is None:
            raise ValueError(
                "in a Cluster the keys of all limits must share a slot: say which key they belong to, "
                f"MultiLimiter(..., tag_by={next(iter(limits))!r})"
            )
        if tag_by is not None and tag_by not in limits:
            raise ValueError(f"tag_by names one of the limits {', '.join(limits)}, got {tag_by!r}")
        self._outcomes: Final = Outcomes(options, default_name="multi")
        self._hook: Final = hook_of(client, "ratelimit")
        self._commands: Final = lane_of(client)
        self._tag_by: Final = tag_by
        self.limiters: Final[Mapping[str, Limiter]] = {
            name: _limiter(client, name, limit, options) for name, limit in limits.items()
        }
        """Each limit by its name; `peek` or `reset` one of them alone."""

    async def hit(self, keys: KeysOf, cost: CostsOf = 1) -> RateLimitResult:
        """Charge all limits if each fits; otherwise none. One round trip; never raises because of a refusal.

        `keys`: one key for each limit by its name, or one for all. `cost`: likewise; a limit without a cost is charged
        nothing. The result has the answer of each in `parts`; `violated` names those that refused, `retry_after` is the
        longest of theirs, `limit` and `remaining` are those of the closest.
        """
        return await self._hook.around("hit_all", self._ask(keys, cost, charge=True), outcome_of)

    async def peek(self, keys: KeysOf, cost: CostsOf = 1) -> RateLimitResult:
        """What `hit` would say. One round trip; charges nothing."""
        return await self._hook.around("peek_all", self._ask(keys, cost, charge=False), outcome_of)

    async def require(self, keys: KeysOf, cost: CostsOf = 1) -> RateLimitResult:
        """`hit`, but a refusal raises RateLimitExceeded, which carries the result."""
        result = await self.hit(keys, cost)
        if not result:
            raise RateLimitExceeded(_names(keys), result)
        return result

    async def refund(self, keys: KeysOf, cost: CostsOf = 1) -> None:
        """Give back to each limit. One round trip for each, in order; Redis errors are raised."""
        for name, state, units in self._requests(keys, cost):
            if units:
                numbers = self.limiters[name]._default_numbers
                algorithm, limit, a, b = numbers
                try:
                    await adjust(
                        self._commands,
                        state=state,
                        algorithm=algorithm,
                        limit=limit,
                        a=a,
                        b=b,
                        units=-units,
                        deadline=self._outcomes.deadline,
                    )
                finally:
                    self._given_back(name, state)

    async def reset(self, keys: KeysOf) -> None:
        """Forget what was counted, in all limits. One round trip; Redis errors are raised."""
        states = [state for _, state, _ in self._requests(keys, 1)]
        try:
            await self._commands.call("UNLINK", *states, key=states[0], deadline=self._outcomes.deadline)
        finally:
            for name, state, _ in self._requests(keys, 1):
                self._given_back(name, state)

    def _given_back(self, name: str, state: str) -> None:
        """Whether it was or is not known: what this process remembers may be wrong now, and waiters may fit."""
        self.limiters[name]._forget_locally(state)
        self.limiters[name]._waiting_changed(state)

    @property
    def name(self) -> str:
        """The name in metrics."""
        return self._outcomes.name

    def statistics(self) -> LimiterStatistics:
        """A snapshot of what this object has answered."""
        return self._outcomes.statistics()

    def __repr__(self) -> str:
        limits = ", ".join(f"{name}: {limiter.limit}" for name, limiter in self.limiters.items())
        return f"<MultiLimiter {self.name!r} {limits}>"

    async def _ask(self, keys: KeysOf, cost: CostsOf, *, charge: bool) -> RateLimitResult:
        requests = self._requests(keys, cost)
        outcomes = self._outcomes
        closest = min((self.limiters[name].limit for name, _, _ in requests), key=lambda limit: limit.amount)
        if not outcomes.breaker.may_ask():
            return outcomes.by_policy(closest, max(units for _, _, units in requests))
        try:
            answers = await hit_all(
                self._commands,
                states=[state for _, state, _ in requests],
                charge=charge,
                requests=[(self.limiters[name]._default_numbers, units) for name, _, units in requests],
                deadline=outcomes.deadline,
            )
        except UNDECIDED as error:
            outcomes.failed(error)
            return outcomes.by_policy(closest, max(units for _, _, units in requests))
        outcomes.breaker.succeeded()
        return self._together(requests, answers, charge=charge)

    def _together(
        self, requests: Sequence[tuple[str, str, int]], answers: Sequence[Decision], *, charge: bool
    ) -> RateLimitResult:
        parts = tuple(
            _part(name, self.limiters[name].limit, units, answer)
            for (name, _, units), answer in zip(requests, answers, strict=True)
        )
        violated = tuple(part.policy for part in parts if not part)
        waits = [part.retry_after for part in parts if not part]
        closest = min(parts, key=lambda part: (part.allowed, part.remaining / part.limit.capacity))
        shadow = self._outcomes.shadow
        if charge:
            self._outcomes.allowed += not violated or shadow
            self._outcomes.shadowed += bool(violated) and shadow
            self._outcomes.refused += bool(violated) and not shadow
        known = [wait for wait in waits if wait is not None]
        return RateLimitResult(
            allowed=not violated or shadow,
            limit=closest.limit,
            remaining=closest.remaining,
            retry_after=None if len(known) < len(waits) else max(known, default=0.0),
            reset_after=max(part.reset_after for part in parts),
            cost=closest.cost,
            violated=violated,
            policy=closest.policy,
            parts=parts,
        )

    def _requests(self, keys: KeysOf, cost: CostsOf) -> list[tuple[str, str, int]]:
        """For each limit its name, its full key and its cost."""
        by_name = keys if isinstance(keys, Mapping) else dict.fromkeys(self.limiters, keys)
        costs = cost if isinstance(cost, Mapping) else dict.fromkeys(self.limiters, cost)
        if by_name.keys() != self.limiters.keys():
            raise ValueError(f"keys are needed for {', '.join(self.limiters)}, got {', '.join(by_name)}")
        if unknown := costs.keys() - self.limiters.keys():
            raise ValueError(f"there is no limit {', '.join(sorted(unknown))}, only {', '.join(self.limiters)}")
        requests = [(name, self._state(name, by_name), check_cost(costs.get(name, 0))) for name in self.limiters]
        if len({state for _, state, _ in requests}) < len(requests):
            raise ValueError("two of the limits count on one key: give their limiters different names")
        return requests

    def _state(self, name: str, keys: Mapping[str, Key]) -> str:
        limiter = self.limiters[name]
        if self._tag_by is None:
            return limiter._full_key(keys[name])
        return shared_key(limiter._keys, keys[self._tag_by], name, keys[name])


def _limiter(client: RedisClient, name: str, limit: Limit | str | Limiter, options: LimiterOptions) -> Limiter:
    if isinstance(limit, Limiter):
        return limit
    return TokenBucketLimiter(client, limit, name=name, namespace=options.get("namespace", "ap"))


def _part(name: str, limit: Limit, cost: int, answer: Decision) -> RateLimitResult:
    return RateLimitResult(
        allowed=bool(answer.allowed),
        limit=limit,
        remaining=answer.remaining,
        retry_after=None if answer.retry_after < 0 else answer.retry_after / 1_000_000,
        reset_after=answer.reset_after / 1_000_000,
        cost=cost,
        violated=() if answer.allowed else (name,),
        policy=name,
    )


def _names(keys: KeysOf) -> str:
    if isinstance(keys, Mapping):
        return ", ".join(readable(key) for key in keys.values())
    return readable(keys)
