-- Takes back a message that nobody has begun.
--
-- INCLUDE _queue
-- ARGV[1] id          us      the message
-- RETURN[1] cancelled 0|1     0 when it is under way, done, dead or unknown
-- READ-ONLY no
-- REPLAY-SAFE no
--
local id = ARGV[1]

local envelope = redis.call('HGET', messages, id)
if not envelope or redis.call('ZSCORE', leases, id) or redis.call('ZSCORE', dead, id) then
  return {0}
end
local about = facts(envelope)
if redis.call('ZREM', ready, id) + redis.call('ZREM', delayed, id) > 0 then
  leave(id, about)
elseif about.key then
  redis.call('ZREM', keyed, about.key .. '\0' .. id)
end
redis.call('HDEL', messages, id)
redis.call('HDEL', failures, id)
redis.call('HINCRBY', counters, 'cancelled', 1)
wake_producer()
if about.key then
  wake_consumer()
end
return {1}
