"""Scripts of the user: the same header, the same checks, the same repair as ours.

-- Adds to a counter, up to a limit.
--
-- KEYS[1] counter  string  <user's key>
-- ARGV[1] most     units   the limit
-- RETURN[1] value  units   the counter after this
-- READ-ONLY no
-- REPLAY-SAFE no
--
local value = tonumber(redis.call('GET', KEYS[1]) or 0)
...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, overload

from redis.exceptions import ResponseError

from aredis_patterns._core.durations import to_seconds
from aredis_patterns._core.script import Script
from aredis_patterns.pipelining import lane_of
from aredis_patterns.types import Encodable, Key, RedisClient, Seconds

__all__ = ["FunctionScript", "UserScript"]

T = TypeVar("T")


class UserScript(Generic[T]):
    """A Lua file that is called like a function.

    Guarantee: at most once; sent again after a lost reply only when its header says REPLAY-SAFE (or READ-ONLY). A script
    that is READ-ONLY runs with EVALSHA_RO, so it cannot write by accident. NOSCRIPT is repaired without SCRIPT EXISTS.

    Round trips: one; two when the server does not know the script yet.

    Args:
        source: the path of a `.lua` file with a header (see the module), or a `Script`.
        returns: makes the result out of the raw reply; without it the raw reply is the result.
        as_function: keep it in the server as a function of Redis 7 (FCALL): it survives restarts and failovers, and
            needs the permission for FUNCTION LOAD. Its name carries its hash, so versions live side by side.

    Raises ScriptContractError, at once for a wrong header and before any I/O for a wrong number of keys or arguments.

        add = UserScript(redis, "lua/add_up_to.lua", returns=lambda reply: int(reply[0]))
        value = await add(keys=["views"], args=[100])
    """

    @overload
    def __init__(
        self: UserScript[Any],
        client: RedisClient,
        source: str | PathLike[str] | Script,
        *,
        as_function: bool = False,
    ) -> None: ...

    @overload
    def __init__(
        self,
        client: RedisClient,
        source: str | PathLike[str] | Script,
        *,
        returns: Callable[[Any], T],
        as_function: bool = False,
    ) -> None: ...

    def __init__(
        self,
        client: RedisClient,
        source: str | PathLike[str] | Script,
        *,
        returns: Callable[[Any], T] | None = None,
        as_function: bool = False,
    ) -> None:
        self._commands: Final = lane_of(client)
        self._returns: Final = returns
        script = source if isinstance(source, Script) else _read(source)
        self.script: Final = FunctionScript(script.name, script.text) if as_function else script

    async def __call__(
        self, *, keys: Sequence[Key] = (), args: Sequence[Encodable] = (), deadline: Seconds | None = None
    ) -> T:
        """Run it. `deadline`: seconds until ReplyTimeout; None: as long as the client's `socket_timeout`."""
        seconds = None if deadline is None else to_seconds(deadline, "deadline")
        reply: Any = await self.script(self._commands, keys=keys, args=args, deadline=seconds)
        result: T = reply if self._returns is None else self._returns(reply)
        return result

    def __repr__(self) -> str:
        return f"<UserScript {self.script!r}>"


def _read(path: str | PathLike[str]) -> Script:
    file = Path(path)
    return Script(file.stem, file.read_text(encoding="utf-8"))


class FunctionScript(Script):
    """A script that lives in the server as a function: FCALL instead of EVALSHA, FUNCTION LOAD instead of SCRIPT LOAD."""

    __slots__ = ()

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text)
        flags = ", flags={'no-writes'}" if self.header.read_only else ""
        self.identity = f"ap_{self.sha[:16]}"
        self.command = "FCALL_RO" if self.header.read_only else "FCALL"
        self.loading = (
            "FUNCTION",
            "LOAD",
            "REPLACE",
            f"#!lua name={self.identity}\n"
            f"redis.register_function{{function_name='{self.identity}'{flags}, callback=function(KEYS, ARGV)\n"
            f"{text}\nend}}\n",
        )

    def is_missing(self, error: ResponseError) -> bool:
        return "Function not found" in str(error)
