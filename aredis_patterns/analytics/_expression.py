"""Set expressions over bitmaps: written with `&`, `|`, `-` and `^`, compiled to one program, or read chunk by chunk.

    regulars = (tracker.day("2026-11-24") & tracker.day("2026-11-25")) - tracker.flag("staff")
    await regulars.count()                 # one script
    async for user_id in regulars: ...     # one round trip per 65,536 ids

An expression is a value: it holds no data and does nothing until it is asked. Difference is A xor (A and B), because Redis'
NOT fills the last byte with ones that nobody has set.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from operator import and_, or_, xor
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aredis_patterns._core.checks import check_whole

if TYPE_CHECKING:
    from aredis_patterns.analytics._activity import ActivityTracker

__all__ = ["Combination", "Expression", "Leaf", "Program", "compile_counts", "intersection_of", "union_of"]

CHUNK_BYTES: Final = 8192
_FOLD: Final[Mapping[str, Callable[[int, int], int]]] = {"AND": and_, "OR": or_, "XOR": xor}
_SIGN: Final = {"AND": " & ", "OR": " | ", "XOR": " ^ ", "DIFF": " - "}
# Which bits are set in each byte; Redis counts them from the left.
_BITS: Final = tuple(tuple(at for at in range(8) if byte & (128 >> at)) for byte in range(256))


class Expression(ABC):
    """A set of ids. Combine with `&`, `|`, `-`, `^`; all parts must be of one tracker."""

    __slots__ = ()
    tracker: ActivityTracker

    def __and__(self, other: Expression) -> Expression:
        return _combine("AND", (self, other))

    def __or__(self, other: Expression) -> Expression:
        return _combine("OR", (self, other))

    def __xor__(self, other: Expression) -> Expression:
        return _combine("XOR", (self, other))

    def __sub__(self, other: Expression) -> Expression:
        return _combine("DIFF", (self, other))

    async def count(self) -> int:
        """How many ids are in it. One round trip, exact, atomic, O(bytes of all bitmaps in it)."""
        return (await self.tracker.count_many([self]))[0]

    async def contains(self, user_id: int) -> bool:
        """Whether the id is in it. One round trip, O(bitmaps in it); each bitmap is read by itself."""
        leaves = list(dict.fromkeys(self.leaves()))
        bits = await self.tracker.read([("GETBIT", leaf, self.tracker.check_id(user_id)) for leaf in leaves])
        return bool(self.evaluate({leaf: int(bit) for leaf, bit in zip(leaves, bits, strict=True)}))

    async def ids(self, *, chunk: int = CHUNK_BYTES, start: int = 0) -> AsyncGenerator[int, None]:
        """Every id from `start` on, in rising order. One round trip per chunk; memory for one chunk.

        `chunk` is in bytes of each bitmap: 8 ids per byte. Nothing is written and nothing is held on the server; what is
        marked meanwhile is seen if it lies ahead.
        """
        check_whole(chunk, "chunk", 1, 1 << 24)
        first = self.tracker.check_id(start) // 8
        leaves = list(dict.fromkeys(self.leaves()))
        while True:
            asked = [("GETRANGE", leaf, first, first + chunk - 1) for leaf in leaves]
            parts: list[bytes] = await self.tracker.read(asked)
            if not any(parts):
                return
            size = max(map(len, parts))
            # Padded on the right, so that bit 0 of each is the same id.
            numbers = [int.from_bytes(part.ljust(size, b"\0"), "big") for part in parts]
            found = self.evaluate(dict(zip(leaves, numbers, strict=True)))
            for user_id in _set_bits(found.to_bytes(size, "big"), first * 8):
                if user_id >= start:
                    yield user_id
            first += chunk

    def __aiter__(self) -> AsyncIterator[int]:
        return self.ids()

    @abstractmethod
    def leaves(self) -> Iterable[str]:
        """The keys that it reads."""

    @abstractmethod
    def evaluate(self, values: Mapping[str, int]) -> int:
        """Its bits, given those of its leaves."""


@dataclass(frozen=True, slots=True)
class Leaf(Expression):
    """One bitmap."""

    tracker: ActivityTracker = field(compare=False, repr=False)
    key: str
    label: str = field(compare=False)

    def leaves(self) -> Iterable[str]:
        return (self.key,)

    def evaluate(self, values: Mapping[str, int]) -> int:
        return values[self.key]

    def __repr__(self) -> str:
        return self.label


@dataclass(frozen=True, slots=True, eq=True)
class Combination(Expression):
    """Two expressions or more under one operator: "AND", "OR", "XOR", or "DIFF" of exactly two."""

    tracker: ActivityTracker = field(compare=False, repr=False)
    operator: str
    parts: tuple[Expression, ...]
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Once per node, not once per look: a compiler asks for each node often, and hashes of parts would be hashed again.
        object.__setattr__(self, "_hash", hash((self.operator, self.parts)))

    def __hash__(self) -> int:
        return self._hash

    def leaves(self) -> Iterable[str]:
        for part in self.parts:
            yield from part.leaves()

    def evaluate(self, values: Mapping[str, int]) -> int:
        found = [part.evaluate(values) for part in self.parts]
        return found[0] & ~found[1] if self.operator == "DIFF" else reduce(_FOLD[self.operator], found)

    def __repr__(self) -> str:
        return "(" + _SIGN[self.operator].join(map(repr, self.parts)) + ")"


def union_of(expressions: Sequence[Expression]) -> Expression:
    """All of them together: one step however many there are. ValueError for none."""
    return _combine("OR", expressions)


def intersection_of(expressions: Sequence[Expression]) -> Expression:
    """What is in every one of them: one step however many there are. ValueError for none."""
    return _combine("AND", expressions)


def _combine(operator: str, sides: Sequence[Expression]) -> Expression:
    if not sides:
        raise ValueError("name a set, or a day, at least")
    first, parts = sides[0], list[Expression]()
    for side in sides:
        if not isinstance(side, Expression):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"only sets can be combined, got {side!r}")
        if side.tracker is not first.tracker:
            raise ValueError(f"only sets of one tracker can be combined, got {first!r} and {side!r}")
        if isinstance(side, Combination) and side.operator == operator and operator != "DIFF":
            parts += side.parts  # (a & b) & c is one step of three
        else:
            parts.append(side)
    return first if len(sides) == 1 else Combination(first.tracker, operator, tuple(parts))


class Program(NamedTuple):
    """What `evaluate_sets` runs: sets, number of scratch registers behind them, steps as JSON."""

    sets: list[str]
    scratch: int
    steps: str


@lru_cache(maxsize=128)
def compile_counts(expressions: tuple[Expression, ...]) -> Program:
    """One program that counts each expression. What they share is computed once; registers are used again.

    Pure, O(nodes); the same question is not compiled twice in a row.
    """
    compiler = _Compiler(expressions)
    for expression in expressions:
        compiler.count(expression)
    return Program(compiler.sets, compiler.scratch, json.dumps(compiler.steps, separators=(",", ":")))


class _Compiler:
    def __init__(self, expressions: Sequence[Expression]) -> None:
        self.sets = list(dict.fromkeys(key for expression in expressions for key in expression.leaves()))
        self.steps: list[list[Any]] = []
        self.scratch = 0
        self._place = {key: number for number, key in enumerate(self.sets, 1)}
        self._made: dict[Expression, int] = {}
        self._free: list[int] = []
        self._uses: dict[Expression, int] = {}
        for expression in expressions:
            self._expect(expression)

    def count(self, expression: Expression) -> None:
        self.steps.append(["COUNT", self._make(expression)])
        self._used(expression)

    def _expect(self, expression: Expression) -> None:
        """One more use of this node; its parts are used by it once, however often it is used itself."""
        self._uses[expression] = self._uses.get(expression, 0) + 1
        if self._uses[expression] == 1 and isinstance(expression, Combination):
            for part in expression.parts:
                self._expect(part)

    def _make(self, expression: Expression) -> int:
        if isinstance(expression, Leaf):
            return self._place[expression.key]
        if expression in self._made:
            return self._made[expression]
        assert isinstance(expression, Combination)
        sources = [self._make(part) for part in expression.parts]
        register = self._take()
        if expression.operator == "DIFF":
            self.steps += [["AND", register, *sources], ["XOR", register, sources[0], register]]
        else:
            self.steps.append([expression.operator, register, *sources])
        for part in expression.parts:
            self._used(part)
        self._made[expression] = register
        return register

    def _take(self) -> int:
        if self._free:
            return self._free.pop()
        self.scratch += 1
        return len(self.sets) + self.scratch

    def _used(self, expression: Expression) -> None:
        self._uses[expression] -= 1
        if not self._uses[expression] and expression in self._made:
            self._free.append(self._made.pop(expression))


def _set_bits(data: bytes, offset: int) -> Iterable[int]:
    for at, byte in enumerate(data):
        if byte:
            base = offset + at * 8
            for bit in _BITS[byte]:
                yield base + bit
