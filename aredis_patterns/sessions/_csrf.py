"""Tokens against cross-site request forgery, derived from the session's own token: nothing is stored.

Only who has the session can make one, so a form that carries one was rendered for this session. Each call masks it anew:
a page that is compressed together with what an attacker chose never holds the same bytes twice (the BREACH attack).
A rotation makes all older ones invalid.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Final

__all__ = ["csrf_matches", "csrf_token"]

_PURPOSE: Final = b"aredis-patterns csrf"
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]{86}")
_LENGTH: Final = 32


def csrf_token(session_token: str) -> str:
    """A fresh token for this session: 86 characters, safe in headers, forms and URLs."""
    mask = secrets.token_bytes(_LENGTH)
    return urlsafe_b64encode(mask + _xor(mask, _secret(session_token))).rstrip(b"=").decode()


def csrf_matches(session_token: str, given: str) -> bool:
    """Whether `given` was made for this session. Takes the same time whatever is wrong with it."""
    if len(given) != 86 or _SHAPE.fullmatch(given) is None:
        return False
    raw = urlsafe_b64decode(given + "==")
    return hmac.compare_digest(_xor(raw[:_LENGTH], raw[_LENGTH:]), _secret(session_token))


def _secret(session_token: str) -> bytes:
    return hmac.digest(session_token.encode(), _PURPOSE, sha256)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
