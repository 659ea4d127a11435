-- Gives a session another id, and ends the old one in the same step.
--
-- What stays under the old key for a while is a note of where the session went: a call whose reply was lost finds it
-- and answers the same, and whoever ends all sessions of a user can follow it. It holds nothing else. A login begins a
-- new life, in which the absolute timeout starts again.
--
-- KEYS[1] session      hash   <ns>:sess:<name>:{<tag>}:<hash>  of the old id
-- KEYS[2] successor    hash   <ns>:sess:<name>:{<tag>}:<hash>  of the new id
-- KEYS[3] ends         zset   <ns>:sess:<name>:{<tag>}:ends
-- ARGV[1] handle       text   the old one
-- ARGV[2] moved        text   the new one
-- ARGV[3] idle         ms     life without a request
-- ARGV[4] absolute     ms     life in all
-- ARGV[5] keep         ms     how long an end waits for a reader; 0 records none
-- ARGV[6] grace        ms     how long the old id still leads to the session
-- ARGV[7] note         ms     how long the note stays
-- ARGV[8] login        0|1    whether user and meta are set anew
-- ARGV[9] user         text   empty: nobody
-- ARGV[10] meta        json   empty: as it was
-- ARGV[11] channel     text   where the end of the old id is told
-- RETURN[1] status     0|1    gone, rotated
-- RETURN[2] created    ms     server time
-- RETURN[3] seen       ms     server time
-- RETURN[4] before     text   the user until now
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local session = KEYS[1]
local successor = KEYS[2]
local ends = KEYS[3]
local handle = ARGV[1]
local moved = ARGV[2]
local idle = tonumber(ARGV[3])
local absolute = tonumber(ARGV[4])
local keep = tonumber(ARGV[5])
local grace = tonumber(ARGV[6])
local note = tonumber(ARGV[7])
local login = tonumber(ARGV[8])
local user = ARGV[9]
local meta = ARGV[10]
local channel = ARGV[11]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local found = redis.call('HMGET', session, 'created', 'seen', 'user', 'moved', 'before')
if found[4] == moved then
  local there = redis.call('HMGET', successor, 'created', 'seen')
  if there[1] then
    return {1, tonumber(there[1]), tonumber(there[2]), found[5]}
  end
end
if not found[1] or now >= math.min(found[2] + idle, found[1] + absolute) then
  return {0, 0, 0, ''}
end
local created, before = tonumber(found[1]), found[3] or ''
local owner = before

redis.call('RENAME', session, successor)
if login == 1 then
  created, owner = now, user
  redis.call('HSET', successor, 'created', created, 'user', user)
end
if meta ~= '' then
  redis.call('HSET', successor, 'meta', meta)
end
redis.call('HSET', successor, 'seen', now)
redis.call('HINCRBY', successor, 'version', 1)
local expires = math.min(now + idle, created + absolute)
redis.call('PEXPIRE', successor, expires - now)
redis.call('HSET', session, 'moved', moved, 'before', before, 'grace', now + grace)
redis.call('PEXPIRE', session, math.max(grace, note))
if keep > 0 then
  redis.call('ZREM', ends, 'live:' .. handle .. ':' .. before)
  redis.call('ZADD', ends, expires, 'live:' .. moved .. ':' .. owner)
  redis.call('PEXPIRE', ends, absolute + keep)
end
redis.pcall('PUBLISH', channel, 'rotated:' .. handle .. ':' .. moved .. ':' .. owner)
return {1, created, now, before}
