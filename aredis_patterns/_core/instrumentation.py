"""The hook for metrics and traces: one small call per finished operation, and nothing when nobody listens.

    self._hook = hook_of(client, "locks")                                      # in the constructor of a pattern
    return await self._hook.call("acquire", _outcome, self._acquire, timeout)  # in a public method of it

Listeners belong to a client: `instrument(client, listener)` reaches every pattern on it, also those that exist already.
Scripts report themselves (`layer="script"`, from `_core.script`), so a family is seen before it does anything for it;
`call` adds what the pattern as a whole did and how that ended.

Adapters (Prometheus, OpenTelemetry) are leaves elsewhere; this module knows none of them. What they hear carries no key
and no user value, so whatever they make of it has a bounded number of labels.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

from aredis_patterns._core.observation import (
    Instrumentation,
    Kind,
    Layer,
    Observer,
    Recorder,
    SpanInstrumentation,
    ended_well,
    itself,
    outcome_of_error,
)

__all__ = [
    "Hook",
    "Instrumentation",
    "Kind",
    "Layer",
    "Listeners",
    "Observer",
    "Recorder",
    "SpanInstrumentation",
    "ended_well",
    "hook_of",
    "instrument",
    "listeners_of",
    "outcome_of_error",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Listeners:
    """Who listens on one client. These two attributes are what a call reads; None when nobody does."""

    __slots__ = ("__weakref__", "_all", "patterns", "scripts")

    def __init__(self) -> None:
        self._all: tuple[Instrumentation, ...] = ()
        self.patterns: Observer | None = None
        self.scripts: Observer | None = None

    def __len__(self) -> int:
        return len(self._all)

    def add(self, listener: Instrumentation) -> None:
        self._set((*self._all, listener))

    def remove(self, listener: Instrumentation) -> None:
        at = [each is listener for each in self._all].index(True)
        self._set(self._all[:at] + self._all[at + 1 :])

    def _set(self, listeners: tuple[Instrumentation, ...]) -> None:
        self._all = listeners
        self.patterns = Observer(listeners) if listeners else None
        curious = tuple(each for each in listeners if getattr(each, "scripts", True))
        self.scripts = Observer(curious) if curious else None


_by_client: weakref.WeakKeyDictionary[Any, Listeners] = weakref.WeakKeyDictionary()


def instrument(client: object, listener: Instrumentation) -> Callable[[], None]:
    """Report every operation of every pattern on this client to `listener`. Returns what ends it; safe to call twice. No I/O.

    Cost while nobody listens: one attribute is read per operation.

        stop = instrument(redis, PrometheusInstrumentation())
    """
    listeners = listeners_of(client)
    listeners.add(listener)
    pending = [listener]

    def stop() -> None:
        if pending:
            listeners.remove(pending.pop())

    return stop


def listeners_of(client: object) -> Listeners:
    """Who listens on this client: the same object for everybody on it."""
    found = _by_client.get(client)
    if found is None:
        found = _by_client[client] = Listeners()
    return found


def hook_of(client: object, family: str) -> Hook:
    """The hook of an object of `family` on this client, for its constructor. No I/O."""
    return Hook(family, listeners_of(client))


class Hook:
    """Reports the operations of one object. Nothing is measured, made or awaited while nobody listens."""

    __slots__ = ("_listeners", "family")

    def __init__(self, family: str, listeners: Listeners) -> None:
        self.family: Final = family
        self._listeners: Final = listeners

    @property
    def silent(self) -> bool:
        """Whether nobody listens."""
        return self._listeners.patterns is None

    def call(
        self,
        operation: str,
        outcome: Callable[[T], str],
        function: Callable[[Unpack[Ts]], Coroutine[Any, Any, T]],
        *args: *Ts,
    ) -> Coroutine[Any, Any, T]:
        """`function(*args)`, with a record of its end when somebody listens. The cheapest way to be seen.

            return await self._hook.call("acquire", _outcome, self._acquire, timeout)

        `operation` and what `outcome(result)` returns come from small fixed sets: never a key, never a user's value. An
        error is reported as `outcome_of_error` says, and raised.
        """
        observer = self._listeners.patterns
        if observer is None:
            return function(*args)
        return observer.observe(self.family, operation, "pattern", outcome, function, *args)

    def watched(
        self,
        operation: str,
        outcome: Callable[[T], str],
        function: Callable[[Unpack[Ts]], Coroutine[Any, Any, T]],
    ) -> Callable[[Unpack[Ts]], Coroutine[Any, Any, T]]:
        """`function`, to be called instead of it while somebody listens: `call` for operations of a few microseconds.

        Made once per object, so that no argument is packed twice and a recorder is found by one small word.
        """
        listeners, family = self._listeners, self.family
        known: dict[str, Recorder] = {}
        heard: Observer | None = None

        async def watch(*args: *Ts) -> T:
            nonlocal heard
            observer = listeners.patterns
            if observer is None or observer.spans:
                return await self.call(operation, outcome, function, *args)
            if observer is not heard:
                known.clear()
                heard = observer
            start = perf_counter()
            try:
                result = await function(*args)
            except BaseException as error:
                observer.record(family, operation, outcome_of_error(error), "pattern", perf_counter() - start)
                raise
            seconds, word = perf_counter() - start, outcome(result)
            try:
                known[word](seconds)
            except Exception:  # the first of its kind, or a listener that fails
                observer.record(family, operation, word, "pattern", seconds)
                known[word] = observer.recorder(family, operation, word)
            return result

        return watch

    def around(
        self, operation: str, run: Coroutine[Any, Any, T], outcome: Callable[[T], str] = ended_well
    ) -> Coroutine[Any, Any, T]:
        """As `call`, for a coroutine that is there already. To be awaited at once."""
        observer = self._listeners.patterns
        return run if observer is None else observer.observe(self.family, operation, "pattern", outcome, itself, run)

    def event(self, operation: str, outcome: str, duration: float = 0.0) -> None:
        """Report something that has happened, such as a lease that was lost."""
        observer = self._listeners.patterns
        if observer is not None:
            observer.record(self.family, operation, outcome, "pattern", duration)

    def __repr__(self) -> str:
        return f"<Hook {self.family}, {len(self._listeners)} listening>"
