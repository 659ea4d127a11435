-- Sets or clears bits in the bitmap of one day, unless that day is not the one that was meant.
--
-- A refusal writes nothing. Clearing a bit creates no key.
--
-- KEYS[1] day         string  <ns>:act:{<name>}:d:<event>:<date>  bitmap, one bit per id
-- ARGV[1] value       0|1     what the bits become
-- ARGV[2] opens       ms      the day begins; 0 with `closes` 0: do not ask
-- ARGV[3] closes      ms      the day ends
-- ARGV[4] expires     ms      when the bitmap goes; 0 never
-- ARGV[5..] ids       id      whose bits
-- RETURN[1] status    0..2    0 written, 1 not this day now, 2 the day is no longer kept
-- RETURN[2] clock     ms      the server's time when it was asked for, otherwise 0
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local day = KEYS[1]
local value = ARGV[1]
local opens = tonumber(ARGV[2])
local closes = tonumber(ARGV[3])
local expires = tonumber(ARGV[4])
local ids = {unpack(ARGV, 5)}

local clock = 0
if closes > 0 or expires > 0 then
  local time = redis.call('TIME')
  clock = time[1] * 1000 + math.floor(time[2] / 1000)
  if closes > 0 and (clock < opens or clock >= closes) then
    return {1, clock}
  end
  if expires > 0 and expires <= clock then
    return {2, clock}
  end
end
if value == '1' or redis.call('EXISTS', day) == 1 then
  for _, id in ipairs(ids) do
    redis.call('SETBIT', day, id, value)
  end
  if expires > 0 then
    redis.call('PEXPIREAT', day, string.format('%.0f', expires))
  end
end
return {0, clock}
