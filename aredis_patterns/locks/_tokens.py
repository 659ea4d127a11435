"""Tokens: who wants, waits and holds. One per attempt to acquire, never used twice by anybody.

A random part of the process and a counter: a token costs no system call. A forked child draws a part of its own, since
two processes with one token would both hold the lock.
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket

__all__ = ["next_token", "process_name"]

_prefix = _name = ""
_counter = itertools.count()


def next_token() -> str:
    """A token that nobody else has, without blanks, colons or line ends."""
    return f"{_prefix}{next(_counter):x}"


def process_name() -> str:
    """What `info` shows of a holder that gave itself no name: host and process."""
    global _name
    if not _name:
        _name = f"{socket.gethostname()}:{os.getpid()}"
    return _name


def _draw() -> None:
    global _prefix, _counter, _name
    _prefix, _name = secrets.token_hex(12) + "-", ""
    _counter = itertools.count()


_draw()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_draw)
