"""Whether a value can be handed to several callers, because none of them can change it."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from typing import Any, Final

__all__ = ["is_immutable"]

_ATOMS: Final = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        uuid.UUID,
    }
)


def is_immutable(value: Any) -> bool:
    """True for atoms, and for tuples, frozensets and frozen records of nothing but such. In doubt False.

    Frozen means: a dataclass with `frozen=True`, a msgspec Struct with `frozen=True`, a pydantic model with
    `frozen=True`. O(size of the value).
    """
    kind = type(value)
    if kind in _ATOMS or isinstance(value, enum.Enum):
        return True
    if kind is tuple or kind is frozenset:
        return all(map(is_immutable, value))
    names = _frozen_fields(kind)
    return names is not None and all(is_immutable(getattr(value, name)) for name in names)


def _frozen_fields(kind: type) -> tuple[str, ...] | None:
    """The fields of a frozen record; None for everything else."""
    config: Any = getattr(kind, "__struct_config__", None)
    if config is not None:
        return tuple(getattr(kind, "__struct_fields__", ())) if config.frozen else None
    parameters: Any = getattr(kind, "__dataclass_params__", None)
    if parameters is not None:
        return tuple(field.name for field in dataclasses.fields(kind)) if parameters.frozen else None
    model: Any = getattr(kind, "model_config", None)
    if isinstance(model, dict) and model.get("frozen") and model.get("extra") != "allow":
        fields: dict[str, Any] = getattr(kind, "model_fields", {})
        return tuple(fields)
    return None
