"""Tokens and handles: what the browser holds, and what the server stores.

A token is 32 random bytes in base64url: 43 characters, 256 bits. A handle is what everybody may see: the first letter
of the token, and its SHA-256. Nobody gets from a handle to a token, so neither a dump of the server nor a list of
devices holds anything that a browser could send. The two differ in length, so they are never taken for one another.
"""

from __future__ import annotations

import re
import secrets
from binascii import b2a_base64
from hashlib import sha256
from typing import Final

__all__ = ["TAGS", "handle_of", "is_handle", "new_token"]

TAGS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""Every first letter that a token can have."""

_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_HANDLE: Final = re.compile(r"[A-Za-z0-9_-]{44}")


def new_token(like: str | None = None) -> str:
    """A token nobody can guess. `like` gives its first letter, which leaves 250 bits that are new."""
    token = secrets.token_urlsafe(32)
    return token if like is None else like[0] + token[1:]


def handle_of(token: str) -> str | None:
    """The handle of a token; None for anything that is not a token, however long and whatever is in it."""
    if len(token) != 43 or _TOKEN.fullmatch(token) is None:
        return None
    digest = b2a_base64(sha256(token.encode()).digest(), newline=False)
    return token[0] + digest[:43].translate(_URL_SAFE).decode()


def is_handle(text: str) -> bool:
    """Whether this has the shape of a handle."""
    return len(text) == 44 and _HANDLE.fullmatch(text) is not None
