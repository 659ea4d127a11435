"""Cursors: where a page ended, as text that survives a URL. Opaque for users, checked when it comes back."""

from __future__ import annotations

import base64
import binascii
from typing import Final

__all__ = ["read_cursor", "write_cursor"]

_VERSION: Final = b"1"


def write_cursor(score: bytes, stored: bytes) -> str:
    """The place of one row: its score as the server wrote it, and the member as it is stored."""
    return base64.urlsafe_b64encode(_VERSION + score + b"\n" + stored).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[float, bytes]:
    """Score and stored member. ValueError for anything that `write_cursor` did not make."""
    try:
        raw = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        text, _, stored = raw[1:].partition(b"\n")
        score = float(text)
        if raw[:1] != _VERSION or not stored or not -(2.0**53) <= score <= 2.0**53:
            raise ValueError(cursor)
    except (ValueError, binascii.Error, AttributeError):
        raise ValueError(f"not a cursor of a leaderboard: {cursor!r}") from None
    return score, stored
