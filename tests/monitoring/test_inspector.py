"""Inspector on real servers: exact bytes, both protocols, restricted users, every node of a Cluster."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import PermissionDenied
from aredis_patterns.monitoring import Inspector, Unavailable
from aredis_patterns.monitoring.records import Memory, ServerInfo
from aredis_patterns.pipelining import PipelinedRedis
from aredis_patterns.testing import FaultProxy, assert_round_trips

from .conftest import AWKWARD


async def test_every_section_in_both_protocols_bytes_and_text(
    own_server: EmbeddedServer, client_options: dict[str, Any]
) -> None:
    async with Redis.from_url(own_server.url, **client_options) as client:
        await client.set("k", "v", ex=100)
        inspector = Inspector(client)
        assert (await inspector.server()).name in ("Valkey", "Redis")
        memory = await inspector.memory()
        assert memory.used
        assert memory.policy == "noeviction"
        assert memory.limit is None
        stats = await inspector.stats()
        assert stats.commands
        assert (await inspector.clients()).connected
        assert (await inspector.replication()).role == "primary"
        assert [(db.number, db.keys, db.expiring) for db in await inspector.keyspace()] == [(0, 1, 1)]
        assert "set" in {each.command for each in await inspector.commandstats()}
        assert [each.database for each in await inspector.connections()] == [0]
        assert (await inspector.latency()) == ()
        assert [each.command for each in await inspector.latency_histogram("set")] == ["set"]
        assert await inspector.memory_usage("k")
        assert await inspector.memory_usage("missing") is None


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode", [False, True])
async def test_the_slow_log_is_exact(
    slow_client: Redis, own_server: EmbeddedServer, protocol: int, decode: bool
) -> None:
    async with Redis.from_url(own_server.url, protocol=protocol, decode_responses=decode) as client:
        await slow_client.mset({key: b"v " + key for key in AWKWARD})
        entries = await Inspector(client).slowlog(redact="none")
        found = next(entry for entry in entries if entry.args[0] == b"MSET")
        assert found.args[1::2] == tuple(AWKWARD)
        assert found.args[2::2] == tuple(b"v " + key for key in AWKWARD)


async def test_the_slow_log_is_redacted_by_default(slow_client: Redis) -> None:
    await slow_client.set("user:7", "hunter-7")
    entry = next(each for each in await Inspector(slow_client).slowlog() if each.args[0] == b"SET")
    assert entry.args == (b"SET", b"user:7", b"<8 bytes>")
    hidden = next(each for each in await Inspector(slow_client).slowlog(redact="all") if each.args[0] == b"SET")
    assert hidden.args == (b"SET", b"<6 bytes>", b"<8 bytes>")
    with pytest.raises(ValueError, match="redact"):
        await Inspector(slow_client).slowlog(redact="some")  # type: ignore[arg-type]


async def test_an_acl_refusal_is_one_unavailable_section(restricted: Redis) -> None:
    (report,) = (await Inspector(restricted).report()).values()
    for section in (report.connections, report.slowlog, report.latency):
        assert isinstance(section, Unavailable)
        assert section.kind == "permission"
        assert "ACL SETUSER" in str(section)
    # INFO is @dangerous, too.
    assert isinstance(report.memory, Unavailable)
    with pytest.raises(PermissionDenied):
        await Inspector(restricted).slowlog()


async def test_what_the_acl_allows_is_there(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.acl_setuser("ops", enabled=True, nopass=True, keys="*", commands=["+@all", "-slowlog"])
    async with Redis.from_url(own_server.url, username="ops", password="x") as client:
        (report,) = (await Inspector(client).report()).values()
    assert isinstance(report.memory, Memory)
    assert isinstance(report.server, ServerInfo)
    assert isinstance(report.slowlog, Unavailable)


async def test_a_server_that_is_gone_is_unreachable(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_server.kill()
    (report,) = (await Inspector(own_client).report()).values()
    assert isinstance(report.memory, Unavailable)
    assert report.memory.kind == "unreachable"


async def test_one_round_trip_each(fault_proxy: FaultProxy) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        inspector = Inspector(client)
        await inspector.memory()
        for ask in (inspector.stats, inspector.slowlog, inspector.commandstats, inspector.connections):
            async with assert_round_trips(fault_proxy, 1, commands=1):
                await ask()
        async with assert_round_trips(fault_proxy, 1):
            await inspector.report()


async def test_memory_usage_leaves_the_idle_time_alone(own_client: Redis) -> None:
    await own_client.set("k", "v")
    await own_client.execute_command("DEBUG", "SLEEP", "0")
    assert await Inspector(own_client).memory_usage(b"k", samples=0)
    with pytest.raises(ValueError, match="samples"):
        await Inspector(own_client).memory_usage("k", samples=-1)


async def test_connections_by_kind_and_by_id(own_client: Redis) -> None:
    inspector = Inspector(own_client)
    everybody = await inspector.connections()
    assert await inspector.connections(kind="pubsub") == ()
    chosen = await inspector.connections(ids=[everybody[0].id or 0])
    assert [each.id for each in chosen] == [everybody[0].id]
    assert await inspector.connections(ids=[]) == ()
    with pytest.raises(ValueError, match="not by both"):
        await inspector.connections(kind="normal", ids=[1])
