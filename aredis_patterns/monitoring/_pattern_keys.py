"""Which pattern a key belongs to, by its name alone.

Families never import each other, so this module does not ask theirs: it reads what `_core.keys.Keyspace` builds,
`<namespace>:<kind>:<part>...:{<object>}:<suffix>...`, and knows the kinds below. A kind that is not here is shown as it
is. `tests/monitoring/test_pattern_view.py` holds this table against the families.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote

__all__ = ["FAMILY_OF", "PatternKey", "parse_key"]

FAMILY_OF: Final[dict[str, str]] = {
    "rl": "ratelimit",
    "conc": "ratelimit",
    **dict.fromkeys(("lock", "leader", "permits", "rwlock", "latch", "fenced"), "locks"),
    **dict.fromkeys(("cache", "cache-shard"), "caching"),
    "sess": "sessions",
    **dict.fromkeys(("queue", "list"), "queues"),
    **dict.fromkeys(("ps", "topic"), "pubsub"),
    **dict.fromkeys(("lb", "trend"), "leaderboards"),
    **dict.fromkeys(("act", "uv", "ids"), "analytics"),
    "tx": "transactions",
}

_KEY: Final = re.compile(
    r"(?P<kind>[^:{}]+)(?P<parts>(?::[^:{}]*)*):\{(?P<object>[^{}]*)\}(?P<suffix>(?::.*)?)", re.DOTALL
)


class PatternKey(NamedTuple):
    """A key, taken apart. Escapes are undone: `object` is what the user wrote."""

    kind: str
    parts: tuple[str, ...]
    """Between kind and object: the algorithm and name of a limiter."""
    object: str
    suffix: tuple[str, ...]


def parse_key(key: bytes, namespace: str) -> PatternKey | None:
    """The parts of a key below `namespace`; None for one that no pattern has made.

    >>> parse_key(b"ap:rl:fixed:api:{user%3A1}", "ap")
    PatternKey(kind='rl', parts=('fixed', 'api'), object='user:1', suffix=())
    """
    text = key.decode(errors="backslashreplace")
    head = f"{namespace}:"
    found = _KEY.fullmatch(text.removeprefix(head)) if text.startswith(head) else None
    if found is None:
        return None
    parts = tuple(map(unquote, found["parts"].split(":")[1:]))
    suffix = tuple(map(unquote, found["suffix"].split(":")[1:]))
    return PatternKey(found["kind"], parts, unquote(found["object"]), suffix)
