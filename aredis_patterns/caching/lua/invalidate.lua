-- Removes a value and ends its lease: whatever is being loaded now will not be kept, and no open writer will store.
--
-- KEYS[1] value           string  <ns>:cache:{<name>}:v:<key>
-- KEYS[2] lease           hash    <ns>:cache:{<name>}:l:<key>
-- KEYS[3] writers         hash    <ns>:cache:{<name>}:w:<key>
-- ARGV[1] hold            ms      load for so long without storing (a replica of the source may lag); 0 none
-- RETURN[1] removed       0|1     whether there was a value
-- READ-ONLY no
-- REPLAY-SAFE no
--
local value = KEYS[1]
local lease = KEYS[2]
local writers = KEYS[3]
local hold = tonumber(ARGV[1])

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

local removed = redis.call('UNLINK', value)
wake('r')
for _, writer in ipairs(redis.call('HKEYS', writers)) do
  redis.call('HSET', writers, writer, 'x')
end
if hold > 0 then
  redis.call('HSET', writers, '!hold', 'x')
  if redis.call('PTTL', writers) < hold then
    redis.call('PEXPIRE', writers, hold)
  end
end
return {removed}
