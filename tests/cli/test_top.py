"""The live view, driven by its own test driver on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from redis.asyncio import Redis
from textual.pilot import Pilot
from textual.widgets import DataTable, Static, TabbedContent

from aredis_patterns import Patterns
from aredis_patterns.cli._frame import Frame, Watcher
from aredis_patterns.cli._scrape import ProcessView, parse_metrics
from aredis_patterns.cli._top import Tile, TopApp
from aredis_patterns.embedded import EmbeddedServer

METRICS = """\
# HELP aredis_patterns_operation_seconds How long
# TYPE aredis_patterns_operation_seconds histogram
aredis_patterns_operation_seconds_count{family="ratelimit",operation="hit",outcome="allowed"} 90.0
aredis_patterns_operation_seconds_count{family="ratelimit",operation="hit",outcome="refused"} 10.0
aredis_patterns_operation_seconds_bucket{family="ratelimit",le="0.1",operation="hit",outcome="refused"} 10.0
aredis_patterns_lane_commands_total 1000.0
aredis_patterns_lane_flushes_total 100.0
aredis_patterns_lane_in_flight 3.0
aredis_patterns_lane_bypassed_total{reason="waits inside the server"} 5.0
aredis_patterns_statistics{field="hits",object="products"} 75.0
aredis_patterns_statistics{field="loads",object="products"} 25.0
aredis_patterns_statistics{field="allowed",object="a limiter"} 25.0
other_metric{label="a\\"b"} 1
garbage here too
"""


def cells(app: TopApp, table: str) -> list[list[str]]:
    widget = app.query_one(f"#{table}", DataTable)
    return [[str(cell) for cell in widget.get_row_at(at)] for at in range(widget.row_count)]


def number(app: TopApp, tile: str) -> str:
    return str(app.query_one(f"#{tile}", Tile).query_one(".number", Static).content)


async def frames(pilot: Pilot[None], count: int) -> None:
    app = pilot.app
    assert isinstance(app, TopApp)
    async with asyncio.timeout(20):
        while app.frames < count and app.is_running:
            await pilot.pause(0.02)


@pytest.fixture
async def patterns(own_server: EmbeddedServer) -> AsyncGenerator[Patterns, None]:
    async with Patterns.from_url(own_server.url) as patterns:
        yield patterns


async def test_servers_and_patterns_are_on_the_screen(patterns: Patterns, own_client: Redis) -> None:
    await own_client.config_set("slowlog-log-slower-than", 0)
    await own_client.set("[bold]k[/]", "secret")
    await own_client.config_set("slowlog-log-slower-than", 1_000_000)
    await own_client.get("[bold]k[/]")
    await patterns.queue("emails [red]").enqueue({"to": "you"})
    watcher = Watcher(patterns.client, "ap")

    async def look() -> Frame:
        frame = await watcher.look()
        return Frame(**{**{name: getattr(frame, name) for name in Frame.__slots__}, "processes": (parsed,)})

    parsed: ProcessView = parse_metrics(METRICS, "web-1:8000")
    async with patterns.lock("order:7", ttl=30):
        app = TopApp(look, interval=0.1, where="test")
        async with app.run_test(size=(120, 60)) as pilot:
            await frames(pilot, 3)
            assert "Valkey" in str(app.query_one("#head", Static).content)
            assert cells(app, "locks")[0][:3] == ["lock", "order:7", "held"]
            assert cells(app, "queues")[0][:3] == ["emails [red]", "1", "0"]
            assert cells(app, "limiters") == [["web-1:8000", "hit", "90", "10", "10.0%", "0"]]
            assert cells(app, "caches") == [["web-1:8000", "products", "75.0%", "-", "75", "-", "25"]]
            assert cells(app, "lanes")[0][1:4] == ["1,000", "100", "3"]
            assert number(app, "memory-tile").endswith("MiB")
            assert number(app, "rate-tile") != "-"
            await pilot.press("2")
            assert app.query_one(TabbedContent).active == "slow"
            shown = [row[3] for row in cells(app, "slow-table")]
            assert any("SET [bold]k[/] <6 bytes>" in line for line in shown)
            assert not any("secret" in line for line in shown)
            await pilot.press("3")
            assert "set" in {row[0] for row in cells(app, "commands-table")}
            await pilot.press("4")
            assert cells(app, "clients-table")
            await pilot.press("q")
        assert not app.is_running


async def test_pause_and_refresh(patterns: Patterns) -> None:
    app = TopApp(Watcher(patterns.client, "ap").look, interval=0.05)
    async with app.run_test() as pilot:
        await frames(pilot, 1)
        await pilot.press("p")
        assert app.paused
        await pilot.pause(0.2)
        seen = app.frames
        await pilot.pause(0.3)
        assert app.frames == seen
        await pilot.press("r")
        await frames(pilot, seen + 1)
        await pilot.press("p")
        await frames(pilot, seen + 2)


async def test_a_lost_server_is_said_and_the_view_goes_on(
    patterns: Patterns, own_server: EmbeddedServer, own_client: Redis
) -> None:
    app = TopApp(Watcher(patterns.client, "ap").look, interval=0.05)
    async with app.run_test() as pilot:
        await frames(pilot, 1)
        problem = app.query_one("#problem", Static)
        assert not problem.display
        await own_server.kill()
        async with asyncio.timeout(20):
            while not problem.display:
                await pilot.pause(0.02)
        await own_server.restart()
        async with asyncio.timeout(20):
            while problem.display:
                await pilot.pause(0.02)


async def test_a_restricted_user_sees_what_there_is(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.acl_setuser("app", enabled=True, nopass=True, keys="*", commands=["+@all", "-slowlog", "-client"])
    async with Redis.from_url(own_server.url, username="app", password="x") as client:
        frame = await Watcher(client, "ap").look()
    assert frame.used
    assert frame.slow == []
    assert any("slowlog unavailable" in problem for problem in frame.problems)


async def test_what_looks_like_metrics_and_is_not() -> None:
    view = await Watcher(Redis(), "ap", ["http://127.0.0.1:1/metrics", "file:///etc/passwd"])._processes()
    assert all(each.problem for each in view)
    assert parse_metrics("\x00{}\n{{{", "x").operations == ()
