-- Notes that all sessions of a user end now, and says which the index knows.
--
-- KEYS[1] index        zset   <ns>:sess:<name>:user:{<user>}
-- KEYS[2] revoked      string <ns>:sess:<name>:user:{<user>}:revoked
-- ARGV[1] absolute     ms     the longest life of a session: so long the note matters
-- RETURN[1] handles    list   all of them, also those that are over
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local index = KEYS[1]
local revoked = KEYS[2]
local absolute = tonumber(ARGV[1])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('SET', revoked, now, 'PX', absolute)
local handles = redis.call('ZRANGE', index, 0, -1)
return {handles}
