-- KEYS[1] value           string  <ns>:cache:{<name>}:v:<key>  first line, then the payload
-- KEYS[2] lease           hash    <ns>:cache:{<name>}:l:<key>  o owner, v version, e error, h hold, w... waiters
-- KEYS[3] writers         hash    <ns>:cache:{<name>}:w:<key>  token -> o open | x beaten, its end, version
-- KEYS[4] epoch           string  <ns>:cache:{<name>}:epoch    number of the last clear()
-- KEYS[5] tags            zset    <ns>:cache:{<name>}:tags     tag -> number of its last invalidation

-- What the scripts of one entry share.
--
-- A stored value begins with a line `#<version> <px> <stale> <token> <flags>[ <tag>...]`, then come the bytes of the
-- caller's codec. It counts while no clear() and no invalidation of one of its tags has a higher number than its
-- version. A value without that line was written by somebody else, and counts until it expires.

local value = KEYS[1]
local lease = KEYS[2]
local writers = KEYS[3]
local epoch = KEYS[4]
local tags = KEYS[5]

local function digits(number)
  return string.format('%.0f', number)
end

-- The number of the last invalidation of any kind; nil when the versions are lost, or end before the horizon.
local function version_now(horizon)
  local cleared, newest = redis.call('GET', epoch), redis.call('ZRANGE', tags, 0, 0, 'REV', 'WITHSCORES')
  local life = redis.call('PTTL', epoch)
  if cleared and newest[2] and (life < 0 or (horizon > 0 and life >= horizon / 2)) then
    return math.max(tonumber(cleared), tonumber(newest[2]))
  end
  return nil
end

-- Whether what bears this version and these tags was not invalidated since. What is not known any more was.
local function counts(version, names)
  version = tonumber(version)
  if version < tonumber(redis.call('GET', epoch) or math.huge) then
    return false
  end
  if names == '' then
    return true
  end
  local wanted = {}
  for name in string.gmatch(names, '%S+') do
    wanted[#wanted + 1] = name
  end
  local numbers = redis.call('ZMSCORE', tags, '!born', unpack(wanted))
  for at = 1, #wanted do
    if version < tonumber(numbers[at + 1] or 0) then
      return false
    end
  end
  return version >= tonumber(numbers[1] or math.huge)
end

-- Whether the stored bytes count, and the part of their life in which they are expired but usable.
local function judge(stored)
  local version, stale, names = string.match(stored, '^#(%d+) %d+ (%d+) %S+ %S+ ?([^\n]*)\n')
  if version then
    return counts(version, names), tonumber(stale)
  end
  return true, 0
end

-- Whether the value was stored under this token: then this script ran before, and its reply was lost.
local function stored_by(token)
  return string.match(redis.call('GETRANGE', value, 0, 255), '^#%d+ %d+ %d+ (%S+) ') == token
end

local function store(version, entry, px)
  local stored = '#' .. digits(version) .. ' ' .. entry
  if px > 0 then
    redis.call('SET', value, stored, 'PX', px)
  else
    redis.call('SET', value, stored)
  end
  return stored
end

-- Ends the lease and wakes everybody who waits for it. A server that forbids PUBLISH leaves them to their timers.
local function wake(message)
  for _, field in ipairs(redis.call('HKEYS', lease)) do
    local channel, id = string.match(field, '^w(.+) (%S+)$')
    if channel then
      redis.pcall('PUBLISH', channel, id .. '\n' .. message)
    end
  end
  redis.call('DEL', lease)
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- How many writers are open. Each ends when its time is over, also where later ones keep the key alive.
local function open_writers()
  local all, count = redis.call('HGETALL', writers), 0
  if #all == 0 then
    return 0
  end
  local now = now_ms()
  for at = 1, #all, 2 do
    if tonumber(string.match(all[at + 1], '^%a(%d+)')) > now then
      count = count + 1
    else
      redis.call('HDEL', writers, all[at])
    end
  end
  return count
end

-- Adds a writer that ends after `px`; never ends one earlier that is there.
local function open_writer(token, state, px, version)
  local ends = now_ms() + px
  local old = redis.call('HGET', writers, token)
  if old then
    ends = math.max(ends, tonumber(string.match(old, '^%a(%d+)')))
  end
  redis.call('HSET', writers, token, state .. digits(ends) .. ' ' .. version)
  if redis.call('PTTL', writers) < px then
    redis.call('PEXPIRE', writers, px)
  end
end

-- No writer that is open now may store: its value may be older than what has just happened.
local function beat_writers()
  local all = redis.call('HGETALL', writers)
  for at = 1, #all, 2 do
    redis.call('HSET', writers, all[at], 'x' .. string.sub(all[at + 1], 2))
  end
end
