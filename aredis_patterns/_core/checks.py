"""What more than one family refuses before any I/O."""

from __future__ import annotations

__all__ = ["check_whole"]


def check_whole(value: object, name: str, least: int, most: int | None = None) -> int:
    """`value` as a plain int; ValueError unless it is an int from `least` to `most`. bool is no int here."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        bounds = f"{least} or more" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} is a whole number, {bounds}, got {value!r}")
    return int(value)  # members of an IntEnum print as something else
