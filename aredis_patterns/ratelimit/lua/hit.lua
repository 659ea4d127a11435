-- Decides requests under one limit, at one moment of the server's clock.
-- INCLUDE _common
--
-- A refusal writes nothing, unless the clock has gone far back (see `_common.lua`), and neither does a look. Commands:
-- TIME, and for each request one read and, when it is charged, one write; the log has its own count.
--
-- KEYS[1..] states         string|zset  <ns>:rl:<algorithm>:<name>:{<key>}  one per request; a key may come again
-- ARGV[1] algorithm        name    which part decides
-- ARGV[2] limit            units   what the limit allows at once
-- ARGV[3] a                number  of the algorithm, see its part
-- ARGV[4] b                number  of the algorithm, see its part
-- ARGV[5] charge           0|1|2   0 looks only; 1 each by itself; 2 in line: after a refusal the rest only look
-- ARGV[6..] costs          units   what each request needs
-- RETURN[1..] answers      integers  four for each request: allowed 0|1, or -1 when its key holds something else and
--    only this one failed (a single request gets the error); remaining units after it; retry_after us until the same
--    request fits (0 allowed, -1 never); reset_after us until nothing is counted any more
-- READ-ONLY no
-- REPLAY-SAFE no
--
local states = {unpack(KEYS, 1)}
local algorithm = algorithms[ARGV[1]]
local limit = tonumber(ARGV[2])
local a = tonumber(ARGV[3])
local b = tonumber(ARGV[4])
local charge = tonumber(ARGV[5])
local costs = {unpack(ARGV, 6)}

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local look, take = algorithm.look, algorithm.take

local answers = {}
for i = 1, #states do
  local key, cost = states[i], tonumber(costs[i])
  local able, allowed, remaining, retry_after, reset_after, mended, s1, s2, s3 =
    pcall(look, key, now, limit, a, b, cost)
  if not able then
    if #states == 1 then
      error(allowed)
    end
    allowed, remaining, retry_after, reset_after, mended = nil, 0, 0, 0, false
  end
  if charge > 0 and cost > 0 and (allowed or mended) then
    remaining, reset_after = take(key, now, limit, a, b, allowed and cost or 0, mended, s1, s2, s3)
  end
  if charge == 2 and not allowed then
    charge = 0
  end
  local n = 4 * i
  answers[n - 3] = able and (allowed and 1 or 0) or -1
  answers[n - 2], answers[n - 1], answers[n] = remaining, retry_after, reset_after
end
return {unpack(answers)}
