-- Opens a write to the source: removes the value, ends its lease, and lets nobody store until the write is over.
--
-- Two writers that overlap beat each other: neither knows whose write the source kept, so neither may store. A writer
-- that dies ends with its TTL.
--
-- KEYS[1] value           string  <ns>:cache:{<name>}:v:<key>
-- KEYS[2] lease           hash    <ns>:cache:{<name>}:l:<key>
-- KEYS[3] writers         hash    <ns>:cache:{<name>}:w:<key>
-- ARGV[1] token           text    names this write
-- ARGV[2] px              ms      how long it may take
-- RETURN[1] alone         0|1     whether no other writer is open
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local value = KEYS[1]
local lease = KEYS[2]
local writers = KEYS[3]
local token = ARGV[1]
local px = tonumber(ARGV[2])

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

redis.call('UNLINK', value)
wake('r')
redis.call('HSETNX', writers, token, 'o')
local open = redis.call('HKEYS', writers)
if #open > 1 then
  for _, writer in ipairs(open) do
    redis.call('HSET', writers, writer, 'x')
  end
end
if redis.call('PTTL', writers) < px then
  redis.call('PEXPIRE', writers, px)
end
return {redis.call('HGET', writers, token) == 'o' and 1 or 0}
