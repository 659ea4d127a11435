"""`process`: many handlers, and an end in good order. Other processes: killed, terminated, restarted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns.queues import Backoff

LONG = bool(os.environ.get("AREDIS_PATTERNS_LONG"))


async def reached(condition: Any, within: float = 15.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def processing(queue: Any, handler: Any, **options: Any) -> AsyncGenerator[tuple[asyncio.Task[None], Any], None]:
    stop = asyncio.Event()
    task = asyncio.create_task(queue.process(handler, stop=stop, **options))
    try:
        yield task, stop
    finally:
        stop.set()
        await asyncio.wait({task})


async def test_so_many_at_a_time_and_no_more(make_queue: Any) -> None:
    queue = make_queue()
    running = most = 0
    done: list[int] = []

    async def handle(message: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running -= 1
        done.append(message.body)

    await queue.enqueue_many(range(100))
    async with processing(queue, handle, concurrency=7) as (task, stop):
        await reached(lambda: len(done) == 100)
        stop.set()
        await task
    assert most == 7
    assert sorted(done) == list(range(100))
    stats = await queue.stats()
    assert (stats.done, stats.in_flight) == (100, 0), "every ack is settled when process returns"


async def test_one_at_a_time_is_in_order(make_queue: Any) -> None:
    queue = make_queue()
    done: list[int] = []

    async def handle(message: Any) -> None:
        done.append(message.body)
        await asyncio.sleep(0)

    await queue.enqueue_many(range(200))
    async with processing(queue, handle, concurrency=1):
        await reached(lambda: len(done) == 200)
    assert done == list(range(200))


async def test_a_handler_that_always_fails_is_tried_five_times_and_then_dead(make_queue: Any) -> None:
    queue = make_queue(backoff=Backoff(first=0.01, longest=0.02))
    attempts: list[int] = []

    async def handle(message: Any) -> None:
        attempts.append(message.attempt)
        raise KeyError("boom")

    await queue.enqueue(1)
    async with processing(queue, handle, concurrency=4):
        async with asyncio.timeout(10):
            while not await queue.dead_letters.count():
                await asyncio.sleep(0.01)
    assert attempts == [1, 2, 3, 4, 5]
    assert (await queue.dead_letters.list())[0].last_reason == "KeyError: 'boom'"


async def test_a_handler_may_fail_with_what_is_no_text(make_queue: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The name of a file, for instance. The worker goes on, and the reason can be read."""
    caplog.set_level("CRITICAL", logger="aredis_patterns")  # the log would carry it into the report of the test
    queue = make_queue(max_deliveries=1)

    async def handle(message: Any) -> None:
        if message.body == "fails":
            raise FileNotFoundError("report \udce4.txt\0")
        stop.set()

    await queue.enqueue_many(["fails", "fine"])
    async with processing(queue, handle, concurrency=1) as (task, stop):
        await asyncio.wait_for(task, 15)
    [letter] = await queue.dead_letters.list()
    assert letter.last_reason == "FileNotFoundError: report \\udce4.txt\0"


async def test_a_handler_may_decide_for_itself(make_queue: Any) -> None:
    queue = make_queue()
    seen: list[Any] = []

    async def handle(message: Any) -> None:
        seen.append(message.body)
        if message.body == "reject":
            await message.reject("no")
        elif message.body == "again" and message.attempt == 1:
            await message.nack(delay=0)
        elif message.body == "ack":
            await message.ack()
            raise RuntimeError("after the ack")

    await queue.enqueue_many(["reject", "again", "ack"])
    async with processing(queue, handle, concurrency=1):
        await reached(lambda: len(seen) == 4)
    stats = await queue.stats()
    assert (stats.done, stats.dead, stats.ready, stats.delayed) == (2, 1, 0, 0)


