-- Replaces a value if it is what the caller believes, once per operation.
--
-- KEYS[1] key           string  <user's key>               compared byte by byte
-- KEYS[2] marker        string  <ns>:tx:{<tag>}:cas:<id>   1 when this operation has replaced
-- ARGV[1] must_exist    0|1     0: the key must be missing
-- ARGV[2] expected      bytes   what it must hold, when it must exist
-- ARGV[3] store         0|1     0: delete the key
-- ARGV[4] new           bytes   what it holds afterwards
-- ARGV[5] ttl           ms      life of the new value; 0: no expiry, -1: as before
-- ARGV[6] remember      ms      how long the marker lives
-- RETURN[1] replaced    0|1     whether the value was as expected
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local key = KEYS[1]
local marker = KEYS[2]
local must_exist = ARGV[1]
local expected = ARGV[2]
local store = ARGV[3]
local new = ARGV[4]
local ttl = tonumber(ARGV[5])
local remember = ARGV[6]

if redis.call('EXISTS', marker) == 1 then
  return {1}
end
local value = redis.call('GET', key)
if (must_exist == '1' and value ~= expected) or (must_exist == '0' and value) then
  return {0}
end
if store == '0' then
  redis.call('DEL', key)
elseif ttl > 0 then
  redis.call('SET', key, new, 'PX', string.format('%.0f', ttl))
elseif ttl < 0 then
  redis.call('SET', key, new, 'KEEPTTL')
else
  redis.call('SET', key, new)
end
redis.call('SET', marker, 1, 'PX', remember)
return {1}
