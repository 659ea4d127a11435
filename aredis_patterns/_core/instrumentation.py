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

import logging
import weakref
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, ExitStack
from time import perf_counter
from typing import (
    Any,
    Final,
    Literal,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    Unpack,
    runtime_checkable,
)

from redis.exceptions import AuthenticationError, AuthorizationError

from aredis_patterns.exceptions import OutcomeUnknown, ServerRefused, ServerUnavailable, WireClosed

__all__ = [
    "Hook",
    "Instrumentation",
    "Kind",
    "Layer",
    "Listeners",
    "Observer",
    "Recorder",
    "SpanInstrumentation",
    "hook_of",
    "instrument",
    "listeners_of",
    "outcome_of_error",
]

_log: Final = logging.getLogger("aredis_patterns")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Layer: TypeAlias = Literal["pattern", "script"]
"""A whole operation of a pattern, or one call of a script: what the pattern waited for on the server."""


class Kind(NamedTuple):
    """What is counted together. There is no place for a key.

    `family` ("ratelimit"), `operation` ("hit", or the name of a script) and `outcome` ("allowed", "refused") come from
    small fixed sets.
    """

    family: str
    operation: str
    outcome: str
    layer: Layer = "pattern"


Recorder: TypeAlias = Callable[[float], None]
"""Called with the duration of one finished operation in seconds, measured by the client."""


class Instrumentation(Protocol):
    """What an adapter implements. With an attribute `scripts = False` it does not hear of single scripts."""

    def recorder(self, kind: Kind, /) -> Recorder:
        """What to call for each finished operation of this kind.

        Asked for once per kind, then called in the event loop once per operation: it must not block. So what is looked
        up or made per kind costs nothing per operation. Errors are logged and go no further.
        """
        ...


@runtime_checkable
class SpanInstrumentation(Protocol):
    """What an adapter implements that wants to be around the operation: a tracer."""

    def recorder(self, kind: Kind, /) -> Recorder:
        """As above; what it returns is called inside the span."""
        ...

    def span(self, family: str, operation: str, layer: Layer, /) -> AbstractContextManager[object]:
        """Entered before the operation and left after it, in the context of its caller."""
        ...


def ended_well(_: object) -> str:
    """The outcome of an operation that has only one good end."""
    return "ok"


def _itself(run: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
    return run


class Observer:
    """Everybody who listens on one client."""

    __slots__ = ("_complained", "_recorders", "listeners", "spans")

    def __init__(self, listeners: tuple[Instrumentation, ...]) -> None:
        self.listeners: Final = listeners
        self._recorders: Final[dict[tuple[str, str, str, Layer], Recorder]] = {}
        self.spans: Final = tuple(each.span for each in listeners if isinstance(each, SpanInstrumentation))
        self._complained = False

    def record(self, family: str, operation: str, outcome: str, layer: Layer, seconds: float) -> None:
        """Tell all listeners. What they raise is logged once: metrics must not break what they measure."""
        recorder = self._recorders.get((family, operation, outcome, layer))
        if recorder is None:
            recorder = self._learn(Kind(family, operation, outcome, layer))
        try:
            recorder(seconds)
        except Exception:
            self._complain(family, operation)

    def recorder(self, family: str, operation: str, outcome: str) -> Recorder:
        """What is called for each end of a kind that `record` has seen."""
        return self._recorders[family, operation, outcome, "pattern"]

    def _learn(self, kind: Kind) -> Recorder:
        recorders: list[Recorder] = []
        for listener in self.listeners:
            try:
                recorders.append(listener.recorder(kind))
            except Exception:
                self._complain(kind.family, kind.operation)

        def tell_all(seconds: float) -> None:
            for recorder in recorders:
                try:
                    recorder(seconds)
                except Exception:
                    self._complain(kind.family, kind.operation)

        found = self._recorders[kind] = recorders[0] if len(recorders) == 1 else tell_all
        return found

    def _complain(self, family: str, operation: str) -> None:
        if not self._complained:
            self._complained = True
            _log.exception("a listener failed on %s.%s; further failures are not logged", family, operation)

    def observe(
        self,
        family: str,
        operation: str,
        layer: Layer,
        outcome: Callable[[T], str],
        function: Callable[[Unpack[Ts]], Awaitable[T]],
        *args: *Ts,
    ) -> Coroutine[Any, Any, T]:
        """`function(*args)`, in the spans of the listeners, who are told how it ended."""
        run = self._timed(family, operation, layer, outcome, function, args)
        return self._in_spans(family, operation, layer, run) if self.spans else run

    async def _in_spans(self, family: str, operation: str, layer: Layer, run: Coroutine[Any, Any, T]) -> T:
        try:
            with ExitStack() as spans:
                for span in self.spans:
                    spans.enter_context(span(family, operation, layer))
                return await run
        finally:
            run.close()  # where a span could not be made, nobody has awaited it

    async def _timed(
        self,
        family: str,
        operation: str,
        layer: Layer,
        outcome: Callable[[T], str],
        function: Callable[[Unpack[Ts]], Awaitable[T]],
        args: tuple[*Ts],
    ) -> T:
        """The coroutine of `function` is made here, at the first step: a task that is cancelled before that leaves
        none behind that nobody has awaited."""
        start = perf_counter()
        try:
            result = await function(*args)
        except BaseException as error:
            self.record(family, operation, outcome_of_error(error), layer, perf_counter() - start)
            raise
        self.record(family, operation, outcome(result), layer, perf_counter() - start)
        return result


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
        return run if observer is None else observer.observe(self.family, operation, "pattern", outcome, _itself, run)

    def event(self, operation: str, outcome: str, duration: float = 0.0) -> None:
        """Report something that has happened, such as a lease that was lost."""
        observer = self._listeners.patterns
        if observer is not None:
            observer.record(self.family, operation, outcome, "pattern", duration)

    def __repr__(self) -> str:
        return f"<Hook {self.family}, {len(self._listeners)} listening>"


def outcome_of_error(error: BaseException) -> str:
    """How an operation ended that raised: one of six words."""
    if isinstance(error, OutcomeUnknown):
        return "unknown"
    if isinstance(error, (ServerUnavailable, WireClosed)):
        return "unavailable"
    if isinstance(error, (ServerRefused, AuthenticationError, AuthorizationError)):
        return "denied"
    if isinstance(error, (CancelledError, GeneratorExit)):
        return "cancelled"
    return "timeout" if isinstance(error, TimeoutError) else "error"
