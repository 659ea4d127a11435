"""Cluster lanes on a real three-node Cluster: routing, moving slots, lost nodes."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from redis.asyncio import Redis, RedisCluster
from redis.crc import key_slot
from redis.exceptions import ConnectionError, ResponseError

from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import ServerUnavailable
from aredis_patterns.pipelining import PipelinedRedisCluster, lane_of

SLOTS = 16384


class Nodes:
    """Three nodes without replicas, and what a test does to them."""

    def __init__(self, servers: list[EmbeddedServer], clients: list[Redis]) -> None:
        self.servers = servers
        self.clients = clients
        self.url = servers[0].url

    async def owner(self, slot: int) -> int:
        """The index of the node that holds a slot."""
        return slot * len(self.clients) // SLOTS

    async def move(self, slot: int, source: int, target: int, *, stop_half_way: bool = False) -> None:
        """Migrate a slot, key by key, as an operator would; half way it answers ASK."""
        ids = [(await client.execute_command("CLUSTER MYID")).decode() for client in self.clients]
        await self.clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
        await self.clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
        keys = await self.clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 1000)
        host, port = "127.0.0.1", self.servers[target].port
        if keys:
            await self.clients[source].execute_command("MIGRATE", host, port, "", 0, 5000, "KEYS", *keys)
        if stop_half_way:
            return
        for client in (self.clients[target], self.clients[source], *self.clients):
            await client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
        async with asyncio.timeout(20):
            for client in self.clients:
                while await self._owner_as_seen_by(client, slot) != port:
                    await asyncio.sleep(0.02)
            # A node that takes a slot without knowing the newest epoch would tie with another one, and Redis settles a tie
            # by taking the slot away again, with its keys. Operators wait for gossip, and so do we.
            while not await self._epochs_agree():
                await asyncio.sleep(0.02)

    async def _epochs_agree(self) -> bool:
        views = [await client.execute_command("CLUSTER NODES") for client in self.clients]
        epochs = [{node["node_id"]: node["epoch"] for node in view.values()} for view in views]
        return all(view == epochs[0] for view in epochs) and len(set(epochs[0].values())) == len(epochs)

    async def _owner_as_seen_by(self, client: Redis, slot: int) -> int:
        ranges = await client.execute_command("CLUSTER SLOTS")
        return next(int(primary[1]) for first, last, primary, *_ in ranges if first <= slot <= last)


def free_ports(count: int) -> list[int]:
    """Ports whose neighbour 10,000 above, the port of the Cluster bus, is free as well."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        try:
            for number in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        if port not in found:
            found.append(port)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes() -> AsyncGenerator[Nodes, None]:
    async with AsyncExitStack() as stack:
        config = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
        servers = [
            await stack.enter_async_context(EmbeddedServer(port=port, unix_socket=False, config=config))
            for port in free_ports(3)
        ]
        clients = [await stack.enter_async_context(Redis.from_url(server.url)) for server in servers]
        for number, client in enumerate(clients):
            first, last = -(-SLOTS * number // 3), -(-SLOTS * (number + 1) // 3) - 1
            await client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            # Distinct epochs from the start: nodes that settle a tie later may take a slot back that a test has moved.
            await client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for server in servers[1:]:
            await clients[0].execute_command("CLUSTER MEET", "127.0.0.1", server.port)
        async with asyncio.timeout(20):
            for client in clients:
                while (await client.execute_command("CLUSTER INFO"))["cluster_state"] != "ok":
                    await asyncio.sleep(0.05)
                while len(await client.execute_command("CLUSTER SHARDS")) != 3:
                    await asyncio.sleep(0.05)
        yield Nodes(servers, clients)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(nodes: Nodes) -> AsyncGenerator[PipelinedRedisCluster, None]:
    async with PipelinedRedisCluster.from_url(nodes.url) as client:
        yield client
        await client.flushall(target_nodes="primaries")


async def test_keys_ride_on_the_lane_of_their_node(cluster: PipelinedRedisCluster) -> None:
    keys = [f"key:{number}" for number in range(300)]
    await asyncio.gather(*(cluster.set(key, key) for key in keys))
    assert await asyncio.gather(*(cluster.get(key) for key in keys)) == [key.encode() for key in keys]
    statistics = cluster.statistics()
    assert statistics.commands >= 600
    assert statistics.mean_batch > 5


async def test_scripts_go_to_the_node_of_their_keys(cluster: PipelinedRedisCluster) -> None:
    keys = [f"n:{number}" for number in range(50)]
    text = "return redis.call('INCR', KEYS[1])"
    assert await asyncio.gather(*(cluster.eval(text, 1, key) for key in keys)) == [1] * 50


async def test_patterns_work_on_a_stock_cluster_client(nodes: Nodes) -> None:
    async with RedisCluster.from_url(nodes.url) as stock:
        commands = lane_of(stock)
        keys = [f"stock:{number}" for number in range(60)]
        assert await asyncio.gather(*(commands.call("INCR", key, key=key) for key in keys)) == [1] * 60
        replies = await commands.batch([("SET", "{a}1", 1), ("INCR", "{a}1"), ("HGET", "{a}1", "f")], key="{a}1")
        assert replies[:2] == [b"OK", 2]
        assert isinstance(replies[2], ResponseError)
        await commands.aclose()
        await stock.flushall(target_nodes="primaries")


async def test_every_increment_counts_once_while_slots_move(nodes: Nodes, cluster: PipelinedRedisCluster) -> None:
    key = "moving"
    slot = key_slot(key.encode())
    home = await nodes.owner(slot)
    away = (home + 1) % 3
    done = asyncio.Event()
    counts = [0] * 8

    async def count(number: int) -> None:
        while not done.is_set():
            await cluster.incr(key)
            counts[number] += 1

    async def move() -> None:
        for _ in range(3):
            await nodes.move(slot, home, away)
            await nodes.move(slot, away, home)
        done.set()

    await asyncio.gather(move(), *(count(number) for number in range(8)))
    assert int(await cluster.get(key)) == sum(counts) > 0


async def test_ask_is_followed_while_a_slot_is_half_way(nodes: Nodes, cluster: PipelinedRedisCluster) -> None:
    key = "asking"
    slot = key_slot(key.encode())
    home = await nodes.owner(slot)
    away = (home + 1) % 3
    await cluster.set(key, 0)
    await nodes.move(slot, home, away, stop_half_way=True)
    try:
        answers = await asyncio.gather(*(cluster.incr(key) for _ in range(50)))
        assert sorted(answers) == list(range(1, 51))
    finally:
        await nodes.move(slot, home, away)
        await nodes.move(slot, away, home)
    assert await cluster.get(key) == b"50"


async def test_what_spans_slots_takes_the_stock_path(cluster: PipelinedRedisCluster) -> None:
    await cluster.mset_nonatomic({"a": 1, "b": 2, "c": 3})
    assert await cluster.mget_nonatomic("a", "b", "c") == [b"1", b"2", b"3"]
    assert await cluster.delete("a", "b", "c") == 3


async def test_a_killed_connection_is_replaced(nodes: Nodes, cluster: PipelinedRedisCluster) -> None:
    keys = [f"kill:{number}" for number in range(20)]
    await asyncio.gather(*(cluster.incr(key) for key in keys))
    for client in nodes.clients:
        await client.client_kill_filter(_type="normal", skipme=True)
    answers = await asyncio.gather(*(cluster.incr(key) for key in keys), return_exceptions=True)
    assert all(answer == 2 or isinstance(answer, ConnectionError) for answer in answers)
    assert await cluster.incr("kill:other") == 1


async def test_a_cluster_that_is_not_there_answers_soon() -> None:
    cluster = PipelinedRedisCluster(host="127.0.0.1", port=1)
    start = time.monotonic()
    with pytest.raises(ServerUnavailable):
        await cluster.get("a")
    with pytest.raises(ServerUnavailable):
        await lane_of(cluster).call("GET", "a", key="a", deadline=0.2)
    assert time.monotonic() - start < 3
    await cluster.aclose()
