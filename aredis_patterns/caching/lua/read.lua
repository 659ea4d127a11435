-- Finds a value. Where it is missing or due, makes the caller its one loader, or one of those who wait.
--
-- The lease is the right to load: granted here to one token, with the version that its value will bear. Whatever is
-- invalidated after that either ends the lease or has a higher number, so a late value is never kept, or never
-- believed. While a writer is open nobody gets a lease.
--
-- INCLUDE _entry
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
local token = ARGV[1]
local mode = ARGV[2]
local lease_ms = tonumber(ARGV[3])
local ahead = tonumber(ARGV[4])
local waiter = ARGV[5]
local unreadable = ARGV[6]
local horizon = tonumber(ARGV[7])

local CARE, HIT, REFRESH, LOAD, WAIT, BYPASS, FAILED, MISS = 0, 1, 2, 3, 4, 5, 6, 7

local stored = redis.call('GET', value)
local left = redis.call('PTTL', value)
local usable, stale = false, 0
if stored and (unreadable == '' or redis.sha1hex(stored) ~= unreadable) then
  usable, stale = judge(stored)
end
if not usable then
  stored = ''
end
if usable and mode ~= 'refresh' and (mode == 'look' or left < 0 or left > stale + ahead) then
  return {HIT, left, stored}
end
if mode == 'look' then
  return {MISS, left, ''}
end

if open_writers() > 0 then
  return {usable and mode == 'load' and HIT or BYPASS, left, stored}
end
local held = redis.call('HMGET', lease, 'o', 'e', 'h')
local owner, failure, hold = held[1], held[2], held[3]
if owner == token then
  return {usable and REFRESH or LOAD, left, stored}
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

local version = version_now(horizon)
if not version then
  return {CARE, 0, ''}
end
redis.call('HDEL', lease, 'e', 'h')
redis.call('HSET', lease, 'o', token, 'v', digits(version))
redis.call('PEXPIRE', lease, lease_ms)
return {usable and REFRESH or LOAD, left, stored}
