"""What all limiters are made of: how one decision is asked for, and who answers when the server cannot.

`Limiter` adds the verbs; an algorithm adds its checks of a limit, its numbers for the script, and its model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final, Unpack

from redis.asyncio import RedisCluster

from aredis_patterns._core.instrumentation import hook_of
from aredis_patterns.pipelining import lane_of
from aredis_patterns.ratelimit._deny_cache import DenyCache
from aredis_patterns.ratelimit._failure import UNDECIDED, LocalLimits
from aredis_patterns.ratelimit._keys import Algorithm, limiter_keys, notes_key
from aredis_patterns.ratelimit._limit import Limit
from aredis_patterns.ratelimit._models import LimiterModel
from aredis_patterns.ratelimit._outcomes import LimiterOptions, Outcomes
from aredis_patterns.ratelimit._result import RateLimitResult
from aredis_patterns.ratelimit._scripts import Numbers, post_adjust
from aredis_patterns.ratelimit._sender import Abandoned, Sender
from aredis_patterns.types import Commands, RedisClient

__all__ = ["LimiterBase", "check_cost", "check_count", "readable"]

KEYS_KEPT: Final = 4096
"""Full keys remembered, so that escaping a name is paid once."""


MOST_UNITS: Final = 2**52
"""Far above any limit, and a number that Lua holds exactly."""


class LimiterBase(ABC):
    """One limit, one client, one algorithm."""

    _algorithm: ClassVar[Algorithm]
    _any_period: ClassVar[bool] = False
    """Whether a limit of another period can judge what is stored."""

    def __init__(self, client: RedisClient, limit: Limit | str, **options: Unpack[LimiterOptions]) -> None:
        outcomes = Outcomes(options)
        self._outcomes: Final = outcomes
        self._hook: Final = hook_of(client, "ratelimit")
        self._keys: Final = limiter_keys(options.get("namespace", "ap"), self._algorithm, outcomes.name)
        self._full_keys: dict[str | bytes, str] = {}
        self._commands: Final[Commands] = lane_of(client)
        self._sender: Final = Sender(self._commands, outcomes.deadline, gathers=not isinstance(client, RedisCluster))
        self._denials: Final = _deny_cache(options.get("deny_cache", 0))
        self._instances: Final = check_count(options.get("instances", 1), "instances", 1)
        self._local: Final = LocalLimits(self._model, self._instances) if outcomes.on_error == "local" else None
        self.limit: Final = self._accept(limit)
        self._default_numbers: Final = self._numbers(self.limit)

    # what an algorithm adds -------------------------------------------------------------------------------------------

    @abstractmethod
    def _check(self, limit: Limit) -> None:
        """Raise ValueError for a limit that this algorithm cannot keep."""

    @abstractmethod
    def _numbers(self, limit: Limit) -> Numbers:
        """The limit as the script takes it."""

    @abstractmethod
    def _model(self, limit: Limit) -> LimiterModel:
        """The algorithm in Python."""

    # inside -----------------------------------------------------------------------------------------------------------

    async def _hit(
        self, key: str | bytes, cost: int, limit: Limit | str | None, on_abandoned: Abandoned | None
    ) -> RateLimitResult:
        if type(cost) is not int or not 0 < cost <= MOST_UNITS:
            cost = check_cost(cost)
            if cost == 0:
                return await self._peek(key, cost, limit)
        chosen, numbers = (self.limit, self._default_numbers) if limit is None else self._chosen(limit)
        full_key = self._full_keys.get(key) or self._full_key(key)
        outcomes, denials = self._outcomes, self._denials
        asked_at = 0.0
        if denials is not None:
            if found := denials.find(full_key, cost, chosen):
                return outcomes.denied(*found, cost)
            asked_at = denials.now()
        if outcomes.breaker.open and not outcomes.breaker.may_ask():
            return self._fall_back(key, full_key, chosen, cost, charge=True)
        try:
            if on_abandoned is not None:
                answer = await self._sender.hit_or_give_back(numbers, full_key, cost, on_abandoned)
            else:
                answer = await self._sender.hit(numbers, full_key, cost)
        except UNDECIDED as error:
            outcomes.failed(error)
            return self._fall_back(key, full_key, chosen, cost, charge=True)
        if outcomes.breaker.failures:
            self._server_is_back()
        if denials is not None and not answer[0] and answer[2] > 0:
            denials.remember(full_key, asked_at, cost, chosen, answer)
        return outcomes.decided(key, answer, chosen, cost, charged=True)

    async def _peek(self, key: str | bytes, cost: int, limit: Limit | str | None) -> RateLimitResult:
        cost = check_cost(cost)
        chosen, numbers = self._chosen(limit)
        full_key = self._full_key(key)
        if not self._outcomes.breaker.may_ask():
            return self._fall_back(key, full_key, chosen, cost, charge=False)
        try:
            answer = await self._sender.look(numbers, full_key, cost)
        except UNDECIDED as error:
            self._outcomes.failed(error)
            return self._fall_back(key, full_key, chosen, cost, charge=False)
        if self._outcomes.breaker.failures:  # a replica can answer this, too: what was counted here is kept
            self._outcomes.breaker.succeeded()
        return self._outcomes.decided(key, answer, chosen, cost, charged=False)

    def _fall_back(self, key: str | bytes, full_key: str, limit: Limit, cost: int, *, charge: bool) -> RateLimitResult:
        if self._local is None:
            return self._outcomes.by_policy(limit, cost)
        self._outcomes.decided_locally += charge
        answer = self._local.decide(full_key, cost, limit, charge=charge)
        return self._outcomes.decided(key, answer, limit, cost, charged=charge, source="local")

    def _server_answered(self) -> None:
        """The breaker hears of it, or stays open. `_hit` is spared this call."""
        if self._outcomes.breaker.failures:
            self._server_is_back()

    def _server_is_back(self) -> None:
        self._outcomes.breaker.succeeded()
        if self._local is not None:
            self._local.clear()

    async def _ask_in_line(self, full_key: str, costs: Sequence[int]) -> list[RateLimitResult | BaseException]:
        """For the waiting room: several hits on one key; after a refusal nobody behind it is let through."""
        if not self._outcomes.breaker.may_ask():
            return [self._fall_back(full_key, full_key, self.limit, cost, charge=True) for cost in costs]
        answers = await self._sender.hit_together(self._default_numbers, [full_key] * len(costs), costs, in_line=True)
        results: list[RateLimitResult | BaseException] = []
        for cost, answer in zip(costs, answers, strict=True):
            if not isinstance(answer, BaseException):
                self._server_answered()
                results.append(self._outcomes.decided(full_key, answer, self.limit, cost, charged=True))
                continue
            try:
                if not isinstance(answer, UNDECIDED):
                    raise answer
                self._outcomes.failed(answer)
                results.append(self._fall_back(full_key, full_key, self.limit, cost, charge=True))
            except Exception as error:
                results.append(error)
        return results

    def _unanswered(self, cost: int) -> RateLimitResult:
        return RateLimitResult(
            False, self.limit, 0, 0.0, 0.0, cost, "redis", (self._outcomes.name,), self._outcomes.name
        )

    def _give_back(self, full_key: str, cost: int) -> None:
        """Units that were charged for somebody who has gone. Cannot be cancelled."""
        post_adjust(self._commands, state=full_key, numbers=self._default_numbers, units=-cost)

    def _forget_locally(self, full_key: str) -> None:
        """Something has been given back: what this process remembers of the key may not hold any more."""
        if self._denials is not None:
            self._denials.drop(full_key)
        if self._local is not None:
            self._local.forget(full_key)

    @abstractmethod
    def _waiting_changed(self, full_key: str) -> None:
        """Something has been given back: those who wait may look again."""

    def _chosen(self, limit: Limit | str | None) -> tuple[Limit, Numbers]:
        if limit is None:
            return self.limit, self._default_numbers
        chosen = self._accept(limit)
        if chosen.period_us != self.limit.period_us and not self._any_period:
            # What is counted in one window cannot be judged by another: a short one would wipe the count of a long one.
            raise ValueError(f"limit= may change how much, not the period of {str(self.limit)!r}, got {str(chosen)!r}")
        return chosen, self._numbers(chosen)

    def _accept(self, limit: Limit | str) -> Limit:
        accepted = Limit.parse(limit) if isinstance(limit, str) else limit
        if not isinstance(accepted, Limit):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f'limit is a Limit or text such as "100/minute", got {limit!r}')
        self._check(accepted)
        return accepted

    def _full_key(self, key: str | bytes) -> str:
        full_key = self._full_keys.get(key)
        if full_key is None:
            full_key = self._keys.key(key)
            if len(self._full_keys) >= KEYS_KEPT:
                self._full_keys.clear()
            self._full_keys[key] = full_key
        return full_key

    def _notes_key(self, key: str | bytes) -> str:
        return notes_key(self._keys, key)


def check_cost(cost: object) -> int:
    """The cost as a plain int, or a ValueError. What no limit can hold stands for everything above it."""
    if isinstance(cost, bool) or not isinstance(cost, int) or cost < 0:
        raise ValueError(f"cost is a whole number of units, 0 or more, got {cost!r}")
    return min(int(cost), MOST_UNITS)


def check_count(value: object, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is a whole number, {least} or more, got {value!r}")
    return value


def _deny_cache(most: int) -> DenyCache | None:
    return DenyCache(most) if check_count(most, "deny_cache", 0) else None


def readable(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.decode("utf-8", "backslashreplace")
