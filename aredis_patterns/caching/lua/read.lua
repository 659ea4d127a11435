-- Finds a value. Where it is missing or due, makes the caller its one loader, or one of those who wait.
--
-- A stored value begins with a line `#<version> <px> <stale> <token> <flags>[ <tag>...]`, then come the bytes of the
-- caller's codec. It counts while no clear() and no invalidation of one of its tags has a higher number than its
-- version. A value without that line was written by somebody else, and counts until it expires.
--
-- The lease is the right to load: granted here to one token, with the version that its value will bear. Whatever is
-- invalidated after that either ends the lease or has a higher number, so a late value is never kept, or never
-- believed. While a writer is open nobody gets a lease.
--
-- KEYS[1] value           string  <ns>:cache:{<name>}:v:<key>  first line, then the payload
-- KEYS[2] lease           hash    <ns>:cache:{<name>}:l:<key>  o owner, v version, e error, h hold, w... waiters
-- KEYS[3] writers         hash    <ns>:cache:{<name>}:w:<key>  token of each open writer -> o open | x beaten
-- KEYS[4] epoch           string  <ns>:cache:{<name>}:epoch    number of the last clear()
-- KEYS[5] tags            zset    <ns>:cache:{<name>}:tags     tag -> number of its last invalidation
-- ARGV[1] token           text    names this attempt; asking again with it changes nothing
-- ARGV[2] mode            text    load | refresh (even when fresh, even when somebody loads) | look (never a lease)
-- ARGV[3] lease_ms        ms      how long a lease lives
-- ARGV[4] ahead           ms      a value is due when less than this is left of its fresh time
-- ARGV[5] waiter          text    "<channel> <id>" to be woken, or ""
-- ARGV[6] unreadable      text    SHA-1 of stored bytes that the caller could not read, or ""
-- ARGV[7] horizon         ms      how long versions must be kept; 0 for ever
-- RETURN[1] status        code    0 versions need care, 1 hit, 2 refresh (you), 3 load (you), 4 wait, 5 bypass,
--     6 failed, 7 miss
-- RETURN[2] left          ms      life of the value, of the lease when waiting; -1 endless
-- RETURN[3] found         bytes   what is stored, or the error of the last load
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local value = KEYS[1]
local lease = KEYS[2]
local writers = KEYS[3]
local epoch = KEYS[4]
local tags = KEYS[5]
local token = ARGV[1]
local mode = ARGV[2]
local lease_ms = tonumber(ARGV[3])
local ahead = tonumber(ARGV[4])
local waiter = ARGV[5]
local unreadable = ARGV[6]
local horizon = tonumber(ARGV[7])

local CARE, HIT, REFRESH, LOAD, WAIT, BYPASS, FAILED, MISS = 0, 1, 2, 3, 4, 5, 6, 7

local current = tonumber(redis.call('GET', epoch) or nil)

local function counts(version, names)
  if not current or tonumber(version) < current then
    return false
  end
  if names == '' then
    return true
  end
  local wanted = {'!born'}
  for name in string.gmatch(names, '%S+') do
    wanted[#wanted + 1] = name
  end
  local numbers = redis.call('ZMSCORE', tags, unpack(wanted))
  for at = 1, #wanted do
    if tonumber(version) < tonumber(numbers[at] or (at == 1 and math.huge or 0)) then
      return false
    end
  end
  return true
end

local stored = redis.call('GET', value)
local left = redis.call('PTTL', value)
local usable, stale = false, 0
if stored and (unreadable == '' or redis.sha1hex(stored) ~= unreadable) then
  local version, soft, names = string.match(stored, '^#(%d+) %d+ (%d+) %S+ %S+ ?([^\n]*)\n')
  usable = not version or counts(version, names)
  stale = tonumber(soft or 0)
end
if usable and mode ~= 'refresh' and (left < 0 or left > stale + ahead) then
  return {HIT, left, stored}
end
if mode == 'look' then
  return {usable and HIT or MISS, left, usable and stored or ''}
end

if redis.call('EXISTS', writers) == 1 then
  return {usable and mode == 'load' and HIT or BYPASS, left, usable and stored or ''}
end
local held = redis.call('HMGET', lease, 'o', 'e', 'h')
local owner, failure, hold = held[1], held[2], held[3]
if owner == token then
  return {usable and REFRESH or LOAD, left, usable and stored or ''}
end
if mode == 'load' then
  if usable and (owner or failure or hold) then
    return {HIT, left, stored}
  end
  if owner then
    if waiter ~= '' then
      redis.call('HSET', lease, 'w' .. waiter, 1)
    end
    return {WAIT, redis.call('PTTL', lease), ''}
  end
  if failure then
    return {FAILED, redis.call('PTTL', lease), failure}
  end
end

local newest = redis.call('ZRANGE', tags, 0, 0, 'REV', 'WITHSCORES')
local life = redis.call('PTTL', epoch)
if not current or not newest[2] or (life >= 0 and (horizon == 0 or life < horizon / 2)) then
  return {CARE, 0, ''}
end
local version = math.max(current, tonumber(newest[2]))
redis.call('HDEL', lease, 'e', 'h')
redis.call('HSET', lease, 'o', token, 'v', string.format('%.0f', version))
redis.call('PEXPIRE', lease, lease_ms)
return {usable and REFRESH or LOAD, left, usable and stored or ''}
