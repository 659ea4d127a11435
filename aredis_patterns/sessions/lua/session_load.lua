-- Reads a session, and moves its expiry when that gains enough.
--
-- A session is over `idle` after it was seen and `absolute` after it was created, whichever comes first, also when its
-- key should have lost its TTL. Seen is written only when the expiry moves by `threshold` at least, so most reads write
-- nothing. A rotated session answers with its successor as long as its grace lasts.
--
-- KEYS[1] session      hash   <ns>:sess:<name>:{<tag>}:<hash>
-- KEYS[2] ends         zset   <ns>:sess:<name>:{<tag>}:ends
-- ARGV[1] handle       text   of the session
-- ARGV[2] idle         ms     life without a request
-- ARGV[3] absolute     ms     life in all
-- ARGV[4] threshold    ms     the least gain that is written; 0 writes always
-- ARGV[5] keep         ms     how long an end waits for a reader; 0 records none
-- RETURN[1] status     0|1|2  gone, there, rotated (then the fields are one: the handle of the successor)
-- RETURN[2] touched    0|1    whether the expiry has moved
-- RETURN[3] fields     list   name and value in turn
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local session = KEYS[1]
local ends = KEYS[2]
local handle = ARGV[1]
local idle = tonumber(ARGV[2])
local absolute = tonumber(ARGV[3])
local threshold = tonumber(ARGV[4])
local keep = tonumber(ARGV[5])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local found = redis.call('HMGET', session, 'created', 'seen', 'user', 'moved', 'grace')
if found[4] and now < tonumber(found[5]) then
  return {2, 0, {found[4]}}
end
if not found[1] then
  return {0, 0, {}}
end
local deadline = found[1] + absolute
local expires = math.min(found[2] + idle, deadline)
if now >= expires then
  return {0, 0, {}}
end
local later = math.min(now + idle, deadline)
local touched = 0
if later > expires and later - expires >= threshold then
  touched = 1
  redis.call('HSET', session, 'seen', now)
  redis.call('PEXPIRE', session, later - now)
  if keep > 0 then
    redis.call('ZADD', ends, later, 'live:' .. handle .. ':' .. (found[3] or ''))
    redis.call('PEXPIRE', ends, absolute + keep)
  end
end
local fields = redis.call('HGETALL', session)
return {1, touched, fields}
