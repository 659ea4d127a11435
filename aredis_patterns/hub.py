"""`Patterns`: one client, one namespace, one codec, one clean shutdown."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar, Unpack, cast, overload
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import Sentinel

from aredis_patterns._core.codecs import Codec, JSONCodec
from aredis_patterns._core.diagnosis import check_version
from aredis_patterns._core.instrumentation import Instrumentation, instrument
from aredis_patterns._core.script import Script
from aredis_patterns.analytics import (
    ActivityTracker,
    CounterOptions,
    IdIndex,
    IndexOptions,
    TrackerOptions,
    UniqueCounter,
)
from aredis_patterns.caching import Cache, CacheOptions, Expiration
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.leaderboards import BoardOptions, Leaderboard, Trending, TrendOptions
from aredis_patterns.locks import (
    CountDownLatch,
    FencedStore,
    LeaderElection,
    LeaseOptions,
    Lock,
    MultiLock,
    ReadWriteLock,
    Semaphore,
)
from aredis_patterns.locks._runtime import close_locks
from aredis_patterns.monitoring import (
    CommandTap,
    Diagnosis,
    Health,
    HotKeys,
    Inspector,
    KeyScan,
    PatternView,
    doctor,
    health,
    hot_keys,
    pattern_view,
)
from aredis_patterns.monitoring._options import ScanOptions, TapOptions
from aredis_patterns.pipelining import ClientCommands, LaneStatistics, PipelinedRedis, PipelinedRedisCluster, lane_of
from aredis_patterns.pubsub import PubSub, PubSubOptions, Topic, TopicOptions
from aredis_patterns.queues import QueueOptions, ReliableQueue, SimpleQueue, SimpleQueueOptions
from aredis_patterns.ratelimit import (
    ConcurrencyLimiter,
    FixedWindowLimiter,
    GCRALimiter,
    LeakyBucketLimiter,
    Limit,
    Limiter,
    LimiterOptions,
    MultiLimiter,
    SlidingWindowCounterLimiter,
    SlidingWindowLogLimiter,
    TokenBucketLimiter,
)
from aredis_patterns.sessions import SessionOptions, SessionStore
from aredis_patterns.transactions import (
    Batch,
    Optimistic,
    Transfer,
    UserScript,
    compare_and_set,
    increment,
    optimistic,
    transfer,
)
from aredis_patterns.types import Encodable, Key, RedisClient, Seconds

__all__ = ["Patterns"]

M = TypeVar("M")

Algorithm = Literal[
    "fixed_window", "sliding_window_log", "sliding_window_counter", "token_bucket", "gcra", "leaky_bucket"
]

_LIMITERS: dict[str, type[Limiter]] = {
    "fixed_window": FixedWindowLimiter,
    "sliding_window_log": SlidingWindowLogLimiter,
    "sliding_window_counter": SlidingWindowCounterLimiter,
    "token_bucket": TokenBucketLimiter,
    "gcra": GCRALimiter,
    "leaky_bucket": LeakyBucketLimiter,
}


class Patterns:
    """All patterns on one client, under one namespace.

    A client that you pass in stays yours: leaving the block closes what the patterns opened on it, not the client. A
    client that `from_url` made is closed with the hub.

    Args:
        client: any `redis.asyncio` client, stock or pipelined, single server or Cluster.
        namespace: the prefix of every key, so that two applications on one server never meet.
        codec: how values become bytes; JSON by default.
        instrumentation: is told of every operation on this client until the hub is closed, such as
            `contrib.prometheus.PrometheusInstrumentation()`. Without it nothing is measured.

    Example:
        async with Patterns.from_url("redis://localhost") as p:
            limiter = p.rate_limiter("100/minute")
            if not await limiter.hit("user:42"):
                ...
    """

    def __init__(
        self,
        client: RedisClient | None = None,
        *,
        namespace: str = "ap",
        codec: Codec[Any] | None = None,
        instrumentation: Instrumentation | None = None,
    ) -> None:
        if not namespace:
            raise ValueError("namespace must not be empty")
        self.namespace = namespace
        self.codec: Codec[Any] = codec if codec is not None else JSONCodec()
        self._client = client
        self._instrumentation = instrumentation
        self._stop_listening: Callable[[], None] | None = None
        self._listen()
        self._url: str | None = None
        self._options: dict[str, Any] = {}
        self._owned = AsyncExitStack()
        self._made: weakref.WeakSet[_Closable] = weakref.WeakSet()

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        namespace: str = "ap",
        codec: Codec[Any] | None = None,
        instrumentation: Instrumentation | None = None,
        **options: Any,
    ) -> Self:
        """A hub with a pipelined client of its own, made when the block is entered. No I/O here.

        `redis://`, `rediss://` and `unix://` as in redis-py; `redis+cluster://host:port` for a Cluster;
        `redis+sentinel://host:port,host:port/service` for the primary that Sentinel names; `embedded://` for a private
        server that lives as long as the block (needs the extra `embedded`). `options` go to the client.

        Raises ValueError for another scheme.
        """
        scheme = urlsplit(url).scheme
        if scheme not in _SCHEMES:
            raise ValueError(f"unknown scheme {scheme!r} in the URL; use one of {', '.join(sorted(_SCHEMES))}")
        hub = cls(namespace=namespace, codec=codec, instrumentation=instrumentation)
        hub._url = url
        hub._options = options
        return hub

    def __repr__(self) -> str:
        state = "open" if self._client is not None else "not entered"
        return f"<Patterns namespace={self.namespace!r} {state}>"

    @property
    def client(self) -> RedisClient:
        """The client under all patterns. Raises RuntimeError before the block of a hub made by `from_url`."""
        if self._client is None:
            raise RuntimeError("use `async with Patterns.from_url(...) as p:`; the client is made on entering")
        return self._client

    @property
    def commands(self) -> ClientCommands:
        """The shared, ordered commands of the client, for one's own scripts."""
        return lane_of(self.client)

    async def __aenter__(self) -> Self:
        if self._url is not None and self._client is None:
            try:
                self._client = await self._make_client(self._url)
            except BaseException:
                await self._owned.aclose()
                raise
        self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Finish what is under way (a second at most) and close what this hub has opened. Safe to call twice."""
        for each in tuple(self._made):
            await each.aclose()
        if self._client is not None:
            await close_locks(self._client)
            await lane_of(self._client).aclose()
        if self._url is not None:
            self._client = None
        await self._owned.aclose()
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None

    def _listen(self) -> None:
        if self._instrumentation is not None and self._client is not None and self._stop_listening is None:
            self._stop_listening = instrument(self._client, self._instrumentation)

    async def _make_client(self, url: str) -> RedisClient:
        scheme = urlsplit(url).scheme
        if scheme == "embedded":
            server = await self._owned.enter_async_context(EmbeddedServer())
            url = server.url
        client: RedisClient
        if scheme == "redis+cluster":
            client = PipelinedRedisCluster.from_url(url.replace("redis+cluster", "redis", 1), **self._options)
        elif scheme == "redis+sentinel":
            client = self._sentinel_client(url)
        else:
            client = PipelinedRedis.from_url(url, **self._options)
        self._owned.push_async_callback(client.aclose)
        return client

    def _sentinel_client(self, url: str) -> PipelinedRedis:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        service = unquote(parts.path.strip("/").partition("/")[0]) or "mymaster"
        options: dict[str, Any] = dict(parse_qsl(parts.query)) | self._options
        lane_options: dict[str, Any] = {
            name: options.pop(name) for name in ("lanes", "max_in_flight") if name in options
        }
        if parts.netloc.count("@"):
            user, _, password = parts.netloc.rpartition("@")[0].partition(":")
            options |= {"username": unquote(user) or None, "password": unquote(password) or None}
        sentinel = Sentinel([_address(host) for host in hosts], **options)
        self._owned.push_async_callback(_close_all, sentinel)
        client = cast(PipelinedRedis, sentinel.master_for(service, redis_class=PipelinedRedis))
        client.lane_options.update(lane_options)
        return client

    async def ping(self) -> float:
        """Seconds for one round trip; checks the server's version the first time.

        Raises ServerUnavailable, WrongPassword or ServerTooOld with what to do about it.
        """
        start = time.perf_counter()
        await self.commands.call("PING")
        elapsed = time.perf_counter() - start
        check_version(_info(await self.commands.call("INFO", "server")))
        return elapsed

    async def server_name(self) -> str:
        """What the server says it is: "Valkey 9.0.1", "Redis 7.0.15". One round trip."""
        info = _info(await self.commands.call("INFO", "server"))
        if "valkey_version" in info:
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info.get('redis_version', 'of unknown version')}"

    @overload
    def cache(self, name: str, *, ttl: Seconds | None, **options: Unpack[CacheOptions]) -> Cache[Any]: ...
    @overload
    def cache(self, name: str, *, ttl: Seconds | None, model: type[M], **options: Unpack[CacheOptions]) -> Cache[M]: ...
    def cache(
        self, name: str, *, ttl: Seconds | None, model: Any = None, **options: Unpack[CacheOptions]
    ) -> Cache[Any]:
        """A cache on this client: `p.cache("users", ttl=300, model=User)`. Closed with the hub."""
        options.setdefault("namespace", self.namespace)
        if model is None:
            options.setdefault("codec", self.codec)
        made: Cache[Any] = Cache(self.client, name, ttl=ttl, model=model, **options)
        self._made.add(made)
        return made

    def expiration(self) -> Expiration:
        """TTL helpers on this client, for keys of your own."""
        return Expiration(self.client)

    def lock(self, key: Key, *, fair: bool = False, min_replicas: int = 0, **options: Unpack[LeaseOptions]) -> Lock:
        """A lock on this client: `async with p.lock("invoice:42") as lease:`. `options` are those of `Lock`."""
        options.setdefault("namespace", self.namespace)
        return Lock(self.client, key, fair=fair, min_replicas=min_replicas, **options)

    def multi_lock(self, keys: Iterable[Key], **options: Unpack[LeaseOptions]) -> MultiLock:
        """Several locks at once, all or none: `async with p.multi_lock(["account:1", "account:2"]):`."""
        options.setdefault("namespace", self.namespace)
        return MultiLock(self.client, keys, **options)

    def read_write_lock(self, key: Key, **options: Unpack[LeaseOptions]) -> ReadWriteLock:
        """Many read or one writes: `async with p.read_write_lock("rates").read():`."""
        options.setdefault("namespace", self.namespace)
        return ReadWriteLock(self.client, key, **options)

    def semaphore(self, key: Key, limit: int, *, weight: int = 1, **options: Unpack[LeaseOptions]) -> Semaphore:
        """So many at a time: `async with p.semaphore("reports", 3):`."""
        options.setdefault("namespace", self.namespace)
        return Semaphore(self.client, key, limit, weight=weight, **options)

    def leader_election(self, key: Key, *, candidate: str = "", **options: Unpack[LeaseOptions]) -> LeaderElection:
        """One leader among many: `async with p.leader_election("scheduler") as term:`."""
        options.setdefault("namespace", self.namespace)
        return LeaderElection(self.client, key, candidate=candidate, **options)

    def count_down_latch(self, key: Key, count: int, *, ttl: Seconds = 86_400.0) -> CountDownLatch:
        """Opens when so many have arrived: `await p.count_down_latch("import:7", 3).wait()`."""
        return CountDownLatch(self.client, key, count, ttl=ttl, namespace=self.namespace)

    def fenced_store(self, key: Key, *, ttl: Seconds | None = None) -> FencedStore[Any]:
        """A value that refuses writers whose lock was lost: `await store.set(value, fence=lease.fencing_token)`."""
        return FencedStore(self.client, key, codec=self.codec, ttl=ttl, namespace=self.namespace)

    def pubsub(self, **options: Unpack[PubSubOptions]) -> PubSub[Any]:
        """Publish and subscribe on this client. `options` are those of `PubSub`; it is closed with the hub."""
        options.setdefault("codec", self.codec)
        made: PubSub[Any] = PubSub(self.client, namespace=self.namespace, **options)
        self._made.add(made)
        return made

    def topic(self, name: str | bytes, **options: Unpack[TopicOptions]) -> Topic[Any]:
        """A topic on this client, whose messages are kept. `options` are those of `Topic`."""
        options.setdefault("codec", self.codec)
        return Topic(self.client, name, namespace=self.namespace, **options)

    def rate_limiter(
        self, limit: Limit | str, *, algorithm: Algorithm = "token_bucket", **options: Unpack[LimiterOptions]
    ) -> Limiter:
        """A limiter on this client: `p.rate_limiter("100/minute burst 20")`. `options` are those of `Limiter`."""
        options.setdefault("namespace", self.namespace)
        return _LIMITERS[algorithm](self.client, limit, **options)

    def multi_limiter(
        self,
        limits: Mapping[str, Limit | str | Limiter],
        *,
        tag_by: str | None = None,
        **options: Unpack[LimiterOptions],
    ) -> MultiLimiter:
        """Several limits, all or none: `p.multi_limiter({"user": "100/minute", "org": "1000/minute"})`."""
        options.setdefault("namespace", self.namespace)
        return MultiLimiter(self.client, limits, tag_by=tag_by, **options)

    def concurrency_limiter(
        self, limit: int, *, lease: Seconds = 30.0, name: str = "default", deadline: Seconds = 1.0
    ) -> ConcurrencyLimiter:
        """At most `limit` holders of a key at once: `async with p.concurrency_limiter(4).hold("org:acme"):`."""
        return ConcurrencyLimiter(
            self.client, limit, lease=lease, namespace=self.namespace, name=name, deadline=deadline
        )

    def leaderboard(self, name: str, **options: Unpack[BoardOptions]) -> Leaderboard[str]:
        """A board on this client: `p.leaderboard("chess", ties="first")`. For other members than str: `Leaderboard`."""
        options.setdefault("namespace", self.namespace)
        return Leaderboard(self.client, name, **options)

    def unique_counter(self, name: str, *, retention: Seconds, **options: Unpack[CounterOptions]) -> UniqueCounter:
        """Different visitors per page and day: `p.unique_counter("site", retention=timedelta(days=40))`."""
        options.setdefault("namespace", self.namespace)
        return UniqueCounter(self.client, name, retention=retention, **options)

    def activity(self, name: str, *, retention: Seconds, **options: Unpack[TrackerOptions]) -> ActivityTracker:
        """Who was active when: `p.activity("shop", retention=timedelta(days=90))`."""
        options.setdefault("namespace", self.namespace)
        return ActivityTracker(self.client, name, retention=retention, **options)

    def id_index(self, name: str, **options: Unpack[IndexOptions]) -> IdIndex[str]:
        """Dense numbers for names: `p.id_index("users")`. For UUIDs: `IdIndex(client, name, names=UUID)`."""
        options.setdefault("namespace", self.namespace)
        return IdIndex(self.client, name, **options)

    def trending(self, name: str, **options: Unpack[TrendOptions]) -> Trending[str]:
        """What is popular now: `p.trending("articles", half_life=3600)`."""
        options.setdefault("namespace", self.namespace)
        return Trending(self.client, name, **options)

    def queue(self, name: str, **options: Unpack[QueueOptions]) -> ReliableQueue[Any]:
        """A reliable queue on this client: `p.queue("mails", lease=10)`. Closed with the hub."""
        options.setdefault("namespace", self.namespace)
        options.setdefault("codec", self.codec)
        queue: ReliableQueue[Any] = ReliableQueue(self.client, name, **options)
        self._made.add(queue)
        return queue

    def simple_queue(self, name: str, **options: Unpack[SimpleQueueOptions]) -> SimpleQueue[Any]:
        """A simple queue on this client. Closed with the hub."""
        options.setdefault("namespace", self.namespace)
        options.setdefault("codec", self.codec)
        queue: SimpleQueue[Any] = SimpleQueue(self.client, name, **options)
        self._made.add(queue)
        return queue

    @overload
    def sessions(self, **options: Unpack[SessionOptions]) -> SessionStore[dict[str, Any]]: ...
    @overload
    def sessions(self, *, model: type[M], **options: Unpack[SessionOptions]) -> SessionStore[M]: ...
    def sessions(self, *, model: Any = None, **options: Unpack[SessionOptions]) -> SessionStore[Any]:
        """Sessions on this client: `p.sessions(idle_timeout=1800, max_per_user=5)`."""
        options.setdefault("namespace", self.namespace)
        return SessionStore(self.client, model=model, **options)

    def optimistic(self, *keys: Key, attempts: int = 10, timeout: Seconds | None = 2.0) -> Optimistic:
        """A transaction that commits only if none of these keys has changed: `await p.optimistic("a", "b").run(body)`."""
        return optimistic(self.client, *keys, attempts=attempts, timeout=timeout, namespace=self.namespace)

    async def transfer(
        self, source: Key, destination: Key, amount: int, *, operation_id: str | None = None
    ) -> Transfer:
        """Move an amount between two integer balances, exactly once. See `transactions.transfer`."""
        return await transfer(
            self.client, source, destination, amount, operation_id=operation_id, namespace=self.namespace
        )

    async def increment(
        self, key: Key, amount: int = 1, *, ttl: Seconds | None = None, operation_id: str | None = None
    ) -> int:
        """Add to a counter exactly once. See `transactions.increment`."""
        return await increment(self.client, key, amount, ttl=ttl, operation_id=operation_id, namespace=self.namespace)

    async def compare_and_set(
        self,
        key: Key,
        expected: Encodable | None,
        new: Encodable | None,
        *,
        ttl: Seconds | Literal["keep"] | None = None,
    ) -> bool:
        """Set a string to `new` if it is `expected`. See `transactions.compare_and_set`."""
        return await compare_and_set(self.client, key, expected, new, ttl=ttl, namespace=self.namespace)

    def batch(
        self,
        *,
        max_commands: int = 1000,
        max_bytes: int = 1024 * 1024,
        on_error: Literal["raise", "collect"] = "raise",
        progress: Callable[[int], None] | None = None,
    ) -> Batch:
        """Many commands in few round trips, every one accounted for: `await p.batch().run(commands)`."""
        return Batch(self.client, max_commands=max_commands, max_bytes=max_bytes, on_error=on_error, progress=progress)

    def script(self, source: str | PathLike[str] | Script, *, as_function: bool = False) -> UserScript[Any]:
        """A Lua file that is called like a function: `await p.script("lua/add.lua")(keys=["n"], args=[1])`."""
        return UserScript(self.client, source, as_function=as_function)

    def inspector(self, *, deadline: Seconds = 5.0) -> Inspector:
        """What the servers say of themselves: `(await p.inspector().memory()).used`."""
        return Inspector(self.client, deadline=deadline)

    def command_tap(self, **options: Unpack[TapOptions]) -> CommandTap:
        """What the servers execute, for a short while: `async with p.command_tap(duration=5) as tap: ...`."""
        return CommandTap(self.client, **options)

    def key_scan(self, *, match: Key | None = None, **options: Unpack[ScanOptions]) -> KeyScan:
        """Big keys and groups of keys of this namespace: `await p.key_scan().run()`. `match="*"` looks at all keys."""
        escaped = "".join(f"\\{letter}" if letter in r"*?[]\^" else letter for letter in self.namespace)
        return KeyScan(self.client, match=f"{escaped}:*" if match is None else match, **options)

    async def hot_keys(self, *, duration: Seconds = 10.0, limit: int = 20) -> HotKeys:
        """The keys that are used most: `(await p.hot_keys(duration=5)).keys`."""
        return await hot_keys(self.client, duration=duration, limit=limit)

    async def pattern_view(self, *, max_keys: int = 20_000) -> PatternView:
        """Locks held and waited for, queue depths and ages, of this namespace."""
        return await pattern_view(self.client, namespace=self.namespace, max_keys=max_keys)

    async def health(self, *, deadline: Seconds = 1.0, writes: bool = True) -> Health:
        """Whether the servers can serve, for a readiness probe. One round trip."""
        return await health(self.client, deadline=deadline, writes=writes)

    async def doctor(self, *, max_keys: int = 20_000) -> Diagnosis:
        """What is wrong with the servers, and what to do about it."""
        return await doctor(self.client, namespace=self.namespace, max_keys=max_keys)

    def statistics(self) -> LaneStatistics:
        """What the wire has done in this event loop so far."""
        return self.commands.statistics()


class _Closable(Protocol):
    async def aclose(self) -> None: ...


_SCHEMES = {"redis", "rediss", "unix", "embedded", "redis+cluster", "redis+sentinel"}


def _address(host: str) -> tuple[str, int]:
    name, _, port = host.rpartition(":")
    return (name, int(port)) if name else (host, 26379)


async def _close_all(sentinel: Sentinel) -> None:
    for client in sentinel.sentinels:
        await client.aclose()


def _info(reply: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in reply.decode().splitlines())
    return {name: value for name, colon, value in lines if colon}
