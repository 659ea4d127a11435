"""`aredis-patterns ping`."""

from __future__ import annotations

from rich.console import Console

from aredis_patterns._core.diagnosis import translate
from aredis_patterns.hub import Patterns

ROUNDS = 20


async def ping_server(url: str, *, console: Console) -> bool:
    """Print version and latency of the server at `url`. Raises with what to do when it cannot be used."""
    async with Patterns.from_url(url) as patterns:
        try:
            first = await patterns.ping()
            rest = sorted([await patterns.ping() for _ in range(ROUNDS)])
            server = await patterns.server_name()
        except Exception as error:
            known = translate(error, command="PING")
            raise known from (error if known is not error else error.__cause__)
    console.print(
        f"{server}: connected and answered in {first * 1e3:.1f} ms, then {rest[ROUNDS // 2] * 1e3:.2f} ms per call"
    )
    return True
