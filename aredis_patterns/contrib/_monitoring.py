"""What the routes for /metrics and /healthz have in common, whatever serves them."""

from __future__ import annotations

import json
from typing import Final, Protocol, runtime_checkable

from aredis_patterns.monitoring import health
from aredis_patterns.types import RedisClient

__all__ = ["HEALTH_TYPE", "MetricsSource", "health_answer"]

HEALTH_TYPE: Final = "application/json"


@runtime_checkable
class MetricsSource(Protocol):
    """`contrib.prometheus.Metrics`, or anything else that renders."""

    async def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """The body of /metrics and its content type, in a format that the scraper accepts."""
        ...


async def health_answer(client: RedisClient, *, deadline: float, details: bool) -> tuple[int, bytes]:
    """200 or 503, and a small JSON document. Addresses and reasons are only in it when `details` says so."""
    state = await health(client, deadline=deadline)
    document = state.as_dict()
    if not details:
        document = {"status": document["status"]}
    return 200 if state else 503, json.dumps(document).encode()
