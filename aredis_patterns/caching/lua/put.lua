-- Stores a value that the caller has, whoever loads or writes meanwhile: their values are older and will not be kept.
--
-- KEYS[1] value           string  <ns>:cache:{<name>}:v:<key>
-- KEYS[2] lease           hash    <ns>:cache:{<name>}:l:<key>
-- KEYS[3] writers         hash    <ns>:cache:{<name>}:w:<key>
-- KEYS[4] epoch           string  <ns>:cache:{<name>}:epoch
-- KEYS[5] tags            zset    <ns>:cache:{<name>}:tags
-- ARGV[1] token           text    names this call
-- ARGV[2] entry           bytes   the stored line from its second word on, and the payload
-- ARGV[3] px              ms      life of the value; 0 endless
-- ARGV[4] only            text    NX when there is no value yet, XX when there is one, "" always
-- ARGV[5] keep_ttl        0|1     leave the remaining life of the old value as it is
-- ARGV[6] horizon         ms      how long versions must be kept; 0 for ever
-- RETURN[1] status        code    0 versions need care, 1 stored, 2 the condition does not hold
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local value = KEYS[1]
local lease = KEYS[2]
local writers = KEYS[3]
local epoch = KEYS[4]
local tags = KEYS[5]
local token = ARGV[1]
local entry = ARGV[2]
local px = tonumber(ARGV[3])
local only = ARGV[4]
local keep_ttl = tonumber(ARGV[5])
local horizon = tonumber(ARGV[6])

local current = tonumber(redis.call('GET', epoch) or nil)
local newest = redis.call('ZRANGE', tags, 0, 0, 'REV', 'WITHSCORES')
local life = redis.call('PTTL', epoch)
if not current or not newest[2] or (life >= 0 and (horizon == 0 or life < horizon / 2)) then
  return {0}
end

-- What was cleared is no longer there, although its bytes are.
local function counts(line)
  local version, names = string.match(line, '^#(%d+) %d+ %d+ %S+ %S+ ?([^\n]*)\n')
  if not version then
    return line ~= ''
  end
  if tonumber(version) < current then
    return false
  end
  for name in string.gmatch(names, '%S+') do
    if tonumber(version) < tonumber(redis.call('ZSCORE', tags, name) or 0) then
      return false
    end
  end
  return names == '' or tonumber(version) >= tonumber(redis.call('ZSCORE', tags, '!born') or math.huge)
end

local old = (only ~= '' or keep_ttl == 1) and redis.call('GET', value) or ''
if string.match(old, '^#%d+ %d+ %d+ (%S+) ') == token then
  return {1}
end
local present = counts(old)
if (only == 'NX' and present) or (only == 'XX' and not present) then
  return {2}
end

-- Wakes everybody who waits for the lease, and ends it. A server that forbids PUBLISH leaves them to their timers.
local function wake(message)
  for _, field in ipairs(redis.call('HKEYS', lease)) do
    local channel, id = string.match(field, '^w(.+) (%S+)$')
    if channel then
      redis.pcall('PUBLISH', channel, id .. '\n' .. message)
    end
  end
  redis.call('DEL', lease)
end

local stored = string.format('#%.0f ', math.max(current, tonumber(newest[2]))) .. entry
if keep_ttl == 1 and present then
  local times = string.match(old, '^#%d+ (%d+ %d+) ') or '0 0'
  redis.call('SET', value, string.gsub(stored, '^(#%d+) %d+ %d+', '%1 ' .. times), 'KEEPTTL')
elseif px > 0 then
  redis.call('SET', value, stored, 'PX', px)
else
  redis.call('SET', value, stored)
end
wake('r')
for _, writer in ipairs(redis.call('HKEYS', writers)) do
  redis.call('HSET', writers, writer, 'x')
end
return {1}
