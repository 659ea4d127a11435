-- Counts units in one window and refuses what would go over the limit.
--
-- The window is part of the value, so decisions are exact to the microsecond, a key that lost its TTL is over in time
-- all the same, and another period applies at once. A window that begins after now means that the clock went back:
-- its units stay counted until it ends. If it begins more than a window ahead, it begins again now, even when the
-- request is refused: nothing is given away and nobody waits for the clock. No other refusal writes.
--
-- KEYS[1] counter          string  <ns>:rl:fixed:<name>:{<key>}  "<units used>:<start of the window in us>"
-- ARGV[1] limit            units   most units in one window
-- ARGV[2] window           us      length of a window
-- ARGV[3] cost             units   what this request needs
-- ARGV[4] charge           0|1     0 looks only
-- ARGV[5] aligned          0|1     0: a window begins with its first hit, 1: with the clock (UTC)
-- RETURN[1] allowed        0|1     whether the cost fits
-- RETURN[2] remaining      units   left after this request
-- RETURN[3] retry_after    us      until the same request fits; 0 allowed, -1 never
-- RETURN[4] reset_after    us      until nothing is counted any more
-- READ-ONLY no
-- REPLAY-SAFE no
--
local counter = KEYS[1]
local limit = tonumber(ARGV[1])
local window = tonumber(ARGV[2])
local cost = tonumber(ARGV[3])
local charge = tonumber(ARGV[4])
local aligned = tonumber(ARGV[5])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local start = now
local expired = now - window
if aligned == 1 then
  start = now - now % window
  expired = start - 1
end

local used, mended = 0, false
local stored_used, stored_start = string.match(redis.call('GET', counter) or '', '^(%d+):(%d+)$')
stored_used, stored_start = tonumber(stored_used), tonumber(stored_start)
if stored_start and stored_start > now + window then
  used, mended = stored_used, true
elseif stored_start and stored_start > expired then
  used = stored_used
  if aligned == 0 or stored_start > now then
    start = stored_start
  end
end

local left = start + window - now
local remaining = math.max(0, limit - used)
local allowed, retry_after = 1, 0
if cost > remaining then
  allowed, retry_after = 0, cost > limit and -1 or left
end
if charge == 1 and allowed == 1 then
  used, remaining = used + cost, remaining - cost
end
if charge == 1 and (allowed == 1 or mended) then
  local ttl = string.format('%.0f', math.ceil(left / 1000))
  redis.call('SET', counter, string.format('%.0f:%.0f', used, start), 'PX', ttl)
end
return {allowed, remaining, retry_after, used > 0 and left or 0}
