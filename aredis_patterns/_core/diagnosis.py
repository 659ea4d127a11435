"""What a user can do about an error of the server or of the network.

redis-py says what happened; this module says what to do. It maps the conditions that have a remedy to our own errors
(each of them also an instance of the redis-py class that it was) and returns everything else as it is.

The inner error of a script arrives as text: Redis 7 and Valkey put the code of the refused command in front
(`READONLY ... script: <sha>, on @user_script:1.`), except for permissions, where they tell it in words.

Messages quote the server's own words and never a password.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

from redis import exceptions as redis_errors
from redis.asyncio.sentinel import MasterNotFoundError, SlaveNotFoundError

from aredis_patterns.exceptions import (
    PatternError,
    PermissionDenied,
    ReadOnlyServer,
    ScriptsDenied,
    ServerOutOfMemory,
    ServerTooOld,
    ServerUnavailable,
    WrongPassword,
)

__all__ = ["check_version", "translate"]

OLDEST_REDIS: Final = (7, 0)
OLDEST_VALKEY: Final = (7, 2)
_NEEDED: Final = "Redis 7.0 or Valkey 7.2 is needed at least"

_IN_SCRIPT: Final = re.compile(r"\s*script: (?:[0-9a-f]{40}, )?on @user_script:\d+\.?$")
_UNKNOWN_COMMAND: Final = re.compile(r"unknown (?:command|subcommand) [`'\"]?([\w|]+)", re.IGNORECASE)
_ACL_COMMAND: Final = re.compile(r"(?:User (\S+)|this user) has no permissions to run the '([^']+)'", re.IGNORECASE)
_ACL_KEY: Final = re.compile(
    r"permissions to access (?:one of the keys|a key)|can't access at least one of the keys", re.I
)
_ACL_CHANNEL: Final = re.compile(r"permissions to access (?:one of the channels|a channel)", re.I)
_ACL_IN_SCRIPT: Final = re.compile(r"^(?:ERR )?(?:The user executing the script can't|ACL failure in script:)", re.I)

_SCRIPT_COMMANDS: Final = {"EVALSHA", "EVAL", "SCRIPT", "LOAD"}
_COMMANDS_SINCE_7: Final = {"EVALSHA_RO", "HELLO"}

# Subclasses of ConnectionError that are about the pool, a moment, or what Sentinel knows; not about the address.
_NOT_THE_ADDRESS: Final = (
    redis_errors.MaxConnectionsError,
    redis_errors.BusyLoadingError,
    MasterNotFoundError,
    SlaveNotFoundError,
)


def translate(
    error: Exception, *, where: str | None = None, command: str | None = None, key: str | None = None
) -> Exception:
    """Our error for `error`, or `error` itself when there is nothing to add. No I/O.

    `where` is the address that was being connected to; only with it does a connection error mean "nobody is there"
    rather than "the reply was lost". `command` and `key` say what was being done. Raise the result `from error`.
    """
    if isinstance(error, PatternError):
        return error
    inner = error.__cause__
    if type(error) is redis_errors.ConnectionError and isinstance(inner, redis_errors.RedisError):
        # Over a unix socket redis-py wraps what the server answered to the handshake.
        answer = translate(inner, where=where, command=command, key=key)
        return error if answer is inner else answer
    subject = _subject(command, key)
    if isinstance(error, redis_errors.AuthenticationError):
        return _marked(WrongPassword(_password_advice(str(error), where)), error)
    if isinstance(error, redis_errors.ResponseError):
        known = _refused(error, subject, key)
        if known is not None:
            return _marked(known, error)
    if where is not None or isinstance(error, (ConnectionRefusedError, socket.gaierror)):
        return _unreachable(error, _without_password(where or "the server")) or error
    return error


def check_version(info: Mapping[str, Any]) -> None:
    """Raise ServerTooOld for a server older than Redis 7.0 or Valkey 7.2. `info` is the reply of INFO, as a mapping.

    A server that does not say what it is passes.
    """
    if "valkey_version" in info:
        name, version, oldest = "Valkey", str(info["valkey_version"]), OLDEST_VALKEY
    else:
        name, version, oldest = "Redis", str(info.get("redis_version", "")), OLDEST_REDIS
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is not None and (int(found[1]), int(found[2])) < oldest:
        raise ServerTooOld(f"the server is {name} {version}, but {_NEEDED}: upgrade it, or use another one")


def _refused(error: redis_errors.ResponseError, subject: str, key: str | None) -> PatternError | None:
    """The answers of a server that is there and says no."""
    text = str(error)
    code = error.status_code or text.partition(" ")[0]
    if code == "NOPERM" or _ACL_IN_SCRIPT.search(text):
        return PermissionDenied(f"{subject}: {_permission_advice(text, key)}")
    for known, make in _BY_CODE.items():
        if code == known:
            return make(subject, _IN_SCRIPT.sub("", text.removeprefix(f"{code} ")))
    unknown = _UNKNOWN_COMMAND.search(text)
    name = unknown[1].upper() if unknown else ""
    if name in _COMMANDS_SINCE_7:
        return ServerTooOld(
            f"{subject}: the server has no command {name} (too old, or the command is disabled); {_NEEDED}"
        )
    if name in _SCRIPT_COMMANDS:
        return ScriptsDenied(
            f"{subject}: the server has no command {name} (renamed or disabled in its configuration, or a proxy in "
            f"between); allow EVALSHA, EVALSHA_RO and SCRIPT LOAD"
        )
    return None


def _read_only(subject: str, said: str) -> PatternError:
    return ReadOnlyServer(
        f"{subject}: this server is a read-only replica ({said}); connect to its primary, or through Sentinel or a "
        f"Cluster client that finds it"
    )


def _out_of_memory(subject: str, said: str) -> PatternError:
    return ServerOutOfMemory(
        f"{subject}: the server has reached maxmemory and may not evict ({said}); free memory, raise maxmemory, or "
        f"choose another maxmemory-policy"
    )


def _password(subject: str, said: str) -> PatternError:
    return WrongPassword(f"{subject}: {_password_advice(said, None)}")


_BY_CODE: Final[dict[str, Callable[[str, str], PatternError]]] = {
    "READONLY": _read_only,
    "OOM": _out_of_memory,
    "WRONGPASS": _password,
    "NOAUTH": _password,
}


def _permission_advice(text: str, key: str | None) -> str:
    command = _ACL_COMMAND.search(text)
    user = command[1] if command and command[1] else "<user>"
    if command:
        rule = (
            f"+{command[2]}" if command[2].lower() not in ("evalsha", "evalsha_ro") else f"+{command[2]} +script|load"
        )
        advice = f"no permission to run {command[2].upper()}; grant it with: ACL SETUSER {user} {rule}"
    elif _ACL_KEY.search(text):
        pattern = f"~{key.partition('{')[0]}*" if key and "{" in key else "~<pattern>"
        advice = f"no permission for the key; grant its pattern with: ACL SETUSER {user} {pattern}"
    elif _ACL_CHANNEL.search(text):
        advice = f"no permission for the channel; grant its pattern with: ACL SETUSER {user} &<pattern>"
    else:
        advice = f"no permission ({_IN_SCRIPT.sub('', text)}); grant it with: ACL SETUSER {user} +<command>"
    if _ACL_IN_SCRIPT.search(text):
        # Unlike READONLY and OOM this can come in the middle: writes before it stay.
        advice += (
            " (refused inside the script: ACL LOG on the server names the command, and what it wrote before stays)"
        )
    return advice


def _password_advice(said: str, where: str | None) -> str:
    place = f"{_without_password(where)}: " if where else ""
    if "without any password configured" in said or "no password is set" in said:
        return f"{place}the server has no password, but one was given; leave it out"
    if "HELLO must be called" in said or "Authentication required" in said:
        return f"{place}the server wants a password and none was given; use redis://[user]:password@host:port"
    return f"{place}user name or password are wrong ({said.rstrip('.')}); check the URL and the ACL user"


def _unreachable(error: Exception, where: str) -> PatternError | None:
    """What an error means that came up while connecting to `where`."""
    if isinstance(error, _NOT_THE_ADDRESS):
        return None
    if isinstance(error, redis_errors.InvalidResponse):
        return ServerUnavailable(f"{where} answers, but does not speak the Redis protocol; check host, port and TLS")
    text = str(error)
    if isinstance(error, redis_errors.ResponseError):
        if text.startswith("DENIED"):
            return ServerUnavailable(f"{where} is in protected mode; give it a password, or connect from its own host")
        return None
    if not isinstance(error, (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError, asyncio.TimeoutError)):
        return None
    root = _root(error)
    if isinstance(root, ConnectionRefusedError):
        advice = "nobody listens there (connection refused); start the server, or check host and port"
    elif isinstance(root, socket.gaierror):
        advice = "this host name is not known; check the URL and DNS"
    elif isinstance(root, (FileNotFoundError, PermissionError)):
        advice = f"the socket cannot be opened ({root.strerror}); check its path and rights"
    elif isinstance(root, (TimeoutError, redis_errors.TimeoutError)):
        advice = "no answer in time; check host, port and firewall"
    elif "max number of clients" in text:
        advice = "the server has no room for another connection; raise its maxclients, or use fewer"
    else:
        advice = f"cannot connect ({text or type(error).__name__})"
    # redis-py's own sentence names the address already, and programs search for it.
    return ServerUnavailable(
        f"{text} {advice[0].upper()}{advice[1:]}" if text.startswith("Error ") else f"{where}: {advice}"
    )


def _root(error: BaseException) -> BaseException:
    """redis-py wraps the error of the operating system, as its cause or only as its context."""
    seen = {id(error)}
    below = error.__cause__ or error.__context__
    while below is not None and id(below) not in seen and isinstance(below, (OSError, redis_errors.RedisError)):
        seen.add(id(below))
        error = below
        below = error.__cause__ or error.__context__
    return error


def _subject(command: str | None, key: str | None) -> str:
    what = command or "the command"
    return f"{what} on key {key!r}" if key is not None else what


def _without_password(where: str) -> str:
    """A URL may carry credentials before its last @, or in its query."""
    return re.sub(r"//.*@", "//", where.partition("?")[0])


def _marked(known: Exception, error: Exception) -> Exception:
    """Callers of redis-py look at `status_code`: keep it."""
    code = getattr(error, "status_code", None)
    if code is not None:
        known.status_code = code  # type: ignore[attr-defined]
    return known
