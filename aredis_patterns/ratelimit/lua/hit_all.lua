-- Decides requests under limits of their own, all or none: nothing is charged unless every one fits.
-- INCLUDE _common
-- INCLUDE _fixed_window
-- INCLUDE _sliding_log
-- INCLUDE _sliding_counter
-- INCLUDE _token_bucket
-- INCLUDE _backlog
--
-- KEYS[1..] states         string|zset  <ns>:rl:<algorithm>:<name>:{<key>}  one per request, each another
-- ARGV[1] charge           0|1     0 looks only
-- ARGV[2..] requests       mixed   five for each request: algorithm; limit in units; a and b of the algorithm, see its
--    part; cost in units
-- RETURN[1..] answers      integers  four for each request: allowed 0|1, taken alone; remaining units, with the charge
--    when all fit; retry_after us until it fits (0 it fits now, -1 never); reset_after us until nothing is counted
-- READ-ONLY no
-- REPLAY-SAFE no
--
local states = {unpack(KEYS, 1)}
local charge = tonumber(ARGV[1])
local requests = {unpack(ARGV, 2)}

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function request(i)
  local algorithm, limit, a, b, cost = unpack(requests, 5 * i - 4, 5 * i)
  return algorithms[algorithm], tonumber(limit), tonumber(a), tonumber(b), tonumber(cost)
end

local answers, found, fits = {}, {}, true
for i = 1, #states do
  local algorithm, limit, a, b, cost = request(i)
  local allowed, remaining, retry_after, reset_after, mended, s1, s2, s3 =
    algorithm.look(states[i], now, limit, a, b, cost)
  fits = fits and allowed
  found[i] = {mended, s1, s2, s3}
  local n = 4 * i
  answers[n - 3], answers[n - 2], answers[n - 1], answers[n] = allowed and 1 or 0, remaining, retry_after, reset_after
end
for i = 1, #states do
  local algorithm, limit, a, b, cost = request(i)
  local mended, s1, s2, s3 = unpack(found[i], 1, 4)
  if charge == 1 and cost > 0 and (fits or mended) then
    answers[4 * i - 2], answers[4 * i] =
      algorithm.take(states[i], now, limit, a, b, fits and cost or 0, mended, s1, s2, s3)
  end
end
return {unpack(answers)}
