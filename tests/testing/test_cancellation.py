"""`cancel_everywhere` finds the usual mistakes, at the points where they are made."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import anyio
import pytest

from aredis_patterns.testing import cancel_everywhere


class Resource:
    """Taken and given back, with an await on both ways."""

    def __init__(self) -> None:
        self.holders = 0

    async def take(self) -> None:
        self.holders += 1
        await asyncio.sleep(0)

    async def give_back(self) -> None:
        await asyncio.sleep(0)
        self.holders -= 1

    def check(self) -> None:
        assert self.holders == 0


async def test_correct_code_passes_and_every_point_is_visited() -> None:
    resource, points = Resource(), list[int]()

    async def correct() -> None:
        resource.holders += 1
        try:
            for point in range(5):
                points.append(point)
                await asyncio.sleep(0)
        finally:
            resource.holders -= 1

    covered = await cancel_everywhere(correct, check=resource.check)
    # In each mode: once at each of the five awaits, once before the first step, and once per tick.
    assert covered >= 3 * (5 + 1 + 5)
    assert points.count(4) >= 3


async def test_what_is_taken_before_try_leaks() -> None:
    resource = Resource()

    async def taken_too_early() -> None:
        await resource.take()
        try:
            await asyncio.sleep(0)
        finally:
            resource.holders -= 1

    with pytest.raises(AssertionError) as failure:
        await cancel_everywhere(taken_too_early, check=resource.check)
    assert failure.value.__notes__ == ["The code was cancelled (native) as await 0 is answered."]


@pytest.mark.parametrize("mode", ["double", "scope"])
async def test_cleaning_up_that_can_itself_be_cancelled_leaks(mode: Any) -> None:
    resource = Resource()

    async def half_cleaned() -> None:
        resource.holders += 1
        try:
            await asyncio.sleep(0)
        except BaseException:
            await resource.give_back()
            raise
        resource.holders -= 1

    await cancel_everywhere(half_cleaned, check=resource.check, modes=["native"])
    with pytest.raises(AssertionError) as failure:
        await cancel_everywhere(half_cleaned, check=resource.check, modes=[mode])
    assert mode in failure.value.__notes__[0]


async def test_a_reply_that_arrives_together_with_the_cancellation_is_lost() -> None:
    """Code that is right whenever it is cancelled while it waits, and wrong when the answer is already there."""
    free = [1]

    async def pop() -> int:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()

        def reply() -> None:
            if not answer.done():
                answer.set_result(free.pop())

        loop.call_soon(reply)
        return await answer

    async def take_and_give_back() -> None:
        free.append(await pop())

    def check() -> None:
        assert free == [1]

    with pytest.raises(AssertionError) as failure:
        await cancel_everywhere(take_and_give_back, check=check)
    assert "as await 0 is answered" in failure.value.__notes__[0]


async def test_swallowing_is_reported() -> None:
    async def swallowing() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="swallowed"):
        await cancel_everywhere(swallowing)
    assert await cancel_everywhere(swallowing, may_finish=True) > 3


async def test_a_task_left_behind_is_reported_unless_it_is_known() -> None:
    tasks = list[asyncio.Task[None]]()

    async def forgetful() -> None:
        tasks.append(asyncio.create_task(asyncio.sleep(60), name="forgotten"))
        await asyncio.sleep(0)

    try:
        with pytest.raises(AssertionError, match=r"tasks left behind.*forgotten"):
            await cancel_everywhere(forgetful)
        await cancel_everywhere(forgetful, ignore_task=lambda task: task.get_name() == "forgotten")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_child_tasks_timeouts_and_anyio_code_are_fine() -> None:
    done = 0

    async def nested() -> None:
        nonlocal done
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0.001)
            with anyio.move_on_after(0.0005):
                await anyio.sleep(1)
        async with asyncio.timeout(1):
            await asyncio.sleep(0)
        done += 1

    assert await cancel_everywhere(nested, max_ticks=20) > 20
    assert done >= 1


async def test_code_that_fails_says_where_it_was() -> None:
    async def breaks_when_cancelled() -> None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise KeyError("cleanup") from None

    with pytest.raises(KeyError) as failure:
        await cancel_everywhere(breaks_when_cancelled)
    assert "as await 0 is answered" in failure.value.__notes__[0]


async def test_the_check_may_be_a_coroutine_function_and_a_real_server(redis_client: Any, namespace: str) -> None:
    key = f"{namespace}:lock"

    async def careless() -> None:
        if await redis_client.set(key, 1, nx=True, px=60_000):
            try:
                await redis_client.ping()
            finally:
                await redis_client.delete(key)

    async def check() -> None:
        assert not await redis_client.exists(key), "the lock stays"

    with pytest.raises(AssertionError, match="the lock stays"):
        await cancel_everywhere(careless, check=check, may_finish=True)
