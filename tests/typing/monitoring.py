"""A tour of monitoring. Never run; mypy and pyright must accept it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import assert_type

from redis.asyncio import Redis, RedisCluster

from aredis_patterns import (
    CommandTap,
    Diagnosis,
    Health,
    HotKeys,
    Inspector,
    KeyReport,
    KeyScan,
    Kind,
    NodeReport,
    Patterns,
    SlowCommand,
    Unavailable,
    doctor,
    health,
    hot_keys,
    instrument,
)
from aredis_patterns.monitoring.records import Memory, Stats


async def servers(client: Redis, cluster: RedisCluster) -> None:
    inspector = Inspector(client, deadline=1)
    assert_type(await inspector.memory(), Memory)
    assert_type((await inspector.stats()).hit_ratio, float | None)
    assert_type(await inspector.slowlog(10, redact="none"), tuple[SlowCommand, ...])
    assert_type(await inspector.report(), dict[str, NodeReport])
    assert_type(await Inspector(cluster).nodes(), dict[str, Inspector])
    for report in (await inspector.report()).values():
        memory = report.memory
        assert_type(memory, Memory | Unavailable)
        if not isinstance(memory, Unavailable):
            assert_type(memory, Memory)
        assert_type(report.stats, Stats | Unavailable)


async def keys(client: Redis) -> None:
    assert_type(await KeyScan(client, match="a:*", rate=100, group=r"^(\w+)").run(), KeyReport)
    assert_type(await hot_keys(client, duration=1), HotKeys)
    async with CommandTap(client, max_commands=5, duration=1) as tap:
        async for command in tap:
            assert_type(command.args, tuple[bytes, ...])


async def verdicts(client: Redis) -> None:
    assert_type(await health(client), Health)
    assert_type(await doctor(client, namespace=None), Diagnosis)
    async with Patterns.from_url("redis://localhost") as p:
        assert_type(await p.health(), Health)
        assert_type(await p.doctor(), Diagnosis)
        assert_type(await p.key_scan().run(), KeyReport)


class Listener:
    def recorder(self, kind: Kind, /) -> Callable[[float], None]:
        return print

    def span(self, family: str, operation: str, layer: str, /) -> AbstractContextManager[None]:
        return nullcontext()


def listeners(client: Redis) -> None:
    assert_type(instrument(client, Listener()), Callable[[], None])
    Patterns(client, instrumentation=Listener())
