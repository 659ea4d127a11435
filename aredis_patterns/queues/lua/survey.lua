-- Counts what is where, and how old it is.
--
-- KEYS[1] messages    hash    <ns>:queue:{<queue>}:messages
-- KEYS[2] ready       zset    <ns>:queue:{<queue>}:ready
-- KEYS[3] leases      zset    <ns>:queue:{<queue>}:leases
-- KEYS[4] delayed     zset    <ns>:queue:{<queue>}:delayed
-- KEYS[5] dead        zset    <ns>:queue:{<queue>}:dead
-- KEYS[6] counters    hash    <ns>:queue:{<queue>}:counters
-- KEYS[7] paused      string  <ns>:queue:{<queue>}:paused
-- RETURN[1] clock     us      the server's
-- RETURN[2] sizes     counts  messages, ready, leases, delayed, dead
-- RETURN[3] oldest    us      ids of the oldest ready and the oldest leased message; when the first one died; when
--     the next one is due; 0 for none
-- RETURN[4] paused    0|1     whether there is a pause
-- RETURN[5] counted   pairs   names and values of the counters
-- READ-ONLY yes
-- REPLAY-SAFE yes
--
local messages = KEYS[1]
local ready = KEYS[2]
local leases = KEYS[3]
local delayed = KEYS[4]
local dead = KEYS[5]
local counters = KEYS[6]
local paused = KEYS[7]

local BAND = 1099511627776 -- as in _queue.lua
local LOOK = 1000 -- leases among which the oldest message is looked for

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- The first of each priority: with groups a younger one may stand before an older one, and this is a bound.
local oldest_ready = math.huge
local first = redis.call('ZRANGE', ready, 0, 0, 'WITHSCORES')
while first[1] do
  oldest_ready = math.min(oldest_ready, tonumber(first[1]))
  local next_band = string.format('%.0f', (math.floor(first[2] / BAND) + 1) * BAND)
  first = redis.call('ZRANGEBYSCORE', ready, next_band, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
end

local oldest_leased = math.huge
for _, id in ipairs(redis.call('ZRANGE', leases, 0, LOOK - 1)) do
  oldest_leased = math.min(oldest_leased, tonumber(id))
end

local function known(number)
  return number < math.huge and number or 0
end

local sizes = {
  redis.call('HLEN', messages), redis.call('ZCARD', ready), redis.call('ZCARD', leases),
  redis.call('ZCARD', delayed), redis.call('ZCARD', dead),
}
local oldest = {
  known(oldest_ready), known(oldest_leased),
  tonumber(redis.call('ZRANGE', dead, 0, 0, 'WITHSCORES')[2] or 0),
  tonumber(redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2] or 0),
}
return {now, sizes, oldest, redis.call('EXISTS', paused), redis.call('HGETALL', counters)}
