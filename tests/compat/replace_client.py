"""pytest plugin: every place where redis-py's suite finds `Redis` and `RedisCluster` now holds ours.

redis-py's own subclasses (`Pipeline`) were made from the stock class before, and stay as they are.
"""

import redis.asyncio
import redis.asyncio.client
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.asyncio.utils

from aredis_patterns.pipelining import PipelinedRedis, PipelinedRedisCluster

STOCK = redis.asyncio.client.Redis

for module in (redis.asyncio, redis.asyncio.client, redis.asyncio.sentinel):
    module.Redis = PipelinedRedis
redis.asyncio.StrictRedis = PipelinedRedis
redis.asyncio.client.StrictRedis = PipelinedRedis
# Default arguments were bound when redis-py was imported: without this, Sentinel's clients stay stock.
for name in ("master_for", "slave_for", "replica_for"):
    method = getattr(redis.asyncio.sentinel.Sentinel, name)
    method.__defaults__ = tuple(PipelinedRedis if value is STOCK else value for value in method.__defaults__)
redis.asyncio.RedisCluster = PipelinedRedisCluster
redis.asyncio.cluster.RedisCluster = PipelinedRedisCluster
