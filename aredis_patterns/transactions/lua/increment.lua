-- Adds to a counter once per operation: a second run answers what the first one did.
--
-- KEYS[1] counter   string  <user's key>                     an integer; missing is 0
-- KEYS[2] marker    string  <ns>:tx:{<tag>}:increment:<id>   the answer of this operation
-- ARGV[1] amount    units   an integer, also negative
-- ARGV[2] ttl       ms      life of the counter when this creates it; 0: no expiry, the key is the user's
-- ARGV[3] remember  ms      how long the marker lives
-- RETURN[1] value   units   the counter after this, as text
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local counter = KEYS[1]
local marker = KEYS[2]
local amount = ARGV[1]
local ttl = tonumber(ARGV[2])
local remember = ARGV[3]

local done = redis.call('GET', marker)
if done then
  return {done}
end
local created = ttl > 0 and redis.call('EXISTS', counter) == 0
redis.call('INCRBY', counter, amount)
if created then
  redis.call('PEXPIRE', counter, ttl)
end
local value = redis.call('GET', counter)
redis.call('SET', marker, value, 'PX', remember)
return {value}
