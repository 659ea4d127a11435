"""A failed load, told to other processes: the type of the error and its text, nothing that could be executed."""

from __future__ import annotations

import json

from aredis_patterns.exceptions import LoadFailed

__all__ = ["decode_failure", "encode_failure"]

LONGEST_DETAIL = 500
"""Characters of the error's text."""


def encode_failure(error: BaseException) -> str:
    """What the waiting processes are told."""
    if isinstance(error, LoadFailed):
        return json.dumps([error.kind, error.detail])
    return json.dumps([type(error).__name__, str(error)[:LONGEST_DETAIL]])


def decode_failure(key: str, data: bytes) -> LoadFailed:
    """The error for those who waited."""
    try:
        kind, detail = json.loads(data)
        return LoadFailed(key, str(kind), str(detail))
    except (ValueError, TypeError):
        return LoadFailed(key, "unknown", "")
