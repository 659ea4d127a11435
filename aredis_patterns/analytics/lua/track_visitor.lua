-- Adds visitors to the HyperLogLog of one day, unless that day is not the one that was meant.
--
-- A visitor who comes late, for a day that is over, makes the unions that contain that day wrong: they are dropped, and
-- merged again when somebody asks.
--
-- KEYS[1] day         string  <ns>:uv:{<name>}:d:<page>:<date>  HyperLogLog
-- KEYS[2..] unions    string  <ns>:uv:{<name>}:u:<page>:<last day>:<days>  HyperLogLog of closed days
-- ARGV[1] opens       ms      the day begins; 0 with `closes` 0: do not ask
-- ARGV[2] closes      ms      the day ends
-- ARGV[3] expires     ms      when the day goes
-- ARGV[4..] visitors  bytes   who came
-- RETURN[1] status    0..2    0 written, 1 not this day now, 2 the day is no longer kept
-- RETURN[2] clock     ms      the server's time
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local day = KEYS[1]
local unions = {unpack(KEYS, 2)}
local opens = tonumber(ARGV[1])
local closes = tonumber(ARGV[2])
local expires = tonumber(ARGV[3])
local visitors = {unpack(ARGV, 4)}

local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
if closes > 0 and (clock < opens or clock >= closes) then
  return {1, clock}
end
if expires <= clock then
  return {2, clock}
end
redis.call('PFADD', day, unpack(visitors))
redis.call('PEXPIREAT', day, string.format('%.0f', expires))
for _, union in ipairs(unions) do
  redis.call('UNLINK', union)
end
return {0, clock}
