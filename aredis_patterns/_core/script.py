"""One Lua script: its text, its header, and the only place that calls it and repairs NOSCRIPT.

EVALSHA goes first, always: a server that has seen the script answers in one round trip. A server that has not (it
restarted, failed over, or had SCRIPT FLUSH) answers NOSCRIPT and has executed nothing. Then, and only then, SCRIPT LOAD
and the same EVALSHA are sent back to back on one connection to the node of the key. So a call repairs itself alone:
nothing beside it is sent again, and no SCRIPT EXISTS is ever needed.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from importlib import resources
from typing import Any, Final

from redis.exceptions import AuthenticationError, BusyLoadingError, NoScriptError, ReadOnlyError, ResponseError

from aredis_patterns._core.diagnosis import translate
from aredis_patterns._core.instrumentation import Listeners, ended_well
from aredis_patterns._core.script_header import Header, parse_header
from aredis_patterns.exceptions import ScriptContractError
from aredis_patterns.types import Command, Commands, Encodable, Key

__all__ = ["MOST_REPAIRS", "Script", "assemble"]

MOST_REPAIRS: Final = 3
"""Slots may move and caches may be flushed between repair and call, but not for ever."""

_INCLUDE: Final = re.compile(r"-- INCLUDE (_\w+)\s*")

MOST_SHAPES: Final = 64

_SHORTEST_DEADLINE: Final = 0.001


class Script:
    """A Lua script with a checked contract.

    Guarantee: each call is executed at most once by this library. What was not answered with NOSCRIPT is never repeated
    here; only a script whose header says REPLAY-SAFE (or READ-ONLY) may be sent again by the wire after a lost reply.

    Round trips: one; two when the server does not know the script yet.
    """

    __slots__ = ("_fitting", "_repeatable", "command", "family", "header", "identity", "loading", "name", "sha", "text")

    def __init__(self, name: str, text: str, *, family: str = "scripts") -> None:
        self.name: Final = name
        self.family: Final = family
        self.text: Final = text
        self.sha: Final = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.header: Final[Header] = parse_header(text, name)
        self._fitting: Final[set[tuple[type, int, type, int]]] = set()
        """Numbers of keys and arguments that have been checked before: a hot path has one."""
        self._repeatable: Final = self.header.replay_safe
        # How the server is asked to run it, and to learn it.
        self.command = "EVALSHA_RO" if self.header.read_only else "EVALSHA"
        self.identity = self.sha
        self.loading: Command = ("SCRIPT", "LOAD", text)

    @classmethod
    def load(cls, package: str, name: str, *, parts: Sequence[str] = ()) -> Script:
        """The script `lua/<name>.lua` beside `package`. Reads the file; ScriptContractError if its header is wrong.

        A header line `-- INCLUDE _part` stands for the header lines of `lua/_part.lua`; its code goes before the code of
        the script. `parts` are included after those: what one body needs in one of several forms.
        """
        folder = resources.files(package).joinpath("lua")
        text = assemble(name, lambda each: folder.joinpath(f"{each}.lua").read_text(encoding="utf-8"), parts)
        return cls(name, text, family=package.rpartition(".")[2])

    def __call__(
        self,
        commands: Commands,
        *,
        keys: Sequence[Key],
        args: Sequence[Encodable] = (),
        deadline: float | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Run the script and return its raw reply.

        `deadline` (seconds) covers the call with its repairs. Raises ScriptContractError before any I/O when the number
        of keys or arguments is not what the header says; a subclass of ServerRefused when the server says no in a way
        that has a remedy; other error replies as redis-py gives them; OutcomeUnknown when the reply was lost.

            reply = await SCRIPT(lane_of(client), keys=[key], args=[10], deadline=0.25)
        """
        self._check(keys, args)
        return self._run(commands, keys, args, deadline)

    def begin(
        self,
        commands: Commands,
        keys: Sequence[Key],
        args: Sequence[Encodable],
        deadline: float | None,
        *,
        at_once: bool = False,
    ) -> asyncio.Future[Any] | None:
        """A call without a coroutine, for the hottest paths; None: make a real one.

        The future resolves to the reply, or to an error reply for `finish`. Nothing is checked: the caller's arguments
        come from a typed function.
        """
        submit: Any = getattr(commands, "submit", None)
        listeners: Listeners | None = getattr(commands, "listeners", None)
        if submit is None or (listeners is not None and listeners.scripts is not None):
            return None
        command = (self.command, self.identity, len(keys), *keys, *args)
        found: asyncio.Future[Any] | None = submit(
            command, key=keys[0], deadline=deadline, at_once=at_once, replay_safe=self._repeatable
        )
        return found

    async def finish(
        self,
        error: Exception,
        commands: Commands,
        keys: Sequence[Key],
        args: Sequence[Encodable],
        deadline: float | None,
    ) -> Any:
        """The reply of a call that `begin` began and that was answered with an error: repaired, or raised.

        Called again only when the error says that nothing was executed (a replica refuses the first write).
        """
        if isinstance(error, NoScriptError):
            return await self._call(commands, keys, args, deadline, missing=True)
        if isinstance(error, (BusyLoadingError, ReadOnlyError)):
            return await self._run(commands, keys, args, deadline)
        key = _readable(keys[0])
        known = translate(error, command=f"script {self.name}", key=key)
        raise known from (error if known is not error else None)

    def post(
        self, commands: Commands, *, keys: Sequence[Key], args: Sequence[Encodable] = (), once: bool = False
    ) -> None:
        """Run the script without waiting, behind everything sent before; its reply is dropped. Synchronous.

        The text goes along, because nobody is there to repair NOSCRIPT. Sent again after a lost connection, so only for
        scripts whose second execution changes nothing, as undoing is; for others say `once=True`.
        """
        self._check(keys, args)
        commands.post("EVAL", self.text, len(keys), *keys, *args, key=keys[0], replay_safe=not once)

    async def many(
        self,
        commands: Commands,
        calls: Iterable[tuple[Sequence[Key], Sequence[Encodable]]],
        *,
        deadline: float | None = None,
    ) -> list[Any]:
        """Run the script once for each (keys, args), in one round trip per node, and return the replies in order.

        Not atomic as a whole. All calls are finished before the first error, in order of the calls, is raised; the
        others have taken effect.
        """
        todo = list(calls)
        for keys, args in todo:
            self._check(keys, args)

        async def one(keys: Sequence[Key], args: Sequence[Encodable]) -> Any:
            return await self._run(commands, keys, args, deadline)

        replies = await asyncio.gather(*(one(keys, args) for keys, args in todo), return_exceptions=True)
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return replies

    def _run(
        self, commands: Commands, keys: Sequence[Key], args: Sequence[Encodable], deadline: float | None
    ) -> Coroutine[Any, Any, Any]:
        """One call, seen by whoever listens on the client."""
        listeners: Listeners | None = getattr(commands, "listeners", None)
        if listeners is None or listeners.scripts is None:
            return self._call(commands, keys, args, deadline)
        watch = listeners.scripts.observe
        return watch(self.family, self.name, "script", ended_well, self._call, commands, keys, args, deadline)

    async def _call(
        self,
        commands: Commands,
        keys: Sequence[Key],
        args: Sequence[Encodable],
        deadline: float | None,
        *,
        missing: bool = False,
    ) -> Any:
        """`missing`: the server has just said that it does not know the script."""
        key = keys[0] if keys else None
        command = (self.command, self.identity, len(keys), *keys, *args)
        began = time.monotonic()
        try:
            if not missing:
                try:
                    return await commands.call(*command, key=key, replay_safe=self._repeatable, deadline=deadline)
                except ResponseError as error:
                    if not self.is_missing(error):
                        raise
            until = None if deadline is None else began + deadline
            return await self._repair(commands, command, key, until)
        except (ResponseError, AuthenticationError) as error:
            known = translate(error, command=f"script {self.name}", key=_readable(key))
            if known is error:
                raise
            raise known from error

    async def _repair(self, commands: Commands, command: Command, key: Key | None, until: float | None) -> Any:
        """Load and call, in this order, on the node that answered NOSCRIPT."""
        reply: Any = None
        for _ in range(MOST_REPAIRS):
            # Never zero: a call that was certainly not executed should not end as an unknown outcome of our own making.
            left = None if until is None else max(until - time.monotonic(), _SHORTEST_DEADLINE)
            loaded, reply = await commands.batch(
                [self.loading, command], key=key, replay_safe=self._repeatable, deadline=left
            )
            if not (isinstance(reply, ResponseError) and self.is_missing(reply)):
                break
            if isinstance(loaded, Exception):
                raise loaded
        if isinstance(reply, Exception):
            raise reply
        return reply

    def is_missing(self, error: ResponseError) -> bool:
        """Whether this error reply means that the server does not know the script, and has executed nothing."""
        return isinstance(error, NoScriptError)

    def _check(self, keys: Sequence[Key], args: Sequence[Encodable]) -> None:
        shape = (type(keys), len(keys), type(args), len(args))
        if shape in self._fitting:
            return
        if isinstance(keys, (str, bytes)) or not self.header.takes_keys(len(keys)):
            raise ScriptContractError(f"{self.name} takes KEYS {_names(self.header.keys)}, got {keys!r}")
        if isinstance(args, (str, bytes)) or not self.header.takes_args(len(args)):
            raise ScriptContractError(f"{self.name} takes ARGV {_names(self.header.args)}, got {args!r}")
        if len(self._fitting) < MOST_SHAPES:
            self._fitting.add(shape)

    def __repr__(self) -> str:
        kind = "read-only" if self.header.read_only else "replay-safe" if self._repeatable else "once only"
        return f"<Script {self.name} {self.sha[:8]}, {kind}>"


def assemble(name: str, read: Callable[[str], str], parts: Sequence[str] = ()) -> str:
    """The text of the script `name` with what it includes; `read` gives the text of a file by its name."""
    header, body = _split(read(name))
    known = [number for number, line in enumerate(header) if _INCLUDE.fullmatch(line)]
    at = known[-1] + 1 if known else 1
    header[at:at] = [f"-- INCLUDE {part}" for part in parts]
    lines: list[str] = []
    codes: list[str] = []
    for line in header:
        included = _INCLUDE.fullmatch(line)
        if included is None:
            lines.append(line)
            continue
        above, code = _split(read(included[1]))
        lines += above
        codes.append(code)
    return "\n".join([*lines, *codes, body])


def _split(text: str) -> tuple[list[str], str]:
    """The comment lines at the top, and the rest."""
    lines = text.split("\n")
    end = next((number for number, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return lines[:end], "\n".join(lines[end:])


def _names(fields: Iterable[Any]) -> str:
    return "(" + ", ".join(field.name + ("..." if field.variadic else "") for field in fields) + ")"


def _readable(key: Key | None) -> str | None:
    return key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else key
