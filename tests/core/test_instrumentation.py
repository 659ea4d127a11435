"""The hook: no place for keys, nothing when nobody listens, and errors that never leave it."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from aredis_patterns import (
    FixedWindowLimiter,
    Kind,
    OutcomeUnknown,
    Patterns,
    PermissionDenied,
    ServerUnavailable,
    instrument,
)
from aredis_patterns._core.instrumentation import Layer, hook_of, listeners_of, outcome_of_error
from aredis_patterns._core.script import Script


class Recorder:
    scripts = True

    def __init__(self) -> None:
        self.events: list[tuple[Kind, float]] = []
        self.asked: list[Kind] = []

    def recorder(self, kind: Kind, /) -> Callable[[float], None]:
        self.asked.append(kind)
        return lambda seconds: self.events.append((kind, seconds))

    def seen(self, layer: Layer = "pattern") -> list[tuple[str, str, str]]:
        return [kind[:3] for kind, _ in self.events if kind.layer == layer]


class Tracer(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.spans: list[str] = []

    @contextmanager
    def span(self, family: str, operation: str, layer: Layer, /) -> Iterator[None]:
        self.spans.append(f"+{operation}")
        try:
            yield
        finally:
            self.spans.append(f"-{operation}")


async def give(value: Any) -> Any:
    await asyncio.sleep(0)
    if isinstance(value, BaseException):
        raise value
    return value


def test_there_is_no_place_for_a_key() -> None:
    assert Kind._fields == ("family", "operation", "outcome", "layer")


async def test_a_recorder_is_asked_for_once_per_kind() -> None:
    client, recorder = Redis(), Recorder()
    instrument(client, recorder)
    hook = hook_of(client, "locks")
    for _ in range(3):
        await hook.around("acquire", give(1))
        hook.event("lost", "expired")
    assert recorder.asked == [Kind("locks", "acquire", "ok"), Kind("locks", "lost", "expired")]
    assert len(recorder.events) == 6


async def test_nobody_listens_and_the_operation_is_untouched() -> None:
    hook = hook_of(Redis(), "locks")
    run = give(1)
    assert hook.around("acquire", run) is run
    assert await run == 1
    hook.event("lost", "expired")  # nobody to tell


async def test_a_listener_hears_of_objects_that_existed_before_it_came() -> None:
    client, recorder = Redis(), Recorder()
    hook = hook_of(client, "locks")
    stop = instrument(client, recorder)
    assert await hook.around("acquire", give(True), lambda got: "acquired" if got else "timeout") is True
    hook.event("lost", "expired")
    stop()
    await hook.around("acquire", give(True))
    assert recorder.seen() == [("locks", "acquire", "acquired"), ("locks", "lost", "expired")]
    assert recorder.events[0][1] > 0


async def test_each_client_has_its_own_listeners() -> None:
    one, other, recorder = Redis(), Redis(), Recorder()
    instrument(one, recorder)
    await hook_of(other, "locks").around("acquire", give(1))
    assert recorder.events == []


async def test_one_listener_twice_is_told_twice_and_stopped_once() -> None:
    client, recorder = Redis(), Recorder()
    hook = hook_of(client, "locks")
    stop = instrument(client, recorder)
    instrument(client, recorder)
    await hook.around("acquire", give(1))
    stop()
    stop()
    await hook.around("acquire", give(1))
    assert len(recorder.events) == 3


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (OutcomeUnknown("SET"), "unknown"),
        (ServerUnavailable("x"), "unavailable"),
        (PermissionDenied("x"), "denied"),
        (TimeoutError(), "timeout"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyError("x"), "error"),
    ],
)
async def test_an_error_is_reported_and_raised(error: BaseException, outcome: str) -> None:
    client, recorder = Redis(), Recorder()
    instrument(client, recorder)
    with pytest.raises(type(error)):
        await hook_of(client, "locks").around("acquire", give(error))
    assert recorder.seen() == [("locks", "acquire", outcome)]
    assert outcome_of_error(error) == outcome


class Broken:
    """Fails when it is asked, or when it is told."""

    def __init__(self, when: str) -> None:
        self.when = when

    def recorder(self, kind: Kind, /) -> Callable[[float], None]:
        if self.when == "asked":
            raise RuntimeError("no more labels")
        return self.fail

    def fail(self, seconds: float) -> None:
        raise RuntimeError("full")


@pytest.mark.parametrize("when", ["asked", "told"])
@pytest.mark.parametrize("alone", [True, False])
async def test_a_listener_that_fails_harms_nobody_and_is_logged_once(
    caplog: pytest.LogCaptureFixture, when: str, alone: bool
) -> None:
    client, recorder = Redis(), Recorder()
    instrument(client, Broken(when))
    if not alone:
        instrument(client, recorder)
    hook = hook_of(client, "locks")
    with caplog.at_level(logging.ERROR, "aredis_patterns"):
        assert [await hook.around("acquire", give(n)) for n in range(3)] == [0, 1, 2]
    assert len(recorder.events) == (0 if alone else 3)
    assert len(caplog.records) == 1


async def test_spans_are_around_the_operation_and_the_event_is_inside() -> None:
    client, tracer = Redis(), Tracer()
    instrument(client, tracer)
    hook = hook_of(client, "caching")
    with pytest.raises(KeyError):
        await hook.around("get", hook.around("load", give(KeyError())))
    assert tracer.spans == ["+get", "+load", "-load", "-get"]


async def test_a_client_is_not_kept_alive_by_its_listeners() -> None:
    client = Redis()
    instrument(client, Recorder())
    hook = hook_of(client, "locks")
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    assert await hook.around("acquire", give(1)) == 1


async def test_scripts_and_patterns_report_themselves(redis_client: Redis, namespace: str) -> None:
    recorder = Recorder()
    limiter = FixedWindowLimiter(redis_client, "2/hour", namespace=namespace, deadline=5)
    await limiter.hit("u")
    async with Patterns(redis_client, namespace=namespace, instrumentation=recorder):
        await limiter.hit("u")
        await limiter.hit("u")
        await limiter.peek("u")
        await limiter.hit_many([("v", 1), ("v", 2)])
    await limiter.hit("u")
    assert recorder.seen() == [
        ("ratelimit", "hit", "allowed"),
        ("ratelimit", "hit", "refused"),
        ("ratelimit", "peek", "refused"),
        ("ratelimit", "hit", "allowed"),
        ("ratelimit", "hit", "refused"),
    ]
    assert recorder.seen("script") == [("ratelimit", "hit", "ok")] * 4  # hit_many is one
    assert listeners_of(redis_client).patterns is None is listeners_of(redis_client).scripts


async def test_a_listener_may_do_without_scripts(redis_client: Redis, namespace: str) -> None:
    recorder = Recorder()
    recorder.scripts = False
    instrument(redis_client, recorder)
    await FixedWindowLimiter(redis_client, "2/hour", namespace=namespace, deadline=5).hit("u")
    assert recorder.seen() == [("ratelimit", "hit", "allowed")]
    assert recorder.seen("script") == []


async def test_a_hub_of_its_own_client_is_instrumented(namespace: str) -> None:
    recorder = Recorder()
    async with Patterns.from_url("embedded://", namespace=namespace, instrumentation=recorder) as p:
        await p.rate_limiter("1/hour", deadline=5).hit("u")
    assert recorder.seen() == [("ratelimit", "hit", "allowed")]


async def test_a_call_cancelled_before_it_began_leaves_no_coroutine_behind(redis_client: Redis) -> None:
    """RuntimeWarning "never awaited" is an error in this suite."""
    instrument(redis_client, Recorder())
    limiter = FixedWindowLimiter(redis_client, "2/hour", deadline=5)
    for make in (lambda: limiter.hit("u"), lambda: limiter.hit_many([("u", 1), ("u", 1)])):
        for ticks in range(3):
            task = asyncio.ensure_future(make())
            for _ in range(ticks):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    gc.collect()


def test_a_script_of_a_user_has_a_family_of_its_own() -> None:
    lines = ["add.", "", "KEYS[1] k  string  <k>  a number", "RETURN[1] v  units  it", "READ-ONLY no", "REPLAY-SAFE no"]
    text = "".join(f"-- {line}\n" for line in lines) + "return 1"
    assert Script("add", text).family == "scripts"


@pytest.mark.parametrize("alone", [True, False])
async def test_a_watched_function_is_called_in_its_place(caplog: pytest.LogCaptureFixture, alone: bool) -> None:
    """The form for the hottest operations: the same records, spans and safety."""
    client, recorder, tracer = Redis(), Recorder(), Tracer()
    watched = hook_of(client, "locks").watched("acquire", lambda got: "acquired" if got else "timeout", give)
    assert await watched(True) is True
    stop = instrument(client, recorder)
    assert [await watched(value) for value in (True, False, True)] == [True, False, True]
    with pytest.raises(KeyError):
        await watched(KeyError())
    assert [kind.outcome for kind, _ in recorder.events] == ["acquired", "timeout", "acquired", "error"]
    stop()
    if not alone:
        instrument(client, recorder)
    instrument(client, Broken("told"))
    with caplog.at_level(logging.ERROR, "aredis_patterns"):
        assert [await watched(value) for value in (True, True)] == [True, True]
    assert len(caplog.records) == 1
    assert len(recorder.events) == (4 if alone else 6)
    instrument(client, tracer)
    await watched(False)
    assert tracer.spans == ["+acquire", "-acquire"]
    assert tracer.seen() == [("locks", "acquire", "timeout")]


async def test_called_through_the_hook_nothing_is_made_before_the_first_step() -> None:
    client = Redis()
    hook = hook_of(client, "locks")
    recorder = Recorder()
    assert await hook.call("acquire", str, give, 1) == 1
    instrument(client, recorder)
    assert await hook.call("acquire", str, give, 1) == 1
    never = asyncio.ensure_future(hook.call("acquire", str, give, 1))
    never.cancel()
    with pytest.raises(asyncio.CancelledError):
        await never
    gc.collect()
    assert recorder.seen() == [("locks", "acquire", "1")]
