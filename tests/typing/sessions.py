"""A tour of sessions. Never run; mypy and pyright must accept it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, assert_type

from redis.asyncio import Redis

from aredis_patterns import Patterns, Session, SessionEvent, SessionInfo, SessionStatistics, SessionStore


@dataclass
class Cart:
    items: list[str] = field(default_factory=list)


async def plain(client: Redis) -> None:
    store = SessionStore(client, idle_timeout=timedelta(minutes=30), absolute_timeout=8 * 3600, max_per_user=5)
    assert_type(store, SessionStore[dict[str, Any]])
    session = await store.create({"theme": "dark"}, user_id="42", meta={"agent": "curl"})
    assert_type(session, Session[dict[str, Any]])
    session.data["theme"] = "light"
    assert_type(await store.save(session, if_version=session.version), bool)
    assert_type(await store.rotate(session, user_id="42"), Session[dict[str, Any]])
    assert_type(await store.get(session.token), Session[dict[str, Any]] | None)
    assert_type(await store.list("42"), list[SessionInfo])
    assert_type(await store.destroy_all("42", keep=session), int)
    assert_type(await store.wait_ended(session), SessionEvent)
    assert_type(store.statistics(), SessionStatistics)
    assert_type(session.expires_at, datetime)
    assert_type(session.csrf_token(), str)
    async for event in store.events(lease=30):
        assert_type(event.user_id, str | None)


async def typed(client: Redis) -> None:
    store = SessionStore(client, model=Cart, name="carts", keep_events=None)
    assert_type(store, SessionStore[Cart])
    session = await store.create(Cart(["book"]))
    assert_type(session.data.items, list[str])


async def hub() -> None:
    async with Patterns.from_url("redis://localhost") as p:
        assert_type(p.sessions(max_per_user=5), SessionStore[dict[str, Any]])
        assert_type(p.sessions(model=Cart), SessionStore[Cart])
