"""A Redis Cluster on this machine, for tests: real nodes, real slots, and slots that move while somebody uses them.

with LocalCluster() as cluster:
    client = RedisCluster.from_url(cluster.url)
    ...
    await cluster.move(slot, source=0, target=1)      # key by key, as an operator would
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from aredis_patterns.embedded import RunningServer

__all__ = ["LocalCluster"]

SLOTS: Final = 16384
PATIENCE: Final = 20.0
"""Seconds until nodes must agree."""


class LocalCluster:
    """Embedded nodes without replicas, joined to a Cluster. `nodes` is how many, 3 or more.

    A context manager; entering blocks for about a second. `servers` are the nodes, to be killed and paused by a test.
    """

    def __init__(self, nodes: int = 3) -> None:
        self._count = nodes
        self.servers: list[RunningServer] = []

    def __repr__(self) -> str:
        return f"<LocalCluster of {len(self.servers)} nodes>"

    @property
    def url(self) -> str:
        """The URL of the first node; `redis+cluster://` for `Patterns.from_url` is the same address."""
        return self.servers[0].url

    def __enter__(self) -> LocalCluster:
        from aredis_patterns.embedded import start_server

        config = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
        try:
            for port in _free_ports(self._count):
                self.servers.append(start_server(port=port, unix_socket=False, config=config))
            self._join()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all nodes."""
        for server in self.servers:
            server.stop()

    def owner(self, slot: int) -> int:
        """The index of the node that held this slot at the beginning."""
        return slot * self._count // SLOTS

    async def move(self, slot: int, source: int, target: int, *, stop_half_way: bool = False) -> None:
        """Migrate a slot from node to node, key by key, and return when all nodes know it. Half way it answers ASK."""
        from redis.asyncio import Redis

        clients = [Redis.from_url(server.url) for server in self.servers]
        try:
            await _move(clients, self.servers[target].url, slot, source, target, stop_half_way)
        finally:
            for client in clients:
                await client.aclose()

    def _join(self) -> None:
        from redis import Redis as BlockingRedis

        untyped: Any = BlockingRedis
        clients: list[Any] = [untyped.from_url(server.url) for server in self.servers]
        try:
            for number, client in enumerate(clients):
                first, last = -(-SLOTS * number // self._count), -(-SLOTS * (number + 1) // self._count) - 1
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
                # Distinct epochs from the start: nodes that settle a tie later may take a slot back that a test has moved.
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            for server in self.servers[1:]:
                clients[0].execute_command("CLUSTER MEET", "127.0.0.1", _port(server.url))
            for client in clients:
                _until(lambda client=client: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")  # type: ignore[misc]
                _until(lambda client=client: len(client.execute_command("CLUSTER SHARDS")) == self._count)  # type: ignore[misc]
        finally:
            for client in clients:
                client.close()


async def _move(
    clients: list[Redis], target_url: str, slot: int, source: int, target: int, stop_half_way: bool
) -> None:
    ids = [_text(await client.execute_command("CLUSTER MYID")) for client in clients]
    await clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
    await clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    keys = await clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 1000)
    port = _port(target_url)
    if keys:
        await clients[source].execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)
    if stop_half_way:
        return
    for client in (clients[target], clients[source], *clients):
        await client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    async with asyncio.timeout(PATIENCE):
        for client in clients:
            while await _owner_as_seen_by(client, slot) != port:
                await asyncio.sleep(0.02)
        # A node that takes a slot without knowing the newest epoch would tie with another one, and Redis settles a tie by
        # taking the slot away again, with its keys. Operators wait for gossip, and so do we.
        while not await _epochs_agree(clients):
            await asyncio.sleep(0.02)


async def _epochs_agree(clients: list[Redis]) -> bool:
    views: list[Any] = [await client.execute_command("CLUSTER NODES") for client in clients]
    epochs = [{node["node_id"]: node["epoch"] for node in view.values()} for view in views]
    return all(view == epochs[0] for view in epochs) and len(set(epochs[0].values())) == len(epochs)


async def _owner_as_seen_by(client: Redis, slot: int) -> int:
    ranges: Any = await client.execute_command("CLUSTER SLOTS")
    return next(int(primary[1]) for first, last, primary, *_ in ranges if first <= slot <= last)


def _until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError("the nodes do not agree")
        time.sleep(0.05)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _port(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def _free_ports(count: int) -> list[int]:
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
