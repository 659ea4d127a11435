-- Closes a write. Stores its value if the writer was alone and nothing was invalidated meanwhile; else leaves nothing.
--
-- KEYS[1] value           string  <ns>:cache:{<name>}:v:<key>
-- KEYS[2] lease           hash    <ns>:cache:{<name>}:l:<key>
-- KEYS[3] writers         hash    <ns>:cache:{<name>}:w:<key>
-- KEYS[4] epoch           string  <ns>:cache:{<name>}:epoch
-- KEYS[5] tags            zset    <ns>:cache:{<name>}:tags
-- ARGV[1] token           text    names this write
-- ARGV[2] entry           bytes   the stored line from its second word on, and the payload; "" stores nothing
-- ARGV[3] px              ms      life of the value; 0 endless
-- RETURN[1] kept          0|1     whether the value is stored
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

local state = redis.call('HGET', writers, token)
local line = redis.call('GETRANGE', value, 0, 255)
if not state and string.match(line, '^#%d+ %d+ %d+ (%S+) ') == token then
  return {1}
end
redis.call('HDEL', writers, token)
local current = redis.call('GET', epoch)
local newest = redis.call('ZRANGE', tags, 0, 0, 'REV', 'WITHSCORES')
if state ~= 'o' or entry == '' or not current or not newest[2] then
  redis.call('UNLINK', value)
  wake('r')
  return {0}
end
local version = math.max(tonumber(current), tonumber(newest[2]))
local stored = string.format('#%.0f ', version) .. entry
if px > 0 then
  redis.call('SET', value, stored, 'PX', px)
else
  redis.call('SET', value, stored)
end
return {1}
