"""pytest plugin: every place where redis-py's suite finds `Redis` and `RedisCluster` now holds ours.

redis-py's own subclasses (`Pipeline`) were made from the stock class before, and stay as they are.
"""

import redis.asyncio
import redis.asyncio.client
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.asyncio.utils

from aredis_patterns.pipelining import PipelinedRedis, PipelinedRedisCluster

for module in (redis.asyncio, redis.asyncio.client, redis.asyncio.sentinel):
    module.Redis = PipelinedRedis
redis.asyncio.StrictRedis = PipelinedRedis
redis.asyncio.RedisCluster = PipelinedRedisCluster
redis.asyncio.cluster.RedisCluster = PipelinedRedisCluster
