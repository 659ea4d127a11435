"""Who limits: ours, and the libraries that people use, each as its documentation says, each on one server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis

from aredis_patterns import FixedWindowLimiter, PipelinedRedis, SlidingWindowLogLimiter, TokenBucketLimiter

POOL = 50
"""Connections of a blocking pool: with redis-py's default pool, 1000 callers get errors."""

TOKEN_BUCKET = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local capacity, rate, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(capacity, (tonumber(state[1]) or capacity) + (now - (tonumber(state[2]) or now)) * rate)
local allowed = tokens >= cost
if allowed then
  tokens = tokens - cost
  redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', string.format('%.6f', now))
  redis.call('PEXPIRE', KEYS[1], math.ceil(capacity / rate * 1000))
end
return {allowed and 1 or 0, math.floor(tokens)}
"""

Hit = Callable[[str], Awaitable[Any]]
AMPLE = 1_000_000_000
"""Units per day that nobody uses up."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One library: a limit that admits, and one that is used up after the first hit."""

    name: str
    ample: Hit
    scarce: Hit
    callers: tuple[int, ...] = (1, 100, 1000)


async def ours(url: str, stack: AsyncExitStack) -> list[Peer]:
    """The token bucket on a pipelined client; the other algorithms and the deny cache beside it."""
    client = await stack.enter_async_context(PipelinedRedis.from_url(url))
    stock = await stack.enter_async_context(Redis.from_url(url))

    def bucket(amount: int, redis: Redis, **options: Any) -> TokenBucketLimiter:
        return TokenBucketLimiter(redis, f"{amount}/day", name=f"b{amount}", deadline=30, **options)

    cached = bucket(1, client, deny_cache=1000)
    window = FixedWindowLimiter(client, f"{AMPLE}/day", deadline=30)
    log = SlidingWindowLogLimiter(client, "10/hour", deadline=30)
    return [
        Peer("ours", bucket(AMPLE, client).hit, bucket(1, client).hit),
        Peer("ours, stock client", bucket(AMPLE, stock).hit, bucket(1, stock).hit),
        Peer("ours, fixed window", window.hit, FixedWindowLimiter(client, "1/day", name="f1", deadline=30).hit),
        Peer("ours, deny cache", log.hit, cached.hit),
    ]


async def hand_written(url: str, stack: AsyncExitStack) -> list[Peer]:
    """A token bucket in Lua, called with EVALSHA through redis-py, without retries or a failure policy."""
    found: list[Peer] = []
    blocking = Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=POOL))
    plans = [("EVALSHA by hand", Redis.from_url(url), (1, 100)), ("EVALSHA, blocking pool", blocking, (100, 1000))]
    for name, client, callers in plans:
        redis = await stack.enter_async_context(client)
        sha = await redis.script_load(TOKEN_BUCKET)
        found.append(Peer(name, _call(redis, sha, AMPLE), _call(redis, sha, 1), callers))
    return found


def _call(redis: Redis, sha: str, amount: int) -> Hit:
    return lambda key: redis.evalsha(sha, 1, f"hand:{amount}:{key}", amount, amount / 86400, 1)


async def limits(url: str, stack: AsyncExitStack) -> list[Peer]:
    """limits: a fixed window, its fastest strategy."""
    if not find_spec("limits"):
        return []
    from limits import RateLimitItemPerDay
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import FixedWindowRateLimiter

    pool: Any = BlockingConnectionPool.from_url(url, max_connections=POOL)
    storage = RedisStorage(f"async+{url}", implementation="redispy", connection_pool=pool)
    stack.push_async_callback(pool.aclose)
    limiter = FixedWindowRateLimiter(storage)
    ample, scarce = RateLimitItemPerDay(AMPLE), RateLimitItemPerDay(1)
    return [Peer("limits", lambda key: limiter.hit(ample, key), lambda key: limiter.hit(scarce, key))]


async def throttled(url: str, stack: AsyncExitStack) -> list[Peer]:
    """throttled-py: its default algorithm, the token bucket."""
    if not find_spec("throttled"):
        return []
    from throttled.asyncio import RedisStore, Throttled, rate_limiter

    store = RedisStore(server=url, options={"MAX_CONNECTIONS": 2000})

    def make(amount: int) -> Hit:
        quota = rate_limiter.per_day(amount, burst=amount)
        throttle = Throttled(using="token_bucket", quota=quota, store=store, key_prefix=f"t{amount}")
        return lambda key: throttle.limit(key)

    return [Peer("throttled-py", make(AMPLE), make(1))]


async def pyrate(url: str, stack: AsyncExitStack) -> list[Peer]:
    """pyrate-limiter: one bucket object per key, as it asks for."""
    if not find_spec("pyrate_limiter"):
        return []
    from pyrate_limiter import Duration, Limiter, Rate, RedisBucket

    redis = await stack.enter_async_context(Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=POOL)))
    limiters: dict[tuple[int, str], Any] = {}

    def make(amount: int) -> Hit:
        async def hit(key: str) -> Any:
            limiter = limiters.get((amount, key))
            if limiter is None:
                bucket: Any = await RedisBucket.init([Rate(amount, Duration.DAY)], redis, f"p:{amount}:{key}")
                limiter = limiters[amount, key] = Limiter(bucket)
            return await limiter.try_acquire_async(key, blocking=False)

        return hit

    return [Peer("pyrate-limiter", make(100_000), make(1), (1, 100))]
