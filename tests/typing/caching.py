"""A tour of caching. Never run; mypy and pyright must accept it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_type

from redis.asyncio import Redis

from aredis_patterns import (
    Cache,
    CacheResult,
    CacheStatistics,
    Expiration,
    Loaded,
    Missing,
    NearCache,
    Patterns,
    RawResult,
    TimedValue,
)


@dataclass(frozen=True)
class User:
    name: str


async def load_user() -> User:
    return User("Ada")


async def load_users(keys: list[str]) -> dict[str, User]:
    return {key: User(key) for key in keys}


async def tour(client: Redis) -> None:
    users = Cache(client, "users", ttl=300, model=User, stale_ttl=60, near=NearCache(max_entries=1000))
    assert_type(users, Cache[User])
    assert_type(await users.get_or_load("1", load_user), User)
    assert_type(await users.get("1"), User | Missing)
    assert_type(await users.get("1", None), User | None)
    assert_type(await users.get_many(["1", "2"]), dict[str, User])
    assert_type(await users.get_or_load_many(["1", "2"], load_users, tags=["all"]), dict[str, User])
    assert_type(await users.fetch("1", load_user), CacheResult[User])
    assert_type(await users.fetch_raw("1", load_user), RawResult)
    assert_type(await users.refresh("1", load_user), User)
    assert_type(await users.set("1", User("Ada"), nx=True), bool)
    assert_type(await users.delete("1", b"2"), int)
    async with users.write("1") as write:
        write.set(User("Ada"))
        assert_type(write.committed, bool)
    await users.invalidate("1", hold=2.0)
    await users.invalidate_tags("org:7")
    await users.clear()
    assert_type(users.statistics(), CacheStatistics)


async def decorated(users: Cache[User]) -> None:
    @users.cached("user:{user_id}", tags=["users"], condition=lambda user: user.name != "")
    async def get_user(user_id: int) -> User:
        return User(str(user_id))

    assert_type(await get_user(42), User)
    assert_type(get_user.key(user_id=42), str)
    assert_type(await get_user.fetch(42), CacheResult[User])
    assert_type(await get_user.refresh(42), User)
    await get_user.invalidate(42)


async def chosen_by_the_loader(users: Cache[User]) -> None:
    async def load() -> Loaded[User]:
        return Loaded(User("Ada"), ttl=5, tags=("late",))

    assert_type(await users.get_or_load("1", load), User)


async def ttls(client: Redis) -> None:
    expiration = Expiration(client)
    assert_type(await expiration.ttl("key"), float | None | Missing)
    assert_type(await expiration.expires_at("key"), datetime | None | Missing)
    assert_type(await expiration.get_with_ttl("key"), TimedValue | Missing)
    assert_type(await expiration.expire("key", 10, when="later"), bool)
    assert_type(await expiration.expire_many({"a": 1.5}), dict[str, bool])


async def hub() -> None:
    async with Patterns.from_url("redis://localhost") as p:
        assert_type(p.cache("users", ttl=60, model=User), Cache[User])
        assert_type(p.cache("pages", ttl=60), Cache[Any])
        assert_type(p.expiration(), Expiration)
