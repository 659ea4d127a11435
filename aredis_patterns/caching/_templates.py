"""Key templates: "user:{user_id}", checked against the function's parameters when it is decorated.

    "user:{user_id}:posts"      a parameter
    "user:{user.id}"            an attribute of one

Between two fields stands something that no plain value contains, such as ":" or "/", so the parts cannot run into each
other. Without a template the key is the function's full name and all its arguments.
"""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Callable, Mapping
from typing import Any, Final

from aredis_patterns.caching._key_text import key_text

__all__ = ["Template", "whole_call"]

_RUNS_INTO: Final = re.compile(r"[A-Za-z0-9_.@-]*\Z")
_PATH: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")


class Template:
    """Makes text from the arguments of a call. ValueError at once when it does not fit the function."""

    def __init__(self, text: str, signature: inspect.Signature, where: str) -> None:
        self.text: Final = text
        parts: list[tuple[str, tuple[str, ...] | None]] = []
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"{where}: {text!r} is no template: {error}") from None
        for number, (literal, field, spec, conversion) in enumerate(parsed):
            if field is None:
                parts.append((literal, None))
                continue
            if spec or conversion or not _PATH.match(field):
                raise ValueError(
                    f"{where}: {{{field}}} in {text!r} must be a parameter, or an attribute of one, no more"
                )
            if number and _RUNS_INTO.match(literal):
                raise ValueError(
                    f"{where}: put something like ':' before {{{field}}} in {text!r}, or two keys could meet"
                )
            path = tuple(field.split("."))
            if path[0] not in signature.parameters:
                known = ", ".join(signature.parameters) or "none"
                raise ValueError(f"{where}: {{{path[0]}}} in {text!r} is no parameter; there are: {known}")
            parts.append((literal, path))
        self._parts: Final = parts

    def __call__(self, arguments: Mapping[str, Any]) -> str:
        """The text for these arguments. TypeError when one of them has no stable text."""
        pieces: list[str] = []
        for literal, path in self._parts:
            pieces.append(literal)
            if path is not None:
                value = arguments[path[0]]
                for name in path[1:]:
                    value = getattr(value, name)
                pieces.append(key_text(value))
        return "".join(pieces)


def whole_call(function: Callable[..., Any]) -> Callable[[Mapping[str, Any]], str]:
    """The key of a function without a template: its name and every argument, `self` included."""
    name = f"{function.__module__}.{function.__qualname__}"

    def make(arguments: Mapping[str, Any]) -> str:
        return f"{name}({','.join(f'{key}={key_text(value)}' for key, value in arguments.items())})"

    return make
