-- Forgets dead messages, oldest first.
--
-- KEYS[1] messages  hash   <ns>:queue:{<queue>}:messages
-- KEYS[2] failures  hash   <ns>:queue:{<queue>}:failures
-- KEYS[3] dead      zset   <ns>:queue:{<queue>}:dead
-- ARGV[1] most      count  of messages
-- ARGV[2] chosen    text   ids with blanks; empty for the oldest ones
-- RETURN[1] purged  count  of messages
-- READ-ONLY no
-- REPLAY-SAFE no
--
local messages = KEYS[1]
local failures = KEYS[2]
local dead = KEYS[3]
local most = tonumber(ARGV[1])
local chosen = ARGV[2]

local ids = {}
if chosen == '' then
  ids = redis.call('ZRANGE', dead, 0, most - 1)
else
  for id in string.gmatch(chosen, '%d+') do
    ids[#ids + 1] = id
  end
end
local purged = 0
for _, id in ipairs(ids) do
  if redis.call('ZREM', dead, id) == 1 then
    redis.call('HDEL', messages, id)
    redis.call('HDEL', failures, id)
    purged = purged + 1
  end
end
return {purged}
