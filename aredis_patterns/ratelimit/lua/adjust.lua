-- Charges units whether they fit or not, or gives units back; a key on which nothing is counted has nothing to give.
-- INCLUDE _common
--
-- KEYS[1] state            string|zset  <ns>:rl:<algorithm>:<name>:{<key>}
-- ARGV[1] algorithm        name    which part decides
-- ARGV[2] limit            units   what the limit allows at once
-- ARGV[3] a                number  of the algorithm, see its part
-- ARGV[4] b                number  of the algorithm, see its part
-- ARGV[5] units            units   above zero: charge; below: give back
-- RETURN[1] allowed        0|1     1
-- RETURN[2] remaining      units   left now
-- RETURN[3] retry_after    us      0
-- RETURN[4] reset_after    us      until nothing is counted any more
-- READ-ONLY no
-- REPLAY-SAFE no
--
local state = KEYS[1]
local algorithm = algorithms[ARGV[1]]
local limit = tonumber(ARGV[2])
local a = tonumber(ARGV[3])
local b = tonumber(ARGV[4])
local units = tonumber(ARGV[5])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local _, remaining, _, reset_after, mended, s1, s2, s3 = algorithm.look(state, now, limit, a, b, 0)
if units > 0 or reset_after > 0 then
  remaining, reset_after = algorithm.take(state, now, limit, a, b, units, mended, s1, s2, s3)
end
return {1, remaining, 0, reset_after}
