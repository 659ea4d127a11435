"""Redis patterns for asyncio services that stay correct under concurrency, cancellation and lost replies."""

from aredis_patterns._core.codecs import Codec, JSONCodec, PickleCodec, RawCodec
from aredis_patterns._core.instrumentation import Instrumentation, Kind, SpanInstrumentation, instrument
from aredis_patterns._core.keys import Keyspace
from aredis_patterns._core.script import Script
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import (
    CodecError,
    DecodeError,
    EmbeddedServerError,
    EncodeError,
    OutcomeUnknown,
    PatternError,
    PermissionDenied,
    RateLimitExceeded,
    ReadOnlyServer,
    ReplyTimeout,
    ScriptContractError,
    ScriptsDenied,
    ServerOutOfMemory,
    ServerRefused,
    ServerTooOld,
    ServerUnavailable,
    UnsupportedPlatform,
    WireClosed,
    WrongPassword,
)
from aredis_patterns.hub import Patterns
from aredis_patterns.pipelining import (
    ClientCommands,
    Inbox,
    LaneStatistics,
    Listener,
    ListenerStatistics,
    ListenerSubscription,
    PipelinedRedis,
    PipelinedRedisCluster,
    inbox_of,
    lane_of,
    listener_of,
)
from aredis_patterns.ratelimit import (
    FixedWindowLimiter,
    Limit,
    Limiter,
    LimiterStatistics,
    RateLimitResult,
    SlidingWindowLogLimiter,
    TokenBucketLimiter,
)
from aredis_patterns.types import Commands, RedisClient, Seconds

# ruff: noqa: RUF022 - grouped by family, for the reader
__all__ = [
    # the hub and the wire
    "Patterns",
    "PipelinedRedis",
    "PipelinedRedisCluster",
    "lane_of",
    "listener_of",
    "inbox_of",
    "ClientCommands",
    "Inbox",
    "LaneStatistics",
    "Listener",
    "ListenerStatistics",
    "ListenerSubscription",
    # rate limiting
    "FixedWindowLimiter",
    "Limit",
    "Limiter",
    "LimiterStatistics",
    "RateLimitResult",
    "SlidingWindowLogLimiter",
    "TokenBucketLimiter",
    # metrics and traces
    "Instrumentation",
    "Kind",
    "SpanInstrumentation",
    "instrument",
    # building blocks
    "Codec",
    "Commands",
    "EmbeddedServer",
    "JSONCodec",
    "Keyspace",
    "PickleCodec",
    "RawCodec",
    "RedisClient",
    "Script",
    "Seconds",
    # errors
    "CodecError",
    "DecodeError",
    "EmbeddedServerError",
    "EncodeError",
    "OutcomeUnknown",
    "PatternError",
    "PermissionDenied",
    "RateLimitExceeded",
    "ReadOnlyServer",
    "ReplyTimeout",
    "ScriptContractError",
    "ScriptsDenied",
    "ServerOutOfMemory",
    "ServerRefused",
    "ServerTooOld",
    "ServerUnavailable",
    "UnsupportedPlatform",
    "WireClosed",
    "WrongPassword",
]
