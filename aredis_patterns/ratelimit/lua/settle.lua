-- Replaces a reserved estimate by what was really used, once. See `reserve.lua` for the notes.
-- INCLUDE _common
--
-- KEYS[1] state            string|zset  <ns>:rl:<algorithm>:<name>:{<key>}
-- KEYS[2] notes            zset    <ns>:rl:<algorithm>:<name>:{<key>}:reserved
-- ARGV[1] algorithm        name    which part decides
-- ARGV[2] limit            units   what the limit allows at once
-- ARGV[3] a                number  of the algorithm, see its part
-- ARGV[4] b                number  of the algorithm, see its part
-- ARGV[5] actual           units   what was really used
-- ARGV[6] id               text    of the reservation
-- ARGV[7] charged          units   the estimate
-- ARGV[8] back             units   what comes back when the lease ends without a word
-- ARGV[9] lease            us      how long the answer to a second run is kept
-- RETURN[1] settled        0|1     0: too late, nothing is known of it any more and nothing was changed
-- RETURN[2] remaining      units   left now
-- RETURN[3] retry_after    us      0
-- RETURN[4] reset_after    us      until nothing is counted any more
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local state = KEYS[1]
local notes = KEYS[2]
local algorithm = algorithms[ARGV[1]]
local limit = tonumber(ARGV[2])
local a = tonumber(ARGV[3])
local b = tonumber(ARGV[4])
local actual = tonumber(ARGV[5])
local id = ARGV[6]
local charged = tonumber(ARGV[7])
local back = tonumber(ARGV[8])
local lease = tonumber(ARGV[9])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local _, remaining, _, reset_after, mended, s1, s2, s3 = algorithm.look(state, now, limit, a, b, 0)

local settled, units = 1, 0
if redis.call('ZSCORE', notes, id .. '=done') then
  settled = 1
elseif redis.call('ZREM', notes, id .. ':' .. digits(charged) .. ':' .. digits(back)) == 1 then
  units = actual - charged
elseif redis.call('ZREM', notes, id .. '=' .. digits(charged - back)) == 1 then
  units = actual - charged + back
else
  settled = 0
end
if units > 0 or (units < 0 and reset_after > 0) then
  remaining, reset_after = algorithm.take(state, now, limit, a, b, units, mended, s1, s2, s3)
end
if settled == 1 then
  redis.call('ZADD', notes, digits(now + lease), id .. '=done')
  redis.call('PEXPIRE', notes, digits(math.max(math.ceil(lease / 500), redis.call('PTTL', notes))))
end
return {settled, remaining, 0, reset_after}
