"""health() and doctor(): well, ill, silent, gone, forbidden."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.monitoring import Inspector, NodeReport, SlowCommand, doctor, health
from aredis_patterns.monitoring._rules import RULES
from aredis_patterns.monitoring.records import ClientConnection, Replica, Replication
from aredis_patterns.pipelining import PipelinedRedis
from aredis_patterns.testing import FaultProxy, assert_round_trips


async def test_a_server_that_is_well(own_client: Redis) -> None:
    state = await health(own_client)
    assert state
    assert state.nodes[0].problems == ()
    assert {check.name for check in state.nodes[0].checks} >= {"answers", "version", "loaded", "writable", "memory"}
    assert json.loads(json.dumps(state.as_dict()))["status"] == "ok"


async def test_one_round_trip(fault_proxy: FaultProxy) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        await client.ping()
        async with assert_round_trips(fault_proxy, 1, commands=2):
            assert await health(client)


async def test_nobody_there(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_server.kill()
    state = await health(own_client)
    assert not state
    assert state.nodes[0].latency is None
    assert state.as_dict()["status"] == "unavailable"


async def test_a_silent_server_is_not_ready_in_time(own_server: EmbeddedServer, own_client: Redis) -> None:
    assert await health(own_client)
    own_server.pause()
    try:
        began = time.monotonic()
        assert not await health(own_client, deadline=0.2)
        assert time.monotonic() - began < 5
    finally:
        own_server.resume()


async def test_a_replica_is_no_place_for_writes(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.replicaof("127.0.0.1", 1)
    state = await health(own_client)
    assert not state
    assert any("read-only replica" in problem for problem in state.nodes[0].problems)
    assert any("hear" in problem for problem in (await health(own_client, writes=False)).nodes[0].problems)


async def test_a_full_server_is_not_ready(own_client: Redis) -> None:
    await own_client.config_set("maxmemory", 1)
    assert any("memory" in problem for problem in (await health(own_client)).nodes[0].problems)


async def test_what_may_not_be_seen_is_unknown_not_ill(restricted: Redis) -> None:
    state = await health(restricted)
    assert state
    assert [check.ok for check in state.nodes[0].checks] == [True, None]


async def test_a_wrong_password_is_not_ready(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.config_set("requirepass", "right")
    async with Redis.from_url(own_server.url, password="wrong-7") as client:
        state = await health(client)
    assert not state
    assert "wrong-7" not in json.dumps(state.as_dict())


# doctor ----------------------------------------------------------------------------------------------------------------


async def test_the_doctor_finds_what_was_broken(own_client: Redis) -> None:
    await own_client.keys("*")
    await own_client.config_set("maxmemory", 100_000_000)
    await own_client.config_set("maxmemory-policy", "allkeys-lru")
    await own_client.config_set("slowlog-log-slower-than", 0)
    await own_client.execute_command("DEBUG", "SLEEP", "0.15")
    await own_client.set("ap:lock:{x}", "1")
    await own_client.set("ap:rl:{x}", "1", ex=10)
    diagnosis = await doctor(own_client)
    codes = {finding.code: finding for finding in diagnosis.findings}
    assert {"keys-used", "evicts-everything", "slow-commands", "keys-without-ttl"} <= codes.keys()
    assert not diagnosis
    assert "DEBUG" in codes["slow-commands"].message
    assert "1 of 2 keys" in codes["keys-without-ttl"].message
    assert "ap:lock:{*}" in codes["keys-without-ttl"].message
    assert [finding.severity for finding in diagnosis.findings] == sorted(
        (finding.severity for finding in diagnosis.findings), key=["critical", "warning", "info"].index
    )
    assert json.loads(json.dumps(diagnosis.as_dict()))["ok"] is False


async def test_a_healthy_server_has_no_findings(own_client: Redis) -> None:
    await own_client.config_set("maxmemory", 1_000_000_000)
    assert [finding.code for finding in (await doctor(own_client)).findings] == []
    assert await doctor(own_client)


async def test_a_server_that_is_gone_is_one_critical_finding(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_server.kill()
    diagnosis = await doctor(own_client, namespace=None)
    assert [finding.code for finding in diagnosis.critical] == ["unreachable"]


async def test_a_restricted_user_gets_what_there_is(restricted: Redis) -> None:
    diagnosis = await doctor(restricted)
    assert {finding.code for finding in diagnosis.findings} == {"unavailable"}
    assert all("ACL SETUSER" in finding.message for finding in diagnosis.findings)


async def test_a_doctor_who_may_not_look_at_all_does_not_call_it_well(
    own_server: EmbeddedServer, own_client: Redis
) -> None:
    await own_client.acl_setuser("blind", enabled=True, nopass=True, keys="*", commands=["+ping", "+hello"])
    async with Redis.from_url(own_server.url, username="blind", password="x") as client:
        diagnosis = await doctor(client, namespace=None)
    assert not diagnosis
    (info,) = diagnosis.warnings
    assert info.message.startswith("server, memory, stats")  # said once, not once per section
    assert "+info" in info.message


@pytest.fixture
async def report(own_client: Redis) -> NodeReport:
    await own_client.config_set("maxmemory", 1_000_000_000)
    return next(iter((await Inspector(own_client).report()).values()))


def section(name: str, /, **values: Any) -> Callable[[NodeReport], NodeReport]:
    return lambda report: dataclasses.replace(report, **{name: dataclasses.replace(getattr(report, name), **values)})


def lagging(report: NodeReport) -> NodeReport:
    replicas = (Replica("10.0.0.2:6379", "online", 100 << 20, 1.0),)
    assert isinstance(report.replication, Replication)
    return dataclasses.replace(report, replication=dataclasses.replace(report.replication, replicas=replicas))


def slow(report: NodeReport) -> NodeReport:
    entry = SlowCommand(1, datetime.now(UTC), 2.5, (b"HGETALL", b"k"), "1.2.3.4:5", None)
    return dataclasses.replace(report, slowlog=(entry,))


def slow_reader(report: NodeReport) -> NodeReport:
    assert isinstance(report.connections, tuple)
    stuck: ClientConnection = dataclasses.replace(report.connections[0], waiting_output=9 << 20)
    return dataclasses.replace(report, connections=(stuck,))


@pytest.mark.parametrize(
    ("change", "code", "severity"),
    [
        (section("memory", limit=None), "no-maxmemory", "warning"),
        (section("memory", used=970_000_000, fragmentation=1.0), "memory-full", "critical"),
        (section("memory", used=850_000_000, fragmentation=1.0), "memory-filling", "warning"),
        (section("memory", used=100 << 20, fragmentation=2.0), "fragmentation", "warning"),
        (section("memory", used=100 << 20, fragmentation=0.5), "swapping", "critical"),
        (section("stats", evicted=5), "evictions", "warning"),
        (section("stats", rejected_connections=1), "rejected-connections", "critical"),
        (section("stats", fork_seconds=0.9), "slow-fork", "warning"),
        (section("stats", hits=1000, misses=90_000), "low-hit-ratio", "info"),
        (section("clients", connected=9000, limit=10_000), "many-connections", "warning"),
        (section("clients", blocked=500), "blocked-clients", "info"),
        (section("replication", role="replica", link_up=False), "primary-lost", "critical"),
        (section("persistence", save_ok=False), "snapshot-failed", "critical"),
        (section("persistence", append_only=True, append_only_ok=False), "append-only-failed", "critical"),
        (section("persistence", loading=True), "loading", "warning"),
        (section("server", name="Redis", version="6.2.1"), "server-too-old", "critical"),
        (section("server", name="Valkey", version="7.2.4"), "", ""),
        (section("memory", used=10 << 20, fragmentation=9.0), "", ""),
        (lagging, "replica-lag", "warning"),
        (slow, "slow-commands", "warning"),
        (slow_reader, "slow-reader", "warning"),
        (lambda report: report, "", ""),
    ],
)
async def test_each_rule_finds_its_fault_and_nothing_else(
    report: NodeReport, change: Callable[[NodeReport], NodeReport], code: str, severity: str
) -> None:
    found = [finding for rule in RULES for finding in rule(change(report))]
    assert [(finding.code, finding.severity) for finding in found] == ([(code, severity)] if code else [])
    assert all(finding.fix for finding in found)
