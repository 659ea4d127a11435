-- Fixed window. a: length of the window, b: 1 with the clock (UTC), 0 from the first hit. Value "<used>:<start>".
-- The window is part of the value, so decisions are exact to the microsecond, and a key that lost its TTL is over in
-- time all the same.
local fixed = {}

function fixed.look(key, now, limit, window, aligned, cost)
  local start, expired, mended = now, now - window, false
  if aligned == 1 then
    start = now - now % window
    expired = start - 1
  end
  local used, begun = string.match(redis.call('GET', key) or '', '^(%d+):(%d+)$')
  used, begun = tonumber(used or 0), tonumber(begun or 0)
  if used == 0 or begun <= expired then
    used = 0
  elseif begun > now + window then
    mended = true
  elseif aligned == 0 or begun > now then
    start = begun
  end
  local left = start + window - now
  local remaining = math.max(0, limit - used)
  local allowed = cost <= remaining
  local retry_after = allowed and 0 or cost > limit and -1 or left
  return allowed, remaining, retry_after, used > 0 and left or 0, mended, used, start
end

function fixed.take(key, now, limit, window, _, cost, _, used, start)
  local left = start + window - now
  used = math.max(0, used + cost)
  keep(key, string.format('%.0f:%.0f', used, start), left)
  return math.max(0, limit - used), used > 0 and left or 0
end

algorithms.fixed = fixed
