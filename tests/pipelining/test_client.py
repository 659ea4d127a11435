"""`PipelinedRedis` as a drop-in: what redis-py's client does with replies, options and the rest of its interface."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.exceptions import AuthenticationError, DataError, ResponseError

from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.exceptions import WrongPassword
from aredis_patterns.pipelining import PipelinedRedis, lane_of


@pytest.fixture
async def redis(redis_url: str, client_options: dict[str, Any]):
    async with PipelinedRedis.from_url(redis_url, **client_options) as client:
        yield client


async def test_replies_are_those_of_the_stock_client(
    redis: PipelinedRedis, redis_url: str, client_options: dict[str, Any], namespace: str
) -> None:
    def name(word: str) -> str:
        return f"{namespace}:{word}"

    async def script(client: Redis) -> list[Any]:
        await client.delete(name("h"), name("z"), name("l"), name("s"))
        calls = (
            client.hset(name("h"), mapping={"a": "1", "b": "2"}),
            client.hgetall(name("h")),
            client.hmget(name("h"), "a", "none"),
            client.zadd(name("z"), {"x": 1.5, "y": 2}),
            client.zrange(name("z"), 0, -1, withscores=True),
            client.zscore(name("z"), "x"),
            client.rpush(name("l"), "1", "2"),
            client.lrange(name("l"), 0, -1),
            client.set(name("s"), "é", ex=60),
            client.get(name("s")),
            client.ttl(name("none")),
            client.config_get("maxmemory"),
            client.execute_command("get", name("s")),
            client.execute_command(b"GET", name("s")),
            client.execute_command("GET", name("s"), **{NEVER_DECODE: True}),
            client.execute_command("INCR", name("l"), **{EMPTY_RESPONSE: "empty"}),
        )
        # Ours keeps the order of concurrent calls. Stock spreads them over connections, so there one follows the other.
        ours = isinstance(client, PipelinedRedis)
        replies = await asyncio.gather(*calls) if ours else [await call for call in calls]
        await asyncio.gather(*(client.expire(name(word), 60) for word in "hzls"))
        return list(replies)

    async with Redis.from_url(redis_url, **client_options) as stock:
        assert await script(redis) == await script(stock)


async def test_errors_are_those_of_the_stock_client(redis: PipelinedRedis) -> None:
    with pytest.raises(DataError):
        await redis.set("a", None)  # type: ignore[arg-type]
    with pytest.raises(ResponseError, match="unknown command"):
        await redis.execute_command("NOSUCHCOMMAND")
    assert await redis.ping()


async def test_the_rest_of_the_interface(redis: PipelinedRedis, namespace: str) -> None:
    key = f"{namespace}:n"
    async with redis.pipeline() as pipe:
        assert await pipe.set(key, 1, ex=60).incr(key).execute() == [True, 2]
    assert await redis.transaction(lambda pipe: (pipe.multi(), pipe.incr(key))[1], key) == [3]
    async with redis.lock(f"{namespace}:lock", timeout=5):
        pass
    assert int(await redis.register_script("return tonumber(ARGV[1])")(args=[7])) == 7
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(f"{namespace}:channel")
        assert (await pubsub.get_message(timeout=5) or {})["type"] == "subscribe"
        await redis.publish(f"{namespace}:channel", "hello")
        assert (await pubsub.get_message(timeout=5) or {})["type"] == "message"
    async with redis.client() as single:
        assert await single.ping()


async def test_a_reply_that_is_not_text_hurts_its_owner_only(redis_url: str, namespace: str) -> None:
    key = f"{namespace}:bytes"
    async with PipelinedRedis.from_url(redis_url, decode_responses=True) as redis:
        await redis.set(key, b"\xff", ex=60)
        replies = await asyncio.gather(
            redis.echo("a"), redis.get(key), lane_of(redis).call("GET", key), redis.echo("b"), return_exceptions=True
        )
        assert replies[0::3] == ["a", "b"]
        assert isinstance(replies[1], UnicodeDecodeError)
        assert replies[2] == b"\xff"


async def test_another_encoding(redis_url: str, namespace: str) -> None:
    async with PipelinedRedis.from_url(redis_url, encoding="latin-1", decode_responses=True) as redis:
        await redis.set(f"{namespace}:ä", "ö", ex=60)
        assert await redis.get(f"{namespace}:ä") == "ö"
        assert await redis.exists(f"{namespace}:ä".encode("latin-1"))


async def test_response_callbacks_of_ones_own(redis_url: str) -> None:
    async with PipelinedRedis.from_url(redis_url) as redis:
        redis.set_response_callback("ECHO", lambda reply, **_: reply.decode().upper())
        assert await redis.echo("hello") == "HELLO"


async def test_a_subclass_that_parses_by_itself_is_respected(redis_url: str) -> None:
    class Parsing(PipelinedRedis):
        async def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
            return "parsed", await super().parse_response(connection, command_name, **options)

    async with Parsing.from_url(redis_url) as redis:
        assert await redis.echo("a") == ("parsed", b"a")


async def test_from_pool_and_a_pool_that_blocks(redis_url: str) -> None:
    pool = BlockingConnectionPool.from_url(redis_url, max_connections=1)
    async with PipelinedRedis.from_pool(pool, max_in_flight=50) as redis:
        assert await asyncio.gather(*(redis.echo(str(number)) for number in range(100)))
        assert redis.statistics().flushes < 100


async def test_wrong_password(own_server: EmbeddedServer, own_client: Redis) -> None:
    await own_client.config_set("requirepass", "right")
    async with PipelinedRedis.from_url(own_server.url, password="hunter-7") as redis:
        with pytest.raises(WrongPassword) as caught:
            await redis.ping()
        assert isinstance(caught.value, AuthenticationError)
        assert "hunter" not in str(caught.value)
    async with PipelinedRedis.from_url(own_server.url, password="right") as redis:
        assert await redis.ping()


@pytest.mark.parametrize("options", [{"lanes": 0}, {"lanes": 65}, {"max_in_flight": 0}])
def test_senseless_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        PipelinedRedis(**options)  # type: ignore[arg-type]


def test_nothing_happens_at_import() -> None:
    program = "import threading, aredis_patterns; assert threading.active_count() == 1"
    subprocess.run([sys.executable, "-c", program], check=True)
