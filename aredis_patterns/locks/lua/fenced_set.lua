-- Writes a value if its fencing token is not older than the newest one seen.
--
-- KEYS[1] value        hash    <ns>:fenced:{<key>}   fields fence, data
-- ARGV[1] token        fence   of the writer
-- ARGV[2] data         bytes   what to write
-- ARGV[3] write        0|1     0 notes the token and leaves the value
-- ARGV[4] ttl          ms      life of the value; 0: no end, it is the user's data
-- RETURN[1] accepted   0|1     whether it was written
-- RETURN[2] newest     fence   the newest token seen, this one included
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local value = KEYS[1]
local token = ARGV[1]
local data = ARGV[2]
local write = ARGV[3]
local ttl = ARGV[4]

local newest = tonumber(redis.call('HGET', value, 'fence') or 0)
local accepted = 0
if tonumber(token) >= newest then
  accepted, newest = 1, tonumber(token)
  redis.call('HSET', value, 'fence', token)
  if write == '1' then
    redis.call('HSET', value, 'data', data)
  end
  if ttl ~= '0' then
    redis.call('PEXPIRE', value, ttl)
  end
end
return {accepted, newest}
