"""JSON with the standard library alone, with the meaning that msgspec gives it.

Knows: None, bool, int, float, str, list, tuple, set, frozenset, dict, Optional and Union, Literal, Annotated, Enum,
dataclass, TypedDict, datetime, date, time, UUID, Decimal and bytes (base64). For other types install msgspec
(`pip install 'aredis-patterns[codecs]'`).

Strict like msgspec: "1" is no int, 1.0 is no int, 1 is a float; missing fields are errors, unknown fields are not.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Annotated, Any, Final, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints
from typing import is_typeddict as _is_typeddict
from uuid import UUID

__all__ = ["dump", "parser"]

_INSTALL: Final = "install msgspec (pip install 'aredis-patterns[codecs]')"


def dump(value: Any) -> bytes:
    """Compact JSON. TypeError or ValueError when the value has no JSON form."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def parser(model: Any) -> Callable[[bytes], Any]:
    """A function that reads JSON as `model`. It raises TypeError or ValueError."""
    return lambda data: _typed(_loads(data), model, "$")


def _loads(data: bytes) -> Any:
    text = data.decode()
    value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    if "\\ud" in text.lower():
        # A lone surrogate passes json.loads, but is no text: it could never be written again.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is out of range")
    return value


# --- writing ---------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {_plain_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (UUID, Decimal)):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no JSON form here; {_INSTALL}")


def _plain_key(key: Any) -> str:
    if isinstance(key, Enum):
        return _plain_key(key.value)
    if isinstance(key, str):
        return key
    if isinstance(key, (int, float)) and not isinstance(key, bool):
        return str(key)
    if key is None or isinstance(key, (bool, tuple, frozenset)):
        raise TypeError("only dicts with keys like str or numbers have a JSON form")
    return _plain_scalar(key)


# --- reading ---------------------------------------------------------------------------------------------------------


def _typed(value: Any, model: Any, path: str) -> Any:
    if model is Any or model is object:
        return value
    origin = get_origin(model)
    if origin in (Annotated, Required, NotRequired):
        return _typed(value, get_args(model)[0], path)
    if origin in (Union, types.UnionType):
        return _one_of(value, get_args(model), path)
    if origin is Literal:
        for choice in get_args(model):
            if type(choice) is type(value) and choice == value:
                return value
        raise ValueError(f"expected one of {get_args(model)} at {path}")
    if origin is not None or model in _COLLECTIONS:
        return _collection(value, origin or model, get_args(model), path)
    if model is None or model is type(None):
        return _expect(value, type(None), path)
    if _is_typeddict(model) or dataclasses.is_dataclass(model):
        return _record(value, model, path)
    return _scalar(value, model, path)


def _scalar(value: Any, model: Any, path: str) -> Any:
    if model is float and type(value) is int:
        return float(value)
    if model in (bool, int, float, str):
        return _expect(value, model, path)
    try:
        if isinstance(model, type) and issubclass(model, Enum):
            return model(value)
        if model is Decimal:
            if type(value) not in (str, int, float):
                raise ValueError(f"a {type(value).__name__} is no number")
            return Decimal(str(value))
        if model in _FROM_TEXT:
            return _FROM_TEXT[model](_expect(value, str, path))
    except (ValueError, InvalidOperation) as error:
        raise ValueError(f"{error} at {path}") from error
    raise TypeError(f"{model!r} cannot be read here; {_INSTALL}")


_FROM_TEXT: Final[dict[Any, Callable[[str], Any]]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    UUID: UUID,
    bytes: lambda text: base64.b64decode(text, validate=True),
}


def _one_of(value: Any, choices: tuple[Any, ...], path: str) -> Any:
    # The exact type first: 1 in `float | int` is an int.
    for choice in sorted(choices, key=lambda choice: choice is not type(value)):
        try:
            return _typed(value, choice, path)
        except ValueError:
            continue
    names = " | ".join(getattr(choice, "__name__", str(choice)) for choice in choices)
    raise ValueError(f"expected {names}, got {_name(value)} at {path}")


_COLLECTIONS: Final[dict[Any, Callable[[list[Any]], Any]]] = {
    list: list,
    Sequence: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    dict: dict,
    Mapping: dict,
}


def _collection(value: Any, kind: Any, args: tuple[Any, ...], path: str) -> Any:
    make = _COLLECTIONS.get(kind)
    if make is None:
        raise TypeError(f"{kind!r} cannot be read here; {_INSTALL}")
    if make is dict:
        key_type, item_type = args or (Any, Any)
        items = _expect(value, dict, path).items()
        return {_typed_key(key, key_type, path): _typed(item, item_type, f"{path}.{key}") for key, item in items}
    given = _expect(value, list, path)
    if kind is tuple and args and args[-1] is not Ellipsis:
        if len(given) != len(args):
            raise ValueError(f"expected {len(args)} items, got {len(given)} at {path}")
        wanted: Sequence[Any] = args
    else:
        wanted = [args[0] if args else Any] * len(given)
    return make([_typed(item, one, f"{path}[{i}]") for i, (item, one) in enumerate(zip(given, wanted, strict=True))])


def _typed_key(key: str, model: Any, path: str) -> Any:
    """JSON has keys of text only, so a number is read out of it."""
    if model is int or model is float:
        try:
            return model(key)
        except ValueError as error:
            raise ValueError(f"{error} at {path}") from error
    return _typed(key, model, path)


def _record(value: Any, model: Any, path: str) -> Any:
    given = _expect(value, dict, path)
    hints = get_type_hints(model, include_extras=True)
    if _is_typeddict(model):
        # Annotations that are text (from __future__ import annotations) hide NotRequired from __required_keys__.
        required = frozenset(name for name in model.__required_keys__ if get_origin(hints[name]) is not NotRequired)
        names = set(hints)
    else:
        own = [field for field in dataclasses.fields(model) if field.init]
        names = {field.name for field in own}
        missing = dataclasses.MISSING
        required = frozenset(f.name for f in own if f.default is missing and f.default_factory is missing)
    for name in sorted(required - given.keys()):
        raise ValueError(f"missing required field {name!r} at {path}")
    read = {name: _typed(given[name], hints[name], f"{path}.{name}") for name in given if name in names}
    return read if _is_typeddict(model) else model(**read)


def _expect(value: Any, kind: type, path: str) -> Any:
    if type(value) is not kind:
        raise ValueError(f"expected {kind.__name__}, got {_name(value)} at {path}")
    return value


def _name(value: Any) -> str:
    return "null" if value is None else type(value).__name__
