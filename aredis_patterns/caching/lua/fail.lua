-- Ends a lease without a value: those who wait get the error, or look again.
--
-- While an old value is still usable, the next attempt may be held back (throttle), so that a source in trouble is not
-- asked by every reader. Without a value the error itself may be kept for a moment (error_ttl).
--
-- INCLUDE _entry
-- ARGV[1] token           text    who tried to load
-- ARGV[2] failure         text    what those who wait are told; "" tells them to look again
-- ARGV[3] throttle        ms      no attempt for so long while there is an old value; 0 none
-- ARGV[4] error_ttl       ms      keep the error for so long where there is no value; 0 not at all
-- RETURN[1] ended         0|1     whether the lease was still held
-- READ-ONLY no
-- REPLAY-SAFE no
--
local token = ARGV[1]
local failure = ARGV[2]
local throttle = tonumber(ARGV[3])
local error_ttl = tonumber(ARGV[4])

if redis.call('HGET', lease, 'o') ~= token then
  return {0}
end
wake(failure == '' and 'r' or 'e' .. failure)
if failure ~= '' then
  local stored = redis.call('GET', value)
  if stored and judge(stored) then
    if throttle > 0 then
      redis.call('HSET', lease, 'h', 1)
      redis.call('PEXPIRE', lease, throttle)
    end
  elseif error_ttl > 0 then
    redis.call('HSET', lease, 'e', failure)
    redis.call('PEXPIRE', lease, error_ttl)
  end
end
return {1}
