"""When messages are handed over: at once when they come alone, together when waking takes long."""

from __future__ import annotations

import asyncio
import time

from aredis_patterns.pubsub._pacing import LONGEST_HOLD, MOST_HELD, Pacer


async def ticks(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_comes_alone_is_handed_over_at_once() -> None:
    handed: list[int] = []
    pacer = Pacer(asyncio.get_running_loop(), lambda: handed.append(1))
    for round_number in range(1, 20):
        pacer.soon(1)
        pacer.soon(2)
        await ticks(3)
        assert len(handed) == round_number


async def test_after_a_long_waking_the_next_waits_but_not_long() -> None:
    loop = asyncio.get_running_loop()
    handed: list[float] = []

    def hand_over() -> None:
        handed.append(loop.time())
        loop.call_soon(time.sleep, 0.02)  # somebody who was woken, and has much to do

    pacer = Pacer(loop, hand_over)
    pacer.soon(1)
    await ticks(6)
    before = len(handed)
    assert pacer._not_before > handed[0] + 0.02
    began = loop.time()
    pacer.soon(1)
    async with asyncio.timeout(5):
        while len(handed) == before:
            await asyncio.sleep(0.001)
    assert pacer._not_before == 0 or handed[-1] - began < LONGEST_HOLD + 1
    assert handed[-1] >= handed[0] + 0.02


async def test_a_full_portion_waits_for_nothing() -> None:
    loop = asyncio.get_running_loop()
    handed: list[int] = []
    pacer = Pacer(loop, lambda: handed.append(1))
    pacer._not_before = loop.time() + 60
    pacer.soon(1)
    await ticks(4)
    assert handed == []
    pacer.soon(MOST_HELD)
    await ticks(2)
    assert handed == [1]
    pacer.respect(2)
    pacer._not_before = loop.time() + 60
    pacer.soon(1)  # half of the smallest buffer
    await ticks(4)
    assert handed == [1, 1]
