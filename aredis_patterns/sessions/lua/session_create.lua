-- Creates a session.
--
-- The handle is fresh and unguessable, so it is also the name of this operation: a session that is there already was
-- created by the same call, whose reply was lost.
--
-- KEYS[1] session      hash   <ns>:sess:<name>:{<tag>}:<hash>  created, seen, version, size, user, meta, and
--                             the attributes, each after a point: .cart
-- KEYS[2] ends         zset   <ns>:sess:<name>:{<tag>}:ends  member "live:<handle>:<user>", score expiry in ms
-- ARGV[1] handle       text   of the new session
-- ARGV[2] idle         ms     life without a request
-- ARGV[3] absolute     ms     life in all
-- ARGV[4] keep         ms     how long an end waits for a reader; 0 records none
-- ARGV[5] user         text   its owner; empty: nobody
-- ARGV[6] meta         json   for the list of devices; empty: nothing
-- ARGV[7] size         bytes  of all names and values
-- ARGV[8..] fields     text   name and value in turn
-- RETURN[1] created    ms     server time
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local session = KEYS[1]
local ends = KEYS[2]
local handle = ARGV[1]
local idle = tonumber(ARGV[2])
local absolute = tonumber(ARGV[3])
local keep = tonumber(ARGV[4])
local user = ARGV[5]
local meta = ARGV[6]
local size = tonumber(ARGV[7])
local fields = {unpack(ARGV, 8)}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local created = redis.call('HGET', session, 'created')
if created then
  return {tonumber(created)}
end
redis.call('HSET', session, 'created', now, 'seen', now, 'version', 1, 'size', size)
if user ~= '' then
  redis.call('HSET', session, 'user', user)
end
if meta ~= '' then
  redis.call('HSET', session, 'meta', meta)
end
if #fields > 0 then
  redis.call('HSET', session, unpack(fields))
end
redis.call('PEXPIRE', session, idle)
if keep > 0 then
  redis.call('ZREMRANGEBYSCORE', ends, '-inf', now - keep)
  redis.call('ZADD', ends, now + idle, 'live:' .. handle .. ':' .. user)
  redis.call('PEXPIRE', ends, absolute + keep)
end
return {now}
