-- Puts a session into the index of its user, or moves its expiry there.
--
-- Session and index are in different slots, so the index may be behind. What it says is checked before it is believed:
-- handles that should be over are returned, not removed. A session that the index had lost comes back with its next
-- touch, unless all sessions of the user were ended after it was created: then it has been missed, and is refused.
--
-- KEYS[1] index        zset   <ns>:sess:<name>:user:{<user>}  member handle, score expiry in us
-- KEYS[2] revoked      string <ns>:sess:<name>:user:{<user>}:revoked  when all were ended, in ms
-- ARGV[1] handle       text   of the session
-- ARGV[2] created      ms     when, by server time; 0: a login, which nothing can have ended before
-- ARGV[3] left         ms     until it expires
-- ARGV[4] absolute     ms     the longest life of a session
-- ARGV[5] most         count  of sessions of one user; 0: any number
-- ARGV[6] replaces     text   a handle to remove; empty: none
-- RETURN[1] status     0|1    missed, added
-- RETURN[2] due        list   handles whose time is over, at most 100
-- RETURN[3] surplus    list   handles beyond the most, those first that expire first
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local index = KEYS[1]
local revoked = KEYS[2]
local handle = ARGV[1]
local created = tonumber(ARGV[2])
local left = tonumber(ARGV[3])
local absolute = tonumber(ARGV[4])
local most = tonumber(ARGV[5])
local replaces = ARGV[6]

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local known = redis.call('ZSCORE', index, handle) or replaces ~= '' and redis.call('ZSCORE', index, replaces)
if created > 0 and not known and created < tonumber(redis.call('GET', revoked) or 0) then
  return {0, {}, {}}
end
if replaces ~= '' then
  redis.call('ZREM', index, replaces)
end
redis.call('ZADD', index, now + left * 1000, handle)
redis.call('PEXPIRE', index, absolute)

local due = redis.call('ZRANGE', index, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)
local surplus = {}
if most > 0 then
  local live = redis.call('ZCOUNT', index, '(' .. string.format('%.0f', now), '+inf')
  if live > most then
    local oldest = redis.call('ZRANGE', index, '(' .. string.format('%.0f', now), '+inf', 'BYSCORE', 'LIMIT', 0,
      live - most + 1)
    for _, other in ipairs(oldest) do
      if other ~= handle and #surplus < live - most then
        surplus[#surplus + 1] = other
      end
    end
  end
end
return {1, due, surplus}