async def test_stopping_gives_back_what_was_not_begun_and_waits_for_what_was(make_queue: Any) -> None:
    """Ten running, twenty ahead: the twenty are somebody else's at once and do not count as tried."""
    queue, other = make_queue(), make_queue()
    await queue.enqueue_many(range(30))
    begun: list[int] = []
    finish = asyncio.Event()

    async def handle(message: Any) -> None:
        begun.append(message.body)
        await finish.wait()

    stop = asyncio.Event()
    task = asyncio.create_task(queue.process(handle, concurrency=10, prefetch=20, stop=stop))
    await reached(lambda: len(begun) == 10 and queue.statistics().delivered == 30)
    begin = time.monotonic()
    stop.set()
    rest: list[Any] = []
    while len(rest) < 20:
        rest += await other.dequeue_many(20, timeout=5)
    assert time.monotonic() - begin < 2
    assert [(message.body, message.attempt) for message in rest] == [(n, 1) for n in range(10, 30)]
    assert not task.done(), "what is running has its grace"
    finish.set()
    await task
    assert (await queue.stats()).done == 10


async def test_after_the_grace_handlers_are_cancelled_and_their_messages_nacked(make_queue: Any) -> None:
    queue, other = make_queue(), make_queue()
    await queue.enqueue("slow")
    begun = asyncio.Event()
    cancelled: list[bool] = []

    async def handle(message: Any) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    stop = asyncio.Event()
    task = asyncio.create_task(queue.process(handle, shutdown_grace=0.1, stop=stop))
    await begun.wait()
    stop.set()
    await asyncio.wait_for(task, 5)
    assert cancelled == [True]
    again = await other.dequeue(2)
    assert (again.body, again.attempt) == ("slow", 2)


async def test_cancelling_drains_and_cancelling_twice_does_not_wait(make_queue: Any) -> None:
    queue = make_queue()
    begun: list[int] = []
    done: list[int] = []

    async def handle(message: Any) -> None:
        begun.append(message.body)
        await asyncio.sleep(0.1 if message.body < 2 else 60)
        done.append(message.body)

    await queue.enqueue_many([0, 1])
    task = asyncio.create_task(queue.process(handle))
    await reached(lambda: len(begun) == 2)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled() and sorted(done) == [0, 1]
    await queue.enqueue(2)
    task = asyncio.create_task(queue.process(handle))
    await reached(lambda: len(begun) == 3)
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()
    await asyncio.wait_for(asyncio.wait({task}), 5)
    assert task.cancelled()
    stats = await queue.stats()
    assert (stats.in_flight, stats.failed) == (0, 1)


async def test_a_handler_whose_lease_was_lost_is_cancelled(
    make_queue: Any, redis_client: Redis, namespace: str
) -> None:
    queue = make_queue(lease=0.6)
    id = await queue.enqueue("x")
    begun, ended = asyncio.Event(), asyncio.Event()
    done: list[int] = []

    async def handle(message: Any) -> None:
        if message.body != "x":
            done.append(message.body)
            return
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with processing(queue, handle, concurrency=1):
        await begun.wait()
        # As if it had expired, and somebody else had it for some years now.
        await redis_client.zadd(f"{namespace}:queue:{{jobs}}:leases", {id: 2**52})
        await asyncio.wait_for(ended.wait(), 5)
        await queue.enqueue_many([1, 2, 3])  # the worker goes on
        await reached(lambda: done == [1, 2, 3])
    assert queue.statistics().lost == 1


async def test_pausing_stops_a_busy_worker(make_queue: Any) -> None:
    queue, operator = make_queue(), make_queue()
    done: list[int] = []

    async def handle(message: Any) -> None:
        done.append(message.body)
        await asyncio.sleep(0.005)

    await queue.enqueue_many(range(2_000))
    async with processing(queue, handle, concurrency=4):
        await reached(lambda: len(done) > 20)
        await operator.pause()
        await asyncio.sleep(0.3)
        before = len(done)
        await asyncio.sleep(0.2)
        assert len(done) == before < 2_000
        await operator.resume()
        await reached(lambda: len(done) > before + 20)


WORKER = """
import asyncio, os, sys

async def handle(message):
    with open(sys.path[0] + "/begun", "a") as log:
        log.write(f"{os.getpid()} {message.body} {message.attempt}\\n")
    await asyncio.sleep(message.headers.get("sleep") and float(message.headers["sleep"]) or 0.002)
    with open(sys.path[0] + "/done", "a") as log:
        log.write(f"{os.getpid()} {message.body}\\n")

not_async = print
"""


