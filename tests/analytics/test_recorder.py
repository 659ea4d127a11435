"""Marks that do not wait: coalesced, bounded, flushed, and tried again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from aredis_patterns import ActivityTracker, PipelinedRedis, Recorder, UniqueCounter, WindowClosed
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.testing import FaultProxy, assert_round_trips

TODAY = datetime.now(UTC).date()


async def test_what_is_recorded_is_written(tracker: ActivityTracker, counter: UniqueCounter) -> None:
    async with Recorder(interval=60) as recorder:
        for number in range(300):
            assert recorder.mark_active(tracker, number % 100)
            assert recorder.track_visitor(counter, "home", f"v{number % 50}")
        recorder.mark_active(tracker, 7, TODAY - timedelta(days=1), event="signup")
        assert recorder.statistics().pending == 151
        assert await tracker.count_active() == 0
    found = recorder.statistics()
    assert (found.pending, found.recorded, found.written, found.flushes) == (0, 601, 151, 1)
    assert await tracker.count_active() == 100
    assert await tracker.was_active(7, TODAY - timedelta(days=1), event="signup")
    assert await counter.get_unique_visitors("home") == 50


async def test_a_flush_is_one_round_trip(fault_proxy: FaultProxy, namespace: str) -> None:
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        tracker = ActivityTracker(client, "t", retention=3600, namespace=namespace, deadline=10)
        counter = UniqueCounter(client, "c", retention=3600, namespace=namespace, deadline=10)
        async with Recorder(interval=60) as recorder:
            for first in (0, 5000):
                for number in range(first, first + 3000):
                    recorder.mark_active(tracker, number)
                recorder.track_visitor(counter, "home", first)
                if first:
                    async with assert_round_trips(fault_proxy, 1):
                        await recorder.flush()
                await recorder.flush()
        assert await tracker.count_active() == 6000


async def test_it_writes_by_itself(tracker: ActivityTracker) -> None:
    async with Recorder(interval=0.01) as recorder:
        recorder.mark_active(tracker, 1)
        async with asyncio.timeout(10):
            while not await tracker.count_active():
                await asyncio.sleep(0.01)
    async with Recorder(interval=60, max_pending=10) as recorder:
        for number in range(5):
            recorder.mark_active(tracker, number)
        async with asyncio.timeout(10):
            while recorder.statistics().pending:
                await asyncio.sleep(0.01)


async def test_it_is_bounded(tracker: ActivityTracker) -> None:
    recorder = Recorder(max_pending=3)
    assert [recorder.mark_active(tracker, number) for number in (1, 2, 3, 1, 4)] == [True, True, True, True, False]
    assert recorder.statistics().dropped == 1
    await recorder.flush()
    assert await tracker.count_active() == 3
    assert recorder.mark_active(tracker, 4)


async def test_what_is_dropped_leaves_nothing(counter: UniqueCounter) -> None:
    recorder = Recorder(max_pending=1)
    for page in range(100):
        recorder.track_visitor(counter, f"page {page}", "ada")
    assert len(recorder._pending) == 1
    await recorder.flush()


async def test_marks_of_a_day_that_is_no_longer_kept_are_dropped(tracker: ActivityTracker) -> None:
    """They would fail with every flush for ever, and take the place of others."""
    recorder = Recorder()
    recorder.mark_active(tracker, 1, TODAY - timedelta(days=1000))
    recorder.mark_active(tracker, 2)
    with pytest.raises(WindowClosed, match="no longer kept"):
        await recorder.flush()
    await recorder.flush()
    found = recorder.statistics()
    assert (found.pending, found.written, found.dropped, found.failures) == (0, 1, 1, 1)
    assert await tracker.was_active(2)


async def test_after_an_outage_everything_is_written(own_server: EmbeddedServer, caplog: Any) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        tracker = ActivityTracker(client, "t", retention=3600, deadline=0.1)
        counter = UniqueCounter(client, "c", retention=3600, deadline=0.1)
        await tracker.mark_active(0)
        async with Recorder(interval=0.02) as recorder:
            own_server.pause()
            for number in range(20):
                recorder.mark_active(tracker, number)
                recorder.track_visitor(counter, "home", number)
            async with asyncio.timeout(10):
                while not recorder.statistics().failures:
                    await asyncio.sleep(0.01)
            own_server.resume()
            async with asyncio.timeout(10):
                while recorder.statistics().pending:
                    await asyncio.sleep(0.01)
        assert await tracker.count_active() == 20
        assert await counter.get_unique_visitors("home") == 20
    assert "will try again" in caplog.text


async def test_a_cancelled_flush_keeps_its_marks(own_server: EmbeddedServer) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        tracker = ActivityTracker(client, "t", retention=3600, deadline=5)
        await tracker.mark_active(0)
        recorder = Recorder()
        recorder.mark_active(tracker, 1)
        own_server.pause()
        task = asyncio.create_task(recorder.flush())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        own_server.resume()
        assert recorder.statistics().pending == 1
        await recorder.flush()
        assert await tracker.was_active(1)


async def test_closing_without_a_server_ends_and_says_so(caplog: Any) -> None:
    tracker = ActivityTracker(Redis(port=1), "t", retention=60, deadline=0.1)
    async with Recorder(interval=60, close_timeout=5) as recorder:
        recorder.mark_active(tracker, 1)
        with pytest.raises(RedisConnectionError):
            await recorder.flush()
    assert "1 marks unwritten" in caplog.text
    assert "1 pending" in repr(recorder)


@pytest.mark.parametrize("user_id", [-1, True, 1.5, "1", 2**30])
async def test_nonsense_is_refused_at_once(user_id: Any, tracker: ActivityTracker, counter: UniqueCounter) -> None:
    recorder = Recorder()
    with pytest.raises(ValueError, match="id"):
        recorder.mark_active(tracker, user_id)
    with pytest.raises(ValueError, match="visitor"):
        recorder.track_visitor(counter, "home", "")
    with pytest.raises(ValueError, match="naive"):
        recorder.mark_active(tracker, 1, datetime(2026, 1, 1))
