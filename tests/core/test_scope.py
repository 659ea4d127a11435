"""Scope: no task outlives it and no error is lost."""

from __future__ import annotations

import asyncio
import logging

import pytest

from aredis_patterns._core.scope import Scope, ScopeStatistics
from aredis_patterns.testing import cancel_everywhere


async def forever() -> None:
    await asyncio.Event().wait()


async def test_tasks_are_cancelled_and_awaited_on_leaving() -> None:
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            await forever()
        finally:
            await asyncio.sleep(0)  # cleaning up takes its time, and the scope waits for it
            cleaned = True

    async with Scope("test") as scope:
        task = scope.start(work())
        await asyncio.sleep(0)
        assert scope.statistics() == ScopeStatistics(running=1, started=1, finished=0, cancelled=0, failed=0)
    assert task.cancelled()
    assert cleaned
    assert scope.statistics() == ScopeStatistics(running=0, started=1, finished=0, cancelled=1, failed=0)
    assert repr(scope) == "<Scope 'test' closed, 0 running, 0 failed>"


async def test_an_unexpected_error_is_logged_at_once_and_raised_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise LookupError("lost")

    with caplog.at_level(logging.ERROR, logger="aredis_patterns"), pytest.raises(LookupError, match="lost"):
        async with Scope("renewal") as scope:
            sibling = scope.start(forever())
            await asyncio.wait([scope.start(fail(), name="renew user:1")])
            await asyncio.sleep(0)
            assert "background task renew user:1 of renewal failed" in caplog.text
            assert not sibling.done(), "siblings go on"
            assert scope.statistics().failed == 1
    assert sibling.cancelled()


async def test_several_errors_come_as_a_group() -> None:
    async def fail(error: Exception) -> None:
        raise error

    with pytest.raises(ExceptionGroup, match="2 background tasks of 'test' failed") as caught:
        async with Scope("test") as scope:
            await asyncio.wait([scope.start(fail(error)) for error in (KeyError("a"), OSError("b"))])
    assert {type(error) for error in caught.value.exceptions} == {KeyError, OSError}


async def test_the_error_of_the_body_wins(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise LookupError("background")

    with pytest.raises(ZeroDivisionError):
        async with Scope("test") as scope:
            await asyncio.wait([scope.start(fail())])
            raise ZeroDivisionError
    assert "LookupError: background" in caplog.text


async def test_errors_while_cleaning_up_are_raised_too() -> None:
    async def work() -> None:
        try:
            await forever()
        finally:
            raise RuntimeError("cleaning up failed")

    with pytest.raises(RuntimeError, match="cleaning up failed"):
        async with Scope("test") as scope:
            scope.start(work())
            await asyncio.sleep(0)


async def test_start_needs_an_open_scope() -> None:
    scope = Scope("test")
    with pytest.raises(RuntimeError, match="is not open"):
        scope.start(forever())
    async with scope:
        with pytest.raises(RuntimeError, match="is open already"):
            await scope.__aenter__()
    with pytest.raises(RuntimeError, match="is not open"):
        scope.start(forever())


async def test_cancelled_anywhere_it_leaves_no_task() -> None:
    running: set[str] = set()

    async def stubborn(name: str) -> None:
        running.add(name)
        try:
            await forever()
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            running.discard(name)

    async def critical() -> None:
        async with Scope("test") as scope:
            scope.start(stubborn("a"))
            await asyncio.sleep(0)
            scope.start(stubborn("b"))
            await asyncio.sleep(0)

    async def check() -> None:
        assert not running

    assert await cancel_everywhere(critical, check=check) > 3
