-- Moves the expiry of a session to a whole idle timeout from now, or to its absolute end.
--
-- A session is over `idle` after it was seen and `absolute` after it was created, whichever comes first, also when its
-- key should have lost its TTL. A gain below `threshold` is not written: parallel requests of one session move it once.
--
-- KEYS[1] session      hash   <ns>:sess:<name>:{<tag>}:<hash>
-- KEYS[2] ends         zset   <ns>:sess:<name>:{<tag>}:ends
-- ARGV[1] handle       text   of the session
-- ARGV[2] idle         ms     life without a request
-- ARGV[3] absolute     ms     life in all
-- ARGV[4] threshold    ms     the least gain that is written; 0 writes always
-- ARGV[5] keep         ms     how long an end waits for a reader; 0 records none
-- RETURN[1] status     0|1|2  gone, there, rotated
-- RETURN[2] left       ms     until it expires
-- RETURN[3] created    ms     server time
-- RETURN[4] seen       ms     server time
-- RETURN[5] user       text   whose it is; empty: nobody's. Of a rotated one: the handle of its successor
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
  return {2, 0, 0, 0, found[4]}
end
local created, seen, user = tonumber(found[1]), tonumber(found[2]), found[3] or ''
if not created or now >= math.min(seen + idle, created + absolute) then
  return {0, 0, 0, 0, ''}
end
local expires = math.min(seen + idle, created + absolute)
local later = math.min(now + idle, created + absolute)
if later - expires >= threshold then
  seen, expires = math.max(now, seen), math.max(later, expires)
  redis.call('HSET', session, 'seen', seen)
  redis.call('PEXPIRE', session, expires - now)
  if keep > 0 then
    redis.call('ZADD', ends, expires, 'live:' .. handle .. ':' .. user)
    redis.call('PEXPIRE', ends, absolute + keep)
  end
end
return {1, expires - now, created, seen, user}
