-- Stores what a loader has loaded, if its lease still holds, and hands it to all who wait.
--
-- A lease that has expired, was taken over or was ended by an invalidation refuses: what was loaded under it may be
-- old. So does one whose version is too low by now: the cache was cleared meanwhile, or one of the tags invalidated. The
-- token stays in the stored line, so a second run answers as the first one did.
--
-- KEYS[1] value           string  <ns>:cache:{<name>}:v:<key>
-- KEYS[2] lease           hash    <ns>:cache:{<name>}:l:<key>
-- KEYS[3] epoch           string  <ns>:cache:{<name>}:epoch
-- KEYS[4] tags            zset    <ns>:cache:{<name>}:tags
-- ARGV[1] token           text    who loaded
-- ARGV[2] entry           bytes   the stored line from its second word on, and the payload
-- ARGV[3] px              ms      life of the value; 0 endless
-- ARGV[4] most            bytes   a larger value is not sent to those who wait: they look again
-- RETURN[1] kept          0|1     whether the value is stored
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local value = KEYS[1]
local lease = KEYS[2]
local epoch = KEYS[3]
local tags = KEYS[4]
local token = ARGV[1]
local entry = ARGV[2]
local px = tonumber(ARGV[3])
local most = tonumber(ARGV[4])

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

local held = redis.call('HMGET', lease, 'o', 'v')
if held[1] ~= token then
  local line = redis.call('GETRANGE', value, 0, 255)
  return {string.match(line, '^#%d+ %d+ %d+ (%S+) ') == token and 1 or 0}
end
local stored = '#' .. held[2] .. ' ' .. entry
local version = tonumber(held[2])
local names = string.match(entry, '^%d+ %d+ %S+ %S+ ?([^\n]*)\n')
local current = version >= tonumber(redis.call('GET', epoch) or math.huge)
if names ~= '' then
  current = current and version >= tonumber(redis.call('ZSCORE', tags, '!born') or math.huge)
  for name in string.gmatch(names, '%S+') do
    current = current and version >= tonumber(redis.call('ZSCORE', tags, name) or 0)
  end
end
if not current then
  wake('r')
  return {0}
end
if px > 0 then
  redis.call('SET', value, stored, 'PX', px)
else
  redis.call('SET', value, stored)
end
wake(#stored <= most and 'v' .. stored or 'r')
return {1}
