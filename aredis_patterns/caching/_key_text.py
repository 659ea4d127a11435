"""Python values as text for keys: different values, different text.

1 and "1", None and "", ["a", "b"] and "a:b" never meet: a plain word stands for itself, everything else shows its type.

    word        a str of letters, digits, `_ . @ -` that no other value is written as
    "a:b"       any other str, in JSON
    1  1.0  True  None  b"00ff"  [1,2]  (1,)  {1,2}  {a=1=}  uuid.UUID(...)  <shop.Color.RED>  shop.User(name=Ada)

A value without a stable text (an object with the default repr) is a TypeError; `__cache_key__` gives it one.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["key_text"]

_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]*\Z")
_TAKEN: Final = frozenset({"None", "True", "False", "nan", "inf"})

_STAMPED: Final = (datetime.datetime, datetime.date, datetime.time)


def key_text(value: object) -> str:
    """The text of a value. TypeError when it has none that is the same in every process."""
    if isinstance(value, enum.Enum):
        return f"<{_name(value)}.{value.name}>"
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, str):
        return str(value) if _WORD.match(value) and value not in _TAKEN else json.dumps(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f'b"{bytes(value).hex()}"'
    return _compound(value)


def _compound(value: Any) -> str:
    own: Any = getattr(type(value), "__cache_key__", None)
    if own is not None:
        return f"{_name(value)}({key_text(own(value))})"
    if isinstance(value, list):
        return f"[{','.join(map(key_text, value))}]"
    if isinstance(value, tuple):
        return (
            f"({','.join(map(key_text, value))},)" if type(value) is tuple else f"{_name(value)}{_compound((*value,))}"
        )
    if isinstance(value, (set, frozenset)):
        return f"{{{','.join(sorted(map(key_text, value)))}}}"
    if isinstance(value, Mapping):
        return f"{{{','.join(sorted(f'{key_text(key)}={key_text(item)}' for key, item in value.items()))}=}}"
    if isinstance(value, _STAMPED):
        return f"{_name(value)}({value.isoformat()})"
    if isinstance(value, (uuid.UUID, decimal.Decimal, datetime.timedelta)):
        return f"{_name(value)}({value!s})"
    names = _fields(value)
    if names is None:
        raise TypeError(
            f"a {type(value).__qualname__} has no text for a key that is the same in every process: "
            f"name what matters in a template, or give it a method __cache_key__"
        )
    return f"{_name(value)}({','.join(f'{name}={key_text(getattr(value, name))}' for name in names)})"


def _name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _fields(value: Any) -> tuple[str, ...] | None:
    """The fields of a record; None for anything else."""
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    for attribute in ("__struct_fields__", "model_fields"):
        found: Any = getattr(type(value), attribute, None)
        if found is not None:
            return tuple(found)
    return None
