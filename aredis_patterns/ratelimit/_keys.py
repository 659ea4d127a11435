"""The keys of this family. One per limiter name and user key, nothing else."""

from __future__ import annotations

from typing import Literal

from aredis_patterns._core.keys import Keyspace

__all__ = ["limiter_keys"]


def limiter_keys(namespace: str, algorithm: Literal["fixed", "log", "bucket"], name: str) -> Keyspace:
    """`<namespace>:rl:<algorithm>:<name>:{<key>}`."""
    return Keyspace(namespace, "rl", algorithm, name)