def start_worker(folder: Path, url: str, namespace: str, *options: str) -> subprocess.Popen[str]:
    (folder / "tasks.py").write_text(WORKER)
    program = "from aredis_patterns.cli import main; main()"
    command = [sys.executable, "-c", program, "worker", "tasks:handle", "--queue", "jobs", "--url", url]
    command += ["--namespace", namespace, *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def lines(file: Path) -> list[list[str]]:
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


async def test_sigterm_drains_the_worker_of_the_command_line(
    make_queue: Any, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    queue = make_queue()
    for n in range(6):
        await queue.enqueue(n, headers={"sleep": "0.7"})
    worker = start_worker(tmp_path, redis_url, namespace, "--concurrency", "2", "--prefetch", "4")
    try:
        await reached(lambda: len(lines(tmp_path / "begun")) == 2)
        worker.send_signal(signal.SIGTERM)
        rest: list[Any] = []
        while len(rest) < 4:
            rest += await queue.dequeue_many(4, timeout=5)
        assert worker.poll() is None, "given back before the running ones are done"
        output, _ = await asyncio.to_thread(worker.communicate, timeout=20)
    finally:
        end(worker)
    assert worker.returncode == 0, output
    assert {message.attempt for message in rest} == {1}
    assert len(lines(tmp_path / "done")) == 2
    assert "2 done, 0 failed, 4 given back" in output


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("tasks", "module:function"),
        ("nothing_there:handle", "no module 'nothing_there'"),
        ("tasks:not_async", "not an async function"),
        ("tasks:missing", "not an async function"),
    ],
)
def test_a_wrong_handler_is_one_line(target: str, message: str, tmp_path: Path, monkeypatch: Any) -> None:
    from aredis_patterns.cli._worker import find_handler

    (tmp_path / "tasks.py").write_text(WORKER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "tasks", raising=False)
    with pytest.raises(ValueError, match=message):
        find_handler(target)


async def test_workers_are_killed_and_nothing_is_lost(
    make_queue: Any, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """kill -9, again and again: everything is handled; twice only what was in flight on a killed worker."""
    workers, kills, count, every = (20, 10, 20_000, 2.0) if LONG else (2, 2, 600, 0.5)
    queue = make_queue(lease=1)
    running: list[subprocess.Popen[str]] = []
    killed: set[str] = set()

    def start() -> None:
        folder = tmp_path / str(len(running) + len(killed))
        folder.mkdir(exist_ok=True)
        running.append(start_worker(folder, redis_url, namespace, "--concurrency", "8", "--lease", "1"))

    for _ in range(workers):
        start()
    try:
        await queue.enqueue_many(range(count))
        async with asyncio.timeout(90):  # so many interpreters take their time to start
            while (await queue.stats()).done < 30:
                await asyncio.sleep(0.1)
        for _ in range(kills):
            victim = running.pop(0)
            end(victim)
            killed.add(str(victim.pid))
            start()
            await asyncio.sleep(every)
        async with asyncio.timeout(45):
            while (await queue.stats()).done < count:
                await asyncio.sleep(0.05)
    finally:
        for process in running:
            end(process)
    times = Counter(body for _, body in all_lines(tmp_path, "done"))
    assert len(times) == count, "nothing is lost"
    begun = all_lines(tmp_path, "begun")
    on_killed = {body for pid, body, _ in begun if pid in killed}
    twice = {body for body, often in times.items() if often > 1}
    assert twice <= on_killed, "only what a killed worker had in flight"
    again = {body for _, body, attempt in begun if int(attempt) > 1}
    assert len(again) <= kills * 16
    stats = await queue.stats()
    assert (stats.ready, stats.in_flight, stats.dead) == (0, 0, 0)


def all_lines(folder: Path, name: str) -> list[list[str]]:
    return [line for file in folder.rglob(name) for line in lines(file)]


def end(process: subprocess.Popen[str]) -> None:
    """kill -9, and no zombie."""
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
