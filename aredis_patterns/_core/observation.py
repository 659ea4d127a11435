"""What listeners are told, and who tells them: kinds, recorders, spans. How one listens: `instrumentation`."""

from __future__ import annotations

import logging
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
    "Instrumentation",
    "Kind",
    "Layer",
    "Observer",
    "Recorder",
    "SpanInstrumentation",
    "ended_well",
    "itself",
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


def itself(run: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
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
