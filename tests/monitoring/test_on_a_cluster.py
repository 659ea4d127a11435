"""Every node of a Cluster has its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from aredis_patterns import Inspector, KeyScan, Patterns, doctor, health, hot_keys, pattern_view
from aredis_patterns.monitoring import CommandTap
from aredis_patterns.monitoring.records import Memory, ServerInfo
from aredis_patterns.pipelining import PipelinedRedisCluster
from aredis_patterns.testing import LocalCluster


@pytest.fixture
async def cluster(redis_cluster: LocalCluster) -> AsyncGenerator[PipelinedRedisCluster, None]:
    async with PipelinedRedisCluster.from_url(redis_cluster.url) as client:
        yield client
        await client.flushall(target_nodes="primaries")


async def test_reports_and_inspectors_by_node(cluster: PipelinedRedisCluster) -> None:
    reports = await Inspector(cluster).report()
    assert len(reports) == 3
    assert all(isinstance(report.memory, Memory) for report in reports.values())
    nodes = await Inspector(cluster).nodes()
    ports: set[int | None] = set()
    for name, inspector in nodes.items():
        server = await inspector.server()
        assert isinstance(server, ServerInfo)
        assert (server.mode, name.rpartition(":")[2]) == ("cluster", str(server.port))
        ports.add(server.port)
    assert len(ports) == 3
    with pytest.raises(ValueError, match="this client is a Cluster"):
        await Inspector(cluster).memory()


async def test_memory_usage_asks_the_node_of_the_key(cluster: PipelinedRedisCluster) -> None:
    for number in range(20):
        await cluster.set(f"k:{number}", "x")
        assert await Inspector(cluster).memory_usage(f"k:{number}")


async def test_a_scan_sees_the_keys_of_all_nodes(cluster: PipelinedRedisCluster) -> None:
    await asyncio.gather(*(cluster.set(f"user:{number}", "x") for number in range(600)))
    report = await KeyScan(cluster, rate=1e6, top=600).run()
    assert (report.keys, len(report.nodes)) == (600, 3)
    assert len({key.node for key in report.biggest}) > 1


async def test_health_needs_every_primary(cluster: PipelinedRedisCluster, redis_cluster: LocalCluster) -> None:
    assert len((await health(cluster)).nodes) == 3
    redis_cluster.servers[1].pause()
    try:
        state = await health(cluster, deadline=0.5)
        assert not state
        assert [node.ready for node in state.nodes].count(False) == 1
    finally:
        redis_cluster.servers[1].resume()
    async with asyncio.timeout(20):
        while not await health(cluster, deadline=2):
            await asyncio.sleep(0.05)


async def test_the_doctor_names_the_node(cluster: PipelinedRedisCluster) -> None:
    found = [finding.node for finding in (await doctor(cluster)).findings if finding.code == "no-maxmemory"]
    assert len(set(found)) == 3


async def test_a_tap_hears_all_nodes(cluster: PipelinedRedisCluster) -> None:
    keys = [f"k:{number}" for number in range(30)]
    await asyncio.gather(*(cluster.get(key) for key in keys))
    async with CommandTap(cluster, max_commands=len(keys), duration=30) as tap:
        await asyncio.gather(*(cluster.get(key) for key in keys))
        heard = [command async for command in tap]
    assert {command.args[1] for command in heard} == {key.encode() for key in keys}
    assert len({command.node for command in heard}) == 3


async def test_patterns_of_all_nodes(redis_cluster: LocalCluster, cluster: PipelinedRedisCluster) -> None:
    async with Patterns(cluster) as patterns:
        for number in range(6):
            await patterns.queue(f"q:{number}").enqueue(number)
        view = await pattern_view(cluster)
    assert sorted(queue.name for queue in view.queues) == [f"q:{number}" for number in range(6)]
    assert (await hot_keys(cluster, duration=0.1)).method == "monitor"
