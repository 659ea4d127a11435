-- Ends a session: deletes it, records the end, and tells those who listen. Once, however often it is called.
--
-- A session that began for a caller who never heard of it ends without a word.
--
-- KEYS[1] session      hash   <ns>:sess:<name>:{<tag>}:<hash>
-- KEYS[2] ends         zset   <ns>:sess:<name>:{<tag>}:ends
-- ARGV[1] handle       text   of the session
-- ARGV[2] idle         ms     life without a request
-- ARGV[3] absolute     ms     life in all
-- ARGV[4] keep         ms     how long the end waits for a reader; 0 records none
-- ARGV[5] reason       word   revoked or evicted; empty: tell nobody
-- ARGV[6] owner        text   end it only if it is this user's; empty: whoever's
-- ARGV[7] follow       0|1    1: name the successor of a rotated session even after its grace
-- ARGV[8] channel      text   where the end is told
-- RETURN[1] status     0|1    not there, ended by this call
-- RETURN[2] user       text   whose it was
-- RETURN[3] moved      text   not there, because rotated to this handle; empty: just not there
-- READ-ONLY no
-- REPLAY-SAFE no
--
local session = KEYS[1]
local ends = KEYS[2]
local handle = ARGV[1]
local idle = tonumber(ARGV[2])
local absolute = tonumber(ARGV[3])
local keep = tonumber(ARGV[4])
local reason = ARGV[5]
local owner = ARGV[6]
local follow = tonumber(ARGV[7])
local channel = ARGV[8]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local found = redis.call('HMGET', session, 'created', 'seen', 'user', 'moved', 'grace')
if found[4] then
  local leads = follow == 1 or now < tonumber(found[5])
  return {0, '', leads and found[4] or ''}
end
local user = found[3] or ''
if not found[1] or owner ~= '' and owner ~= user then
  return {0, '', ''}
end
if now >= math.min(found[2] + idle, found[1] + absolute) then
  return {0, '', ''}
end
redis.call('DEL', session)
if keep > 0 then
  redis.call('ZREMRANGEBYSCORE', ends, '-inf', now - keep)
  redis.call('ZREM', ends, 'live:' .. handle .. ':' .. user)
end
if keep > 0 and reason ~= '' then
  redis.call('ZADD', ends, now, reason .. ':' .. handle .. ':' .. user)
  redis.call('PEXPIRE', ends, absolute + keep)
end
if reason ~= '' then
  redis.pcall('PUBLISH', channel, reason .. ':' .. handle .. '::' .. user)
end
return {1, user, ''}
