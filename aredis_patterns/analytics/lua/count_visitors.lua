-- Estimates how many different visitors came in the days up to today; days that are over are merged once.
--
-- The union of the closed days lives until today ends, so each further question merges two structures, not one per day.
--
-- KEYS[1] union       string  <ns>:uv:{<name>}:u:<page>:<last day>:<days>  HyperLogLog of the closed days
-- KEYS[2] today       string  <ns>:uv:{<name>}:d:<page>:<date>  HyperLogLog
-- KEYS[3..] closed    string  <ns>:uv:{<name>}:d:<page>:<date>  HyperLogLog
-- ARGV[1] opens       ms      today begins
-- ARGV[2] closes      ms      today ends
-- RETURN[1] status    0|1     1: it is another day
-- RETURN[2] count     people  estimated; with status 1 the server's time in ms
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local union = KEYS[1]
local today = KEYS[2]
local closed = {unpack(KEYS, 3)}
local opens = tonumber(ARGV[1])
local closes = tonumber(ARGV[2])

local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
if clock < opens or clock >= closes then
  return {1, clock}
end
if #closed == 0 then
  return {0, redis.call('PFCOUNT', today)}
end
-- Asking creates nothing where there is nothing to merge.
if redis.call('EXISTS', union) == 0 and redis.call('EXISTS', unpack(closed)) > 0 then
  redis.call('PFMERGE', union, unpack(closed))
  redis.call('PEXPIREAT', union, string.format('%.0f', closes))
end
return {0, redis.call('PFCOUNT', union, today)}
