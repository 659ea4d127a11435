-- Adds the visitors of some pages on one day to those of another page.
--
-- KEYS[1] day         string  <ns>:uv:{<name>}:d:<page>:<date>  HyperLogLog that is added to
-- KEYS[2..] others    string  <ns>:uv:{<name>}:...  first the sources, then unions that contain the day and are dropped
-- ARGV[1] sources     keys    how many of them are sources
-- ARGV[2] expires     ms      when the day goes
-- RETURN[1] count     people  on that day then, estimated; -1: the day is no longer kept
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local day = KEYS[1]
local others = {unpack(KEYS, 2)}
local sources = tonumber(ARGV[1])
local expires = tonumber(ARGV[2])

local time = redis.call('TIME')
if expires <= time[1] * 1000 then
  return {-1}
end
if redis.call('EXISTS', day, unpack(others, 1, sources)) == 0 then
  return {0}
end
redis.call('PFMERGE', day, unpack(others, 1, sources))
redis.call('PEXPIREAT', day, string.format('%.0f', expires))
for at = sources + 1, #others do
  local union = others[at]
  redis.call('UNLINK', union)
end
return {redis.call('PFCOUNT', day)}
